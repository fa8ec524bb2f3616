"""Why would a stage rerun, and would anything be computed? Or why is it up to date?

    python -m mpd.why                                    the whole workflow
    python -m mpd.why results/tiny/.../shard_0.parquet   one file, and what it is made from
    python -m mpd.why --config rounds=3                  with the arguments of a snakemake run

Snakemake says what it would visit. The notes beside the outputs say of what settings, version
and inputs they were made; the stages themselves say what they would be made of now (`--mode
explain`), and whether the store has that. Nothing is run, written or linked.
"""

import importlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from mpd.config.keys import key_of
from mpd.job import command
from mpd.store.differences import differences, note_of, other_content
from mpd.store.entries import PROVENANCE
from mpd.store.publishing import Explained
from mpd.why.planned import Job, folder_of, planned

FAIL = "would stop with an error"
COMPUTE = "would be computed"
WAIT = "known only after others have run"
LINK = "would only be linked: the store has it"
REFRESH = "would be computed anew and compared, since store is refresh"
FRESH = "up to date"
STYLES = {FAIL: "bold red", COMPUTE: "bold yellow", WAIT: "bold", LINK: "bold green"}
MAX_PLACES = 3  # of jobs of one kind that are named
OF_BENCHMARKS = ("answers", "evaluate")  # rules of which a job has an artifact for each benchmark


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


def findings(jobs: Sequence[Job]) -> list[Finding]:
    """One for each job; `jobs` come inputs first.

    Where the store has what a visited job would make, what follows is asked about that. Behind a
    job that has to compute, nobody knows before it has run.
    """
    stored: dict[str, str] = {}  # outputs that would be linked anew, and the stored files
    pending: dict[str, str] = {}  # outputs that would be computed, and by which job first
    found = []
    for job in jobs:
        after = next((pending[path] for path in job.inputs if path in pending), "")
        if after or not _can_be_asked(job):
            verdict = FRESH if not job.visited else WAIT if after else COMPUTE
            causes = list(_told_otherwise(job))
        else:
            verdict, causes, made = _asked(job, stored)
            stored |= made
        if verdict in (FAIL, COMPUTE, WAIT):
            pending |= dict.fromkeys(job.outputs, after or job.name)
        if verdict == FRESH and causes:
            causes.append("Snakemake does not see this; run with --forcerun and the file")
        if not job.visited and not all(Path(path).exists() for path in job.outputs):
            causes.append("its output is missing, but nothing that is asked for needs it now")
        found.append(Finding(job, verdict, (*job.reasons, *dict.fromkeys(causes)), after))
    return found


def _can_be_asked(job: Job) -> bool:
    """Whether the stage can say what it would make, and soon.

    The report is several artifacts, of which its stage would name the first alone. To say
    what a model is, its files are hashed: only where it would be resolved. Inputs that nobody
    needs may be missing.
    """
    if job.rule == "report":
        return False
    inputs_are_there = all(Path(path).exists() for path in job.inputs)
    return job.visited or (job.rule != "models" and inputs_are_there)


def _asked(job: Job, stored: Mapping[str, str]) -> tuple[str, list[str], dict[str, str]]:
    """Verdict, causes and stored outputs of a job whose inputs are known, by asking its stage."""
    made: dict[str, str] = {}
    causes: list[str] = []
    refresh = job.command[job.command.index("--mode") + 1] == "refresh"
    stored_again = REFRESH if refresh else LINK
    verdict = stored_again if job.visited else FRESH
    for words in _command_lines(job, stored):
        try:
            importlib.import_module(f"mpd.{job.stage}").main([*words, "--mode", "explain"])
        except Explained as told:
            note, meaning = note_of(told.output), told.meaning
            settings = meaning["settings"]
            name_of = partial(_name_of, job, told.output, settings)
            causes += differences(note, settings, meaning["version"], name_of)
            causes += other_content(note, meaning["inputs"])
            if job.visited and not told.is_there:
                verdict = COMPUTE
            if told.entry.is_dir():
                made |= {path: str(told.entry / Path(path).name) for path in job.outputs}
            else:
                made[str(told.output)] = str(told.entry)
        except ValueError as error:
            return FAIL, [str(error)], {}
    return verdict, causes, made if verdict == stored_again else {}


