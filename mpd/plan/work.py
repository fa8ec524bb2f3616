"""The work of a run: jobs, rows, tokens and operations of each stage of each branch and round.

The store computes what is equal once, so a job counts as linked where another one has the same
settings and inputs. Formulas are in docs/planning.md.
"""

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from mpd.config.base import BASE, StageSettings
from mpd.config.stages import stage_settings
from mpd.job.flops import pass_flops
from mpd.plan.amounts import (
    STAGES,
    Amount,
    World,
    answer_amounts,
    banked,
    jobs_of,
    round_amounts,
)
from mpd.plan.shapes import Model

EMBEDDER_BYTES = 9.2e7  # of all-MiniLM-L6-v2; others are not looked up


@dataclass(frozen=True)
class Work:
    """What a stage does in one round of one branch, all of its jobs together.

    `moved` are the bytes of weights, keys and values that decoding reads, `layers` those that it
    goes through one after another; `disk` and `files` are what stays in results/.
    """

    stage: str
    round: int
    method: str
    jobs: int
    linked: int = 0
    rows: float = 0
    tokens: float = 0
    flops: float = 0
    moved: float = 0
    layers: float = 0
    disk: float = 0
    tables: int = 0
    folders: int = 0


def works(world: World) -> list[Work]:
    """All work of a run."""
    return list(_works(world))


def _works(world: World) -> Iterator[Work]:
    config, keys = world.config, Keys()
    yield from _models(world)
    students: dict[tuple[str, int], int] = {}
    for seed in config.seeds:
        role = f"student_seed_{seed}"
        settings = meaning_of(stage_settings(config, "models", role=role))
        for method in config.untrained_methods:
            students[method, seed] = keys.of("models", settings)
            yield from _evaluated(world, keys, students[method, seed], (method, seed, 0))
    for method in config.trained_methods:
        for seed in config.seeds:
            base = student = students[BASE, seed]
            for number in range(1, config.rounds + 1):
                place = (method, seed, number)
                student = yield from _trained(world, keys, (base, student), place)
                yield from _evaluated(world, keys, student, place)
    yield Work("report", config.rounds, "", 1, rows=1, disk=4e5, tables=7)


