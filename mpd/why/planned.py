"""What Snakemake would visit, and why, in words: for `python -m mpd.why`.

Snakemake is asked by its own interface, as a dry run asks it, with the arguments of a run.
"""

import io
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_NAMED = 3  # files or folders that a sentence names


@dataclass(frozen=True)
class Job:
    """One job of the workflow. `reasons` are Snakemake's; empty where it does not visit the job.

    `name` is the rule's message, such as filter mpd/seed_0/round_1/shard_0; `command` the stage's
    command line without `python -m mpd.<stage>`, and `stage` that stage.
    """

    name: str
    rule: str
    wildcards: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: str
    version: Any
    stage: str
    command: tuple[str, ...]
    visited: bool
    reasons: tuple[str, ...]


def planned(arguments: Sequence[str]) -> list[Job]:
    """The jobs behind the targets in `arguments`, which are those of snakemake; inputs first.

    Raises ValueError with Snakemake's words where it cannot plan, as for a bad configuration.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_args, parse_config
    from snakemake.exceptions import CliException, RuleException, WorkflowError
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        ExecutionSettings,
        OutputSettings,
        ResourceSettings,
    )

    try:
        given = _parsed(parse_args, arguments)
        output = OutputSettings(quiet={Quietness.ALL}, enable_file_logging=False)
        with _silence(), SnakemakeApi(output) as api:
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=1, resources=given.resources),
                config_settings=ConfigSettings(
                    config=parse_config(given.config),
                    configfiles=given.configfile,
                    config_args=given.config,
                ),
                snakefile=given.snakefile,
                workdir=given.directory,
            )
            settings = DAGSettings(
                targets=given.targets,
                until=given.until,
                omit_from=given.omit_from,
                forcetargets=given.force,
                forceall=given.forceall,
                forcerun=given.forcerun,
                force_incomplete=given.rerun_incomplete,
                rerun_triggers=given.rerun_triggers,
                max_checksum_file_size=given.max_checksum_file_size,
            )
            without_lock = ExecutionSettings(lock=False)  # a run may be under way
            workflow.dag(settings).execute_workflow("dryrun", execution_settings=without_lock)
            graph = workflow._workflow.dag
            levels = [sorted(level, key=str) for level in graph.toposorted()]
            return [_job(graph, job) for level in levels for job in level if job.rule.name != "all"]
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename}: no such file") from None
    except (CliException, RuleException, WorkflowError) as error:
        sentence = " ".join(line.strip() for line in str(error).splitlines())
        raise ValueError(sentence) from None


def folder_of(arguments: Sequence[str]) -> Path:
    """Where the paths of the jobs begin: the folder that `arguments` name, or this one."""
    from snakemake.cli import parse_args

    return Path(_parsed(parse_args, arguments).directory or ".")


def _parsed(parse_args: Any, arguments: Sequence[str]) -> Any:
    """The arguments as snakemake takes them, its profile read; what is wrong with them is said."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return parse_args(["--cores", "1", *arguments])[1]
    except SystemExit:
        mistake = said.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise ValueError(f"{mistake}; the arguments are those of snakemake") from None


@contextmanager
def _silence() -> Iterator[None]:
    """Snakemake logs what it plans, whatever its settings say, to whoever has set up logging."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _job(graph: Any, job: Any) -> Job:
    stage, arguments = _stage_and_arguments(job.shellcmd)
    visited = bool(graph.needrun(job))
    return Job(
        name=job.message,
        rule=job.rule.name,
        wildcards=dict(job.wildcards.items()),
        inputs=tuple(map(str, job.input)),
        outputs=tuple(map(str, job.output)),
        settings=job.params.settings,
        version=job.params.version,
        stage=stage,
        command=arguments,
        visited=visited,
        reasons=tuple(_reasons(graph, job)) if visited else (),
    )


def _stage_and_arguments(shell_command: str) -> tuple[str, tuple[str, ...]]:
    """Of `python -m mpd.<stage> ARGUMENTS 2>&1 | tee LOG`, which every rule runs one of."""
    words = shlex.split(shell_command)
    _, _, module, *arguments = words[: words.index("2>&1")]
    return module.removeprefix("mpd."), tuple(arguments)


def _reasons(graph: Any, job: Any) -> list[str]:
    """Snakemake's reasons in plain words, but for changed parameters: the notes say more."""
    reason = graph.reason(job)
    said = []
    if reason.forced:
        said.append("it is forced, by --forcerun, --force or --forceall")
    missing = set(map(str, reason.missing_output))
    if missing == set(map(str, job.output)):
        said.append("its output is missing")
    elif missing:
        said.append(f"missing: {named(missing)}")
    if reason.incomplete_output:
        said.append(f"left incomplete by a run that was stopped: {named(reason.incomplete_output)}")
    updated = set(map(str, reason.updated_input)) - set(map(str, reason.updated_input_run))
    if updated and not missing:
        said.append(f"newer than what was made from it: {named(updated)}")
    if reason.input_changed:
        said += _other_inputs(graph.workflow.persistence, job)
    if reason.code_changed:
        said.append("the command in its rule is another one")
    if reason.software_stack_changed:
        said.append("its environment definition in envs/ is another one")
    return said


def _other_inputs(persistence: Any, job: Any) -> list[str]:
    before = {path for output in job.output for path in persistence.input(output) or ()}
    now = set(map(str, job.input))
    changes = {"reads now": now - before, "no longer reads": before - now}
    return [f"{verb} {named(files)}" for verb, files in changes.items() if files]


def named(files: Any) -> str:
    """Some files in a sentence: few by their paths, many by their number and common folder."""
    paths = sorted(map(str, files))
    if len(paths) <= MAX_NAMED:
        return ", ".join(paths)
    folders = [Path(path).parent.parts for path in paths]
    shared = [parts[0] for parts in zip(*folders, strict=False) if len(set(parts)) == 1]
    return f"{len(paths)} files below {Path(*shared)}"