def _command_lines(job: Job, stored: Mapping[str, str]) -> Iterator[list[str]]:
    """The command line of a job, reading what is stored; one for each benchmark it publishes."""

    def read(word: str) -> str:
        name, sign, path = word.rpartition("=")
        return f"{name}{sign}{stored[path]}" if path in stored else word

    words = [read(word) for word in job.command]
    if job.rule not in OF_BENCHMARKS:
        yield words
        return
    start = words.index("--benchmarks") + 1
    stop = next(place for place in range(start, len(words)) if words[place].startswith("--"))
    for benchmark in words[start:stop]:
        yield [*words[:start], benchmark, *words[stop:]]


def _told_otherwise(job: Job) -> Iterator[str]:
    """How settings and version differ from those in the notes, of a job that cannot be asked."""
    settings = json.loads(job.settings)
    for output in map(Path, job.outputs):
        own = settings
        if job.rule in OF_BENCHMARKS:
            own = settings["benchmarks"][output.stem] | settings
        in_folder = (output.parent / PROVENANCE).is_file()
        note = note_of(output.parent if in_folder else output)
        if note:
            # A stage may leave out what changes no result, or split it over several artifacts.
            shared = {key: own[key] for key in own if key in note["settings"]}
            before = {**note, "settings": {key: note["settings"][key] for key in shared}}
            version = note["version"] if job.rule == "report" else job.version
            yield from differences(before, shared, version, partial(_name_of, job, output, own))


def _name_of(job: Job, output: Path, settings: Mapping[str, Any], path: str) -> str:
    """The key of config.yaml behind a setting of a job, and what of a list it is."""
    role = job.wildcards.get("role", "").partition("_")[0]
    benchmark = job.wildcards.get("benchmark", output.stem if job.rule in OF_BENCHMARKS else "")
    return key_of(job.rule, settings, path, role, benchmark)


def print_findings(console: Console, found: Sequence[Finding], targets: Sequence[str]) -> None:
    """Print what was asked for by name, then all that would be visited, by verdict."""
    for finding in found:
        for target in sorted(set(finding.job.outputs) & set(targets)):
            after = f" ({finding.after})" if finding.after else ""
            console.print(Text(f"{target}: ").append(_styled(finding.verdict)).append(after))
            for cause in finding.causes:
                console.print(f"  {cause}")
            if finding.verdict == FRESH and not finding.causes:
                console.print("  settings, version and content of its inputs are as in its note")
    rest = [finding for finding in found if not set(finding.job.outputs) & set(targets)]
    for verdict in (FAIL, COMPUTE, REFRESH, WAIT, LINK):
        section = [finding for finding in rest if finding.verdict == verdict]
        if section:
            firsts = dict.fromkeys(finding.after for finding in section if finding.after)
            heading = f": {_some(list(firsts))}" if firsts else ""
            console.print(Text.assemble(_styled(verdict), heading))
            _print_section(console, section)
    fresh = [finding for finding in rest if finding.verdict == FRESH]
    if fresh:
        count = f"{len(fresh)} job{'' if len(fresh) == 1 else 's'}"
        console.print(Text.assemble(_styled(FRESH), f": {count}"))
        _print_section(console, [finding for finding in fresh if finding.causes])


def _print_section(console: Console, section: Sequence[Finding]) -> None:
    """Jobs with causes of their own, equal ones together; then the number of those that follow."""
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    following: Counter[str] = Counter()
    for finding in section:
        stage, _, place = finding.job.name.partition(" ")
        if finding.causes:
            groups.setdefault((stage, finding.causes), []).append(place)
        else:
            following[stage] += 1
    for (stage, causes), places in groups.items():
        job = f"  {stage} {_some(places)}".rstrip()
        if len(causes) == 1:
            console.print(f"{job}: {causes[0]}")
            continue
        console.print(job)
        for cause in causes:
            console.print(f"    {cause}")
    if following:
        counts = [stage if n == 1 else f"{stage} ({n})" for stage, n in following.items()]
        console.print(f"  what follows: {', '.join(counts)}")


def _styled(verdict: str) -> Text:
    return Text(verdict, style=STYLES.get(verdict, "bold green"))


def _some(places: Sequence[str]) -> str:
    more = len(places) - MAX_PLACES
    return ", ".join([*places[:MAX_PLACES], *([f"{more} more"] if more > 0 else [])])


def main(argv: list[str] | None = None) -> None:
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(words):
        print(__doc__.strip())
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    jobs = planned(words)
    with chdir(folder_of(words)):
        print_findings(console, findings(jobs), words)


if __name__ == "__main__":
    command.view(main, "why")