class Keys:
    """Numbers of artifacts: equal ones are those with the same settings and inputs."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[Any, ...], int] = {}
        self.is_new = False

    def of(self, *parts: Any) -> int:
        """The number of an artifact; `is_new` tells whether it is the first with these parts."""
        self.is_new = parts not in self.numbers
        return self.numbers.setdefault(parts, len(self.numbers))


def _models(world: World) -> Iterator[Work]:
    config = world.config
    benchmarks = len(config.problems.benchmarks)
    problems = world.num_train + sum(world.evaluation.values())
    tables = config.problems.num_shards + benchmarks + 2
    yield Work(
        "problems", 0, "", 1 + benchmarks, rows=problems, disk=40.0 * problems, tables=tables
    )
    for model, jobs in ((world.teacher, 1), (world.student, len(config.seeds))):
        steps = model.num_steps * 1024  # tokens_per_step of mpd/tiny/sizes.py
        flops = 3 * pass_flops(model.shape, [100], 100) * steps // 100 * jobs
        each = model.parameters * (4 if model.num_steps else 2)
        copies = _copies(model, jobs)
        linked = jobs - copies
        disk = copies * (each + 3e4)
        amount: Amount = {"tokens": steps * jobs, "flops": flops, "disk": disk, "folders": copies}
        yield Work("models", 0, "", jobs, linked, **amount)
    if any(config.branches[name].bank for name in config.trained_methods):
        yield Work("models", 0, "", 1, disk=EMBEDDER_BYTES, folders=1)
    yield from _heads(world)


def _copies(model: Model, jobs: int) -> int:
    """Models of as many jobs: students of all seeds are one, unless each is pretrained."""
    return jobs if model.num_steps else 1


def _heads(world: World) -> Iterator[Work]:
    """The output heads of the models that score where the cache holds hidden states."""
    branches = [branch for branch in world.config.branches.values() if branch.method.trained]
    scorers = {branch.method.scorer for branch in branches if branch.logits.cache == "hidden"}
    for scorer, jobs in (("teacher", 1), ("base", len(world.config.seeds))):
        if scorer in scorers:
            model = world.scorer(scorer)
            copies = _copies(model, jobs)
            disk = model.shape.vocab_size * model.shape.hidden_size * world.weight_bytes * copies
            amount: Amount = {"rows": copies, "disk": disk, "tables": copies}
            yield Work("head", 0, "", jobs, jobs - copies, **amount)


def _trained(
    world: World, keys: Keys, students: tuple[int, int], place: tuple[str, int, int]
) -> Generator[Work, None, int]:
    """The work of a round, and as the value of the generator the number of its student.

    `students` are the base student and that of the round before.
    """
    method, seed, number = place
    branch = world.config.branches[method]
    base, before = students
    student = base if branch.method.sampler == "base" else before
    wildcards: dict[str, Any] = {"method": method, "seed": seed, "round": number}

    def settings(rule: str) -> str:
        return meaning_of(stage_settings(world.config, rule, **wildcards))

    is_given = branch.sample.given_trajectories(number) is not None
    sampler = -1 if branch.method.sampler == "teacher" or is_given else student
    made: dict[str, bool] = {}
    previous: tuple[int, ...] = ()
    scorer = {"teacher": -1, "base": base, "student": before}[branch.method.scorer]
    inputs = {"sample": (sampler,), "logits": (student, scorer)}
    if branch.bank and number > 1:
        inputs["compress"] = (keys.of("bank", settings("bank"), before),)
        linked = 0 if keys.is_new else 1
        amount: Amount = {} if linked else banked(world)
        yield Work("bank", number, method, 1, linked, **amount)
    for stage in STAGES:
        previous = (*previous, keys.of(stage, settings(stage), *inputs.get(stage, ()), *previous))
        made[stage] = keys.is_new
    amounts = round_amounts(world, branch, number)
    for stage in STAGES:
        jobs, amount = jobs_of(world.config, stage), amounts[stage] if made[stage] else {}
        linked = 0 if made[stage] else jobs
        tables = world.config.problems.num_shards if made[stage] else 0
        yield Work(stage, number, method, jobs, linked, tables=tables, **amount)
    trained = keys.of("distill", settings("distill"), before, previous[-1])
    amount = {**amounts["distill"], "folders": 1} if keys.is_new else {}
    yield Work("distill", number, method, 1, 0 if keys.is_new else 1, **amount)
    return trained


def _evaluated(
    world: World, keys: Keys, student: int, place: tuple[str, int, int]
) -> Iterator[Work]:
    """The answers of a student to all evaluation sets, and their grades."""
    method, seed, number = place
    wildcards: dict[str, Any] = {"method": method, "seed": seed, "round": number}
    settings = stage_settings(world.config, "answers", **wildcards)
    keys.of("answers", meaning_of(settings), student)
    answering, grading = (jobs_of(world.config, stage) for stage in ("answers", "evaluate"))
    if not keys.is_new:
        yield Work("answers", number, method, answering, answering)
        yield Work("evaluate", number, method, grading, grading)
        return
    amount = answer_amounts(world, settings, method, number)
    sets = len(world.evaluation)
    rows = amount["rows"]
    yield Work("answers", number, method, answering, tables=sets, **amount)
    disk = 30.0 * rows
    yield Work("evaluate", number, method, grading, rows=rows, disk=disk, tables=sets)


def meaning_of(settings: StageSettings) -> str:
    """The settings of a job that decide its result, so that equal work is seen to be equal."""
    return json.dumps(settings.meaning(), sort_keys=True)
