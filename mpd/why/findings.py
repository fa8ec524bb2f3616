"""What would become of each job of the workflow: verdicts, and what causes them."""

import importlib
import json
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mpd.config.keys import key_of
from mpd.job.inputs import require_sound_inputs
from mpd.job.layout import BENCHMARK_STAGES
from mpd.store.differences import Note, differences, note_beside, other_content
from mpd.store.outputs import Output, take_each
from mpd.store.publishing import Store
from mpd.why.planned import Job

FAIL = "would stop with an error"
COMPUTE = "would be computed"
WAIT = "known only after others have run"
LINK = "would only be linked: the store has it"
REFRESH = "would be computed again and compared, since store is refresh"
FRESH = "up to date"


@dataclass(frozen=True)
class Finding:
    """What would become of a job.

    `causes` are its own, apart from what it follows; `after` is the job that has to run before
    more is known, where the verdict is WAIT.
    """

    job: Job
    verdict: str
    causes: tuple[str, ...]
    after: str = ""


@dataclass
class Comparison:
    """The outputs that a job would make, compared with their notes and with the store.

    `stored` maps the paths of outputs to the stored files that would be linked to them.
    """

    causes: list[str] = field(default_factory=list)
    stored: dict[str, str] = field(default_factory=dict)
    is_stored: bool = True

    def take(self, job: Job, store: Store, output: Output) -> Path | None:
        """Compare one output; returns where it can be read, if it is stored."""
        note, damage = _note(output.path)
        self.causes += damage
        name_of = partial(_name_of, job, output)
        self.causes += differences(note, output.settings, output.version, name_of)
        self.causes += other_content(note, output.inputs)
        entry = store.find(output)
        if entry is None:
            self.is_stored = False
        elif entry.is_dir():
            self.stored |= {path: str(entry / Path(path).name) for path in job.outputs}
        else:
            self.stored[str(output.path)] = str(entry)
        return entry


def findings(jobs: Sequence[Job]) -> list[Finding]:
    """One for each job; `jobs` come inputs first.

    Where the store has what a visited job would make, the jobs that follow are asked about the
    stored files. What follows a job that has to compute is not known before it has run.
    """
    stored: dict[str, str] = {}  # outputs that would be linked again, and the stored files
    pending: dict[str, str] = {}  # outputs that would be computed, and by which job first
    result = []
    for job in jobs:
        after = next((pending[path] for path in job.inputs if path in pending), "")
        if after or not _can_be_asked(job, stored):
            verdict = FRESH if not job.visited else WAIT if after else COMPUTE
            causes = list(_differences_of_settings(job))
        else:
            verdict, causes, linked = _ask(job, stored)
            stored |= linked
        if verdict in (FAIL, COMPUTE, WAIT):
            pending |= dict.fromkeys(job.outputs, after or job.name)
        if verdict == FRESH and causes:
            causes.append("Snakemake does not see this; run with --forcerun and the file")
        if not job.visited and not all(Path(path).exists() for path in job.outputs):
            causes.append("its output is missing, but nothing that is asked for needs it now")
        result.append(Finding(job, verdict, (*job.reasons, *dict.fromkeys(causes)), after))
    return result


def _can_be_asked(job: Job, stored: Mapping[str, str]) -> bool:
    """Whether the stage can list its outputs, and quickly.

    The report names the versions of packages, which its job may have others of, and looks for the
    files of rounds in their folders, not in the store. `models` hashes the files of a
    model, so it is asked only where it would be visited. Inputs that no job needs may be missing.
    """
    if job.rule == "report":
        return False
    inputs_are_there = all(path in stored or Path(path).exists() for path in job.inputs)
    return job.visited or (job.rule != "models" and inputs_are_there)


def _ask(job: Job, stored: Mapping[str, str]) -> tuple[str, list[str], dict[str, str]]:
    """Verdict, causes and stored outputs of a job whose inputs are known, by asking its stage."""
    stage: Any = importlib.import_module(f"mpd.{job.stage}")
    comparison = Comparison()
    try:
        arguments: Namespace = stage.command_line().parse_args(
            [_read_instead(word, stored) for word in job.command]
        )
        store = Store(arguments.store)
        require_sound_inputs(store, arguments)
        take_each(stage.outputs(arguments), partial(comparison.take, job, store))
    except ValueError as error:
        return FAIL, [str(error)], {}
    if not job.visited:
        return FRESH, comparison.causes, {}
    if not comparison.is_stored:
        return COMPUTE, comparison.causes, {}
    verdict = REFRESH if arguments.mode == "refresh" else LINK
    return verdict, comparison.causes, comparison.stored


def _read_instead(word: str, stored: Mapping[str, str]) -> str:
    """A word of a command line, path or name=path, with the stored file in place of an output."""
    name, sign, path = word.rpartition("=")
    return f"{name}{sign}{stored[path]}" if path in stored else word


def _differences_of_settings(job: Job) -> Iterator[str]:
    """How settings and version differ from those in the notes, of a job that cannot be asked."""
    job_settings = json.loads(job.settings)
    for path in map(Path, job.outputs):
        note, damage = _note(path)
        yield from damage
        if not note:
            continue
        settings = job_settings
        if job.rule in BENCHMARK_STAGES:
            settings = job_settings["benchmarks"][path.stem] | job_settings
        # A stage may leave out what changes no result, or split it over several artifacts.
        shared = {key: settings[key] for key in settings if key in note["settings"]}
        before = {**note, "settings": {key: note["settings"][key] for key in shared}}
        version = note["version"] if job.rule == "report" else job.version
        yield from differences(before, shared, version, partial(_name, job, path, settings))


def _note(output: Path) -> tuple[Note, list[str]]:
    """The note beside an output, and a sentence where it is damaged."""
    try:
        return note_beside(output), []
    except ValueError as error:
        return {}, [str(error)]


def _name_of(job: Job, output: Output, setting: str) -> str:
    return _name(job, output.path, output.settings, setting)


def _name(job: Job, path: Path, settings: Mapping[str, Any], setting: str) -> str:
    """The key in config.yaml that a setting of a job comes from."""
    role = job.wildcards.get("role", "").partition("_")[0]
    benchmark = job.wildcards.get("benchmark", path.stem if job.rule in BENCHMARK_STAGES else "")
    return key_of(job.rule, settings, setting, role, benchmark)
