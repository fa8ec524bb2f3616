"""The plan of a run: its work in stages and rounds, with hours, memory, disk and files."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from mpd.config import Config
from mpd.job.layout import BENCHMARK_STAGES
from mpd.plan.amounts import World, jobs_of
from mpd.plan.cards import Card
from mpd.plan.counts import evaluation_problems, num_train
from mpd.plan.disk import BYTES_OF_FILE, num_files
from mpd.plan.lengths import Lengths, Rounds
from mpd.plan.memory import peaks, refusals
from mpd.plan.shapes import model_of
from mpd.plan.times import SECTIONS, gpus_of, seconds_of
from mpd.plan.work import Work, works


@dataclass(frozen=True)
class Given:
    """What the command line says beside the configuration."""

    card: Card
    gpus: int = 1
    cores: int = 2
    student_parameters: float | None = None
    teacher_parameters: float | None = None
    train_problems: int | None = None


@dataclass(frozen=True)
class Row:
    """A stage in a round, over all methods and seeds.

    `seconds` are those of all jobs in turn, and `slots` how many can run at once.
    """

    stage: str
    round: int
    jobs: int
    linked: int
    tokens: float
    flops: float
    gpus: int  # of each job
    slots: int
    seconds: float
    wall_seconds: float
    memory: float
    disk: float
    files: int

    @property
    def gpu_hours(self) -> float:
        """Hours of GPUs that its jobs reserve."""
        return self.seconds * self.gpus / 3600


@dataclass(frozen=True)
class Plan:
    """The rows of a plan, what does not fit, what to consider, and what was assumed."""

    experiment: str
    card: Card
    gpus: int
    rows: list[Row]
    refusals: list[str]
    hints: list[str]
    assumptions: list[str]

    def total(self, name: str) -> Any:
        """The sum of a column."""
        return sum(getattr(row, name) for row in self.rows)

    @property
    def wall_seconds(self) -> float:
        """Seconds by the clock: answers and grades of a student run beside later rounds.

        Not less than devices or processors need for all of it.
        """
        trained, ends = 0.0, [0.0]
        for number in sorted({row.round for row in self.rows}):
            of_round = [row for row in self.rows if row.round == number and row.stage != "report"]
            beside = sum(row.wall_seconds for row in of_round if row.stage in BENCHMARK_STAGES)
            trained += sum(row.wall_seconds for row in of_round) - beside
            ends.append(trained + beside)
        for is_gpu in (True, False):
            rows = [row for row in self.rows if bool(row.gpus) == is_gpu]
            ends.append(sum(row.seconds / row.slots for row in rows))
        report = sum(row.wall_seconds for row in self.rows if row.stage == "report")
        return max(ends) + report

    @property
    def trained_tokens(self) -> float:
        """Tokens that training sees, each as often as it does."""
        return sum(row.tokens for row in self.rows if row.stage == "distill")

    @property
    def slowest(self) -> Row:
        """The stage and round that takes the longest."""
        return max(self.rows, key=lambda row: row.wall_seconds)


def world_of(config: Config, given: Given, measured: Rounds | None = None) -> World:
    """What the work of a run follows from. Raises ValueError where a size is nowhere to be had."""
    student = model_of(config.models.student, "student", given.student_parameters)
    teacher = model_of(config.models.teacher, "teacher", given.teacher_parameters)
    evaluation = {name: count for name, (count, _) in evaluation_problems(config).items()}
    problems = num_train(config, given.train_problems)
    return World(config, student, teacher, Lengths(config, measured), problems, evaluation)


def plan_of(world: World, given: Given, rates: Mapping[str, float] | None = None) -> Plan:
    """The plan of a run on a number of cards; `rates` are measured operations a second by stage."""
    card, rates = given.card, rates or {}
    memory = {peak.section: peak.taken for peak in peaks(world, card)}
    groups: dict[tuple[int, str], list[Work]] = {}
    for work in works(world):
        groups.setdefault((work.round, work.stage), []).append(work)
    rows = [_row(world, given, group, rates, memory) for group in groups.values()]
    rows.sort(key=lambda row: row.round)
    config = world.config
    return Plan(
        config.experiment,
        card,
        given.gpus,
        rows,
        [*refusals(world, card), *_too_many_gpus(world, given)],
        _hints(world, given),
        _assumptions(world, rates),
    )


def _row(
    world: World,
    given: Given,
    group: list[Work],
    rates: Mapping[str, float],
    memory: Mapping[str, float],
) -> Row:
    stage, gpus = group[0].stage, gpus_of(world, group[0].stage)
    jobs, linked = sum(work.jobs for work in group), sum(work.linked for work in group)
    seconds = sum(seconds_of(world, work, given.card, rates) for work in group)
    slots = max(given.gpus // gpus if gpus else given.cores // _threads(world, stage), 1)
    tables, folders = sum(work.tables for work in group), sum(work.folders for work in group)
    files = num_files(jobs, tables, folders)
    computed = max(jobs - linked, 1)
    # The last jobs of one branch leave devices idle; those of several fill each other's gaps.
    at_once = min(computed, slots) if len(group) > 1 else computed / ceil(computed / slots)
    return Row(
        stage=stage,
        round=group[0].round,
        jobs=jobs,
        linked=linked,
        tokens=sum(work.tokens for work in group),
        flops=sum(work.flops for work in group),
        gpus=gpus,
        slots=slots,
        seconds=seconds,
        wall_seconds=seconds / at_once,
        memory=memory.get(SECTIONS.get(stage, ""), 0.0)
        if sum(work.flops for work in group)
        else 0.0,
        disk=sum(work.disk for work in group) + BYTES_OF_FILE * files,
        files=files,
    )


def _threads(world: World, stage: str) -> int:
    section = {"answers": "evaluate", "evaluate": "grading", "head": "models"}.get(stage, stage)
    return getattr(getattr(world.config.resources, section, None), "threads", 1)


def _too_many_gpus(world: World, given: Given) -> list[str]:
    """Sentences for sections whose jobs ask for more GPUs than there are."""
    return [
        f"{section} asks for {number} GPUs a job, and there are {given.gpus}: change "
        f"resources.{section}.gpu"
        for section in ("sample", "compress", "logits", "distill", "evaluate")
        if (number := getattr(world.config.resources, section).gpu) > given.gpus
    ]


def _hints(world: World, given: Given) -> list[str]:
    """What to set so that all GPUs work."""
    config, hints = world.config, []
    used = gpus_of(world, "sample")
    branches = len(config.trained_methods) * len(config.seeds)
    jobs = jobs_of(config, "sample")
    if used and jobs * branches * used < given.gpus:
        wanted = -(-given.gpus // (used * branches)) * config.resources.shards_per_job
        hints.append(
            f"problems.num_shards: {wanted} keeps {given.gpus} GPUs at work in sample, compress "
            f"and logits; {jobs * branches * used} are used now"
        )
    distill = config.resources.distill
    if distill.gpu and branches * distill.gpu < given.gpus:
        number = given.gpus // branches
        hints.append(
            f"resources.distill: {{gpu: {number}, num_processes: {number}}} trains on {number} "
            f"GPUs; {branches * distill.gpu} are used now"
        )
    answering = config.resources.evaluate.gpu * len(config.seeds)
    if config.evaluate.engine == "vllm" and answering and answering < given.gpus:
        number = given.gpus // len(config.seeds)
        hints.append(
            f"resources.evaluate: {{gpu: {number}, data_parallel_size: {number}}} answers by "
            f"{number} replicas of a student; {answering} GPUs are used now"
        )
    return hints


def _assumptions(world: World, rates: Mapping[str, float]) -> list[str]:
    """What the figures rest on, beside the formulas of docs/planning.md."""
    lengths, lines = world.lengths, []
    for role, model in (("student", world.student), ("teacher", world.teacher)):
        billions = model.parameters / 1e9
        lines.append(f"{role}: {billions:.3g} billion parameters, by {model.origin}")
    if lengths.measured:
        places = ", ".join(
            f"{method} round {number}" for method, number in sorted(lengths.measured)
        )
        lines.append(f"lengths and shares kept: measured in {places}; the rest as below")
    lines.append(
        "a completion has a third of max_new_tokens; .75 of samples are kept where correct ones "
        "are; a trained student's completions are as long as those it was trained on; prompts have "
        f"{lengths.prompt} tokens"
    )
    assumed = [
        name for name, (_, is_known) in evaluation_problems(world.config).items() if is_known
    ]
    if assumed:
        numbers = ", ".join(f"{name} {world.evaluation[name]}" for name in assumed)
        lines.append(f"problems of benchmarks that are not here: {numbers}")
    if rates:
        lines.append(f"rates: measured on this machine for {', '.join(sorted(rates))}")
    return lines
