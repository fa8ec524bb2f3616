"""Rows, tokens, operations and bytes of the stages of a round, by formulas.

They are in docs/planning.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from mpd.config import Config
from mpd.config.branches import Branch
from mpd.job.flops import pass_flops
from mpd.job.sources import SHARDED
from mpd.plan.disk import cache_bytes, student_bytes
from mpd.plan.lengths import Lengths
from mpd.plan.shapes import Model

STAGES = SHARDED[1:]  # those of a round
LONGEST = 3  # completion of a batch, of the mean: as the token limit is to it
Amount = dict[str, Any]  # by the names of fields of Work


@dataclass(frozen=True)
class World:
    """What the work follows from: the configuration, both models, lengths and problems."""

    config: Config
    student: Model
    teacher: Model
    lengths: Lengths
    num_train: int
    evaluation: Mapping[str, int]

    @property
    def weight_bytes(self) -> int:
        """Bytes of a weight in generation and scoring."""
        return 2 if self.config.models.dtype == "bfloat16" else 4

    def scorer(self, name: str) -> Model:
        """The model that scores, by the axis `scorer` of a method."""
        return self.teacher if name == "teacher" else self.student


def jobs_of(config: Config, stage: str) -> int:
    """Jobs of a stage in one round of one method and seed, as rules/ divides its work.

    One of a stage of shards takes resources.shards_per_job of them, and one answers all benchmarks.
    """
    shards = config.problems.num_shards // config.resources.shards_per_job
    return shards if stage in STAGES else 1


def round_amounts(world: World, branch: Branch, number: int) -> dict[str, Amount]:
    """Rows, tokens, operations, moved bytes and disk of the stages of a round that trains."""
    config, lengths = world.config, world.lengths
    prompt, sample = lengths.prompt, lengths.sample(branch, number)
    rewrite, length = lengths.rewrite(branch, number), lengths.trained(branch, number)
    is_given = branch.sample.given_trajectories(number) is not None
    problems = round(world.num_train * config.problems.train.share_of(number))
    samples = max(problems, 1) * branch.sample.num_samples
    sampler = world.teacher if branch.method.sampler == "teacher" else world.student
    is_rewritten = branch.method.rewriter != "none"
    candidates = samples * (branch.compress.num_samples if is_rewritten else 1)
    kept = samples * lengths.kept(branch, number)
    amounts = {
        "sample": generated(world, "sample", sampler, samples, prompt, sample),
        "compress": generated(
            world, "compress", world.teacher, candidates, prompt + sample, rewrite
        ),
        "filter": {"rows": candidates, "disk": 45.0 * candidates},
        "logits": _scored(world, branch, kept, sample, length),
        "distill": _distilled(world, branch, kept, length),
    }
    if is_given:
        amounts["sample"] |= {"tokens": 0, "flops": 0, "moved": 0, "layers": 0}
    per_token = 3.0 if config.sample.engine == "transformers" else 6.0  # with log-probabilities
    amounts["sample"]["disk"] = samples * (20 + per_token * sample)
    amounts["compress"]["disk"] = candidates * (10 + 1.5 * (rewrite or sample))
    return amounts


def generated(
    world: World, section: str, model: Model, rows: float, prompt: float, length: float
) -> Amount:
    """Generation: a pass over each prompt and completion, and what decoding reads.

    `layers` are those that decoding goes through one after another, a batch at a time; the longest
    completion of a batch has LONGEST times the mean.
    """
    if not length:
        return {"rows": rows}
    resources = getattr(world.config.resources, section)
    tables = world.config.problems.num_shards if section in STAGES else 1
    side_by_side = max(min(resources.batch_size, rows / tables), 1)
    batches = tables * ceil(rows / tables / side_by_side)
    weights = model.parameters * world.weight_bytes / side_by_side
    seen = (prompt + length / 2) * model.key_value_width * world.weight_bytes
    return {
        "rows": rows,
        "tokens": rows * length,
        "flops": rows * pass_flops(model.shape, [round(prompt + length)], round(length)),
        "moved": rows * length * (weights + seen),
        "layers": batches * LONGEST * length * len(model.shape.windows),
    }


def _scored(world: World, branch: Branch, kept: float, sample: float, length: float) -> Amount:
    """Scoring: a pass of the teacher, and of the student, over prompt and completion."""
    method, prompt = branch.method, world.lengths.prompt
    scorer = world.scorer(method.scorer)
    # An original is as long as its translation, and a solution is assumed to be as long.
    others = {"rewriting": sample, "solution": 2.0 * prompt}.get(method.context, 0.0)
    seen = prompt + length + others
    positions = round(length)
    flops = pass_flops(scorer.shape, [round(seen)], positions)
    if branch.logits.engine == "transformers":
        flops += pass_flops(world.student.shape, [round(prompt + length)], positions)
    disk = kept * (100 + length * cache_bytes(branch.logits, scorer, world.weight_bytes))
    return {"rows": kept, "tokens": kept * length, "flops": kept * flops, "disk": disk}


def _distilled(world: World, branch: Branch, kept: float, length: float) -> Amount:
    """Training: a forward pass and two of its operations back, one where weights are frozen."""
    distill = branch.distill
    rows = kept * distill.epochs
    if distill.budget == "steps":
        rows = (distill.amount or 0) * distill.batch_size
    elif distill.budget == "tokens":
        rows = (distill.amount or 0) / max(length, 1)
    passes: float = 2 if distill.lora else 3
    if branch.method.divergence == "relaxed_policy_gradient":
        passes += 1 - distill.relaxed.exploration  # steps whose tokens entropies choose
    flops = pass_flops(world.student.shape, [round(world.lengths.prompt + length)], round(length))
    return {
        "rows": rows,
        "tokens": rows * length,
        "flops": passes * rows * flops,
        "disk": student_bytes(world.student) + 120 * rows / distill.batch_size,
    }


def banked(world: World) -> Amount:
    """A bank of paths with the routes of all training problems, whose questions are embedded."""
    return {"rows": world.num_train, "disk": 30.0 * world.num_train, "tables": 2}


def answer_amounts(world: World, settings: Any, method: str, number: int) -> Amount:
    """Rows, tokens, operations, moved bytes and disk of the answers of one student."""
    total: Amount = {}
    for name, decoding in settings.benchmarks.items():
        rows = world.evaluation[name] * decoding.num_samples
        length = world.lengths.answer(method, number, decoding.max_new_tokens)
        prompt = world.lengths.prompt
        amount = generated(world, "evaluate", world.student, rows, prompt, length)
        amount["disk"] = rows * (20 + 0.7 * length)
        total = {key: total.get(key, 0) + value for key, value in amount.items()}
    return total
