"""What Snakemake would visit, and why, in words.

Snakemake is asked through its own interface, like a dry run, with the arguments of a run.
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
    from snakemake.exceptions import CliException, RuleException, WorkflowError

    try:
        with _graph(_parsed(arguments)) as graph:
            levels = [sorted(level, key=str) for level in graph.toposorted()]
            return [_job(graph, job) for level in levels for job in level if job.rule.name != "all"]
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename}: no such file") from None
    except (CliException, RuleException, WorkflowError) as error:
        sentence = " ".join(line.strip() for line in str(error).splitlines())
        raise ValueError(sentence) from None


def folder_of(arguments: Sequence[str]) -> Path:
    """Where the paths of the jobs begin: the folder that `arguments` name, or this one."""
    return Path(_parsed(arguments).directory or ".")


@contextmanager
def _graph(arguments: Any) -> Iterator[Any]:
    """Snakemake's graph of jobs after a dry run, as long as its interface is open.

    Its interface prints what a run would visit, but gives neither the jobs that it would not visit
    nor its reasons as data: both are read from the graph itself.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_config
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        ExecutionSettings,
        OutputSettings,
        ResourceSettings,
    )

    output = OutputSettings(quiet={Quietness.ALL}, enable_file_logging=False)
    with _silence(), SnakemakeApi(output) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1, resources=arguments.resources),
            config_settings=ConfigSettings(
                config=parse_config(arguments.config),
                configfiles=arguments.configfile,
                config_args=arguments.config,
            ),
            snakefile=arguments.snakefile,
            workdir=arguments.directory,
        )
        settings = DAGSettings(
            targets=arguments.targets,
            until=arguments.until,
            omit_from=arguments.omit_from,
            forcetargets=arguments.force,
            forceall=arguments.forceall,
            forcerun=arguments.forcerun,
            force_incomplete=arguments.rerun_incomplete,
            rerun_triggers=arguments.rerun_triggers,
            max_checksum_file_size=arguments.max_checksum_file_size,
        )
        without_lock = ExecutionSettings(lock=False)  # a run may be under way
        workflow.dag(settings).execute_workflow("dryrun", execution_settings=without_lock)
        yield workflow._workflow.dag


def _parsed(arguments: Sequence[str]) -> Any:
    """The arguments as snakemake parses them, with its profile.

    Raises ValueError with snakemake's words where it does not take them.
    """
    from snakemake.cli import parse_args

    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            return parse_args(["--cores", "1", *arguments])[1]
    except SystemExit:
        mistake = printed.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise ValueError(f"{mistake}; the arguments are those of snakemake") from None


@contextmanager
def _silence() -> Iterator[None]:
    """No log messages: Snakemake logs what it plans, whatever its settings are."""
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
    """Both from `python -m mpd.<stage> ARGUMENTS 2>&1 | tee -i LOG`, the command of every rule."""
    words = shlex.split(shell_command)
    _, _, module, *arguments = words[: words.index("2>&1")]
    return module.removeprefix("mpd."), tuple(arguments)


def _reasons(graph: Any, job: Any) -> list[str]:
    """Snakemake's reasons in plain words, except changed parameters, which the notes have."""
    reason = graph.reason(job)
    reasons = []
    if reason.forced:
        reasons.append("it is forced, by --forcerun, --force or --forceall")
    missing = set(map(str, reason.missing_output))
    if missing == set(map(str, job.output)):
        reasons.append("its output is missing")
    elif missing:
        reasons.append(f"missing: {named(missing)}")
    if reason.incomplete_output:
        reasons.append(
            f"left incomplete by a run that was stopped: {named(reason.incomplete_output)}"
        )
    updated = set(map(str, reason.updated_input)) - set(map(str, reason.updated_input_run))
    if updated and not missing:
        reasons.append(f"newer than what was made from it: {named(updated)}")
    if reason.input_changed:
        reasons += _other_inputs(graph.workflow.persistence, job)
    if reason.code_changed:
        reasons.append("the command in its rule is another one")
    if reason.software_stack_changed:
        reasons.append("its environment definition in envs/ is another one")
    return reasons


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
