"""Conflicts between keys of a configuration whose sections are each valid by themselves."""

from collections.abc import Iterator

from mpd.config.branches import Branch
from mpd.config.config import Config
from mpd.config.methods import REWARDED, WITHOUT_SCORES


def conflicts(config: Config) -> Iterator[str]:
    """One sentence for each conflict, which says what to set."""
    yield from _engine_conflicts(config)
    per_job, num_shards = config.resources.shards_per_job, config.problems.num_shards
    if per_job not in (1, 10):
        yield f"resources.shards_per_job is {per_job}; set it to 1 or 10"
    elif num_shards % per_job:
        yield (
            f"problems.num_shards is {num_shards}, no multiple of resources.shards_per_job "
            f"({per_job}): change one of them"
        )
    if config.sample.trajectories and config.problems.train.curriculum:
        yield (
            "sample.trajectories replaces the samples of round 1, whose problems "
            "problems.train.curriculum chooses; remove one of the two"
        )
    if not config.trained_methods:
        yield "methods: none of these trains a student; add mpd"
    for branch in config.branches.values():
        yield from _trajectory_conflicts(branch)
        if branch.method.sampler == "base" and branch.sample.trajectories and config.rounds > 1:
            yield (
                f"sample.trajectories replaces the samples of round 1 alone, but in {branch.name} "
                "trajectories serve every round; set rounds: 1, or remove one of the two"
            )
        if branch.method.sampler == "base" and config.problems.train.curriculum:
            yield (
                f"in {branch.name} the base student's trajectories serve every round, but "
                "problems.train.curriculum gives each round its own problems; remove one of the two"
            )
        yield from _bank_conflicts(config, branch)
        yield from _scoring_conflicts(config, branch)
        sentence = loss_conflict(
            branch.method.divergence,
            branch.distill.temperature,
            branch.distill.tail,
            branch.logits.cache,
            branch.distill.merge_stop_ids,
        )
        if sentence:
            yield sentence


def loss_conflict(
    divergence: str, temperature: float, tail: str, cache: str, merge_stop_ids: bool
) -> str | None:
    """Why a cache of this kind cannot give this loss, in a sentence; None where it can."""
    if divergence in (*REWARDED, *WITHOUT_SCORES):
        if temperature != 1 or tail != "bucket":
            return (
                f"distill.temperature, distill.tail: divergence: {divergence} has neither "
                "temperature nor tail; remove them"
            )
        if divergence in WITHOUT_SCORES:
            return None
        if cache != "realised":
            return (
                f"logits.cache is {cache}, but rewards of divergence: {divergence} are made from "
                "the teacher's exact log-probability of each completion id; set it to realised, or "
                "remove it"
            )
        if merge_stop_ids:
            return (
                f"distill.merge_stop_ids: divergence: {divergence} takes completion ids as they "
                "are; set it to false, for this method alone by a custom row"
            )
        return None
    if cache == "realised":
        kinds = "hidden" if divergence == "clamped_forward_kl" else "sparse or hidden"
        return (
            f"logits.cache: realised has no distribution for divergence: {divergence}; set {kinds}"
        )
    if cache == "hidden" and tail != "bucket":
        return "distill.tail: with logits.cache: hidden there is no tail; set bucket"
    if cache == "sparse" and divergence == "clamped_forward_kl":
        return (
            "divergence: clamped_forward_kl clamps each id of the vocabulary, and a sparse cache "
            "has sums of them; set logits.cache: hidden, or remove it"
        )
    if cache == "sparse" and temperature != 1:
        return (
            f"distill.temperature is {temperature}, but the tail of a sparse cache is only known "
            "at temperature 1; set it to 1, or logits.cache: hidden"
        )
    return None


def _engine_conflicts(config: Config) -> Iterator[str]:
    """Engines whose resources are missing, or are not what they take."""
    for stage in ("sample", "compress", "logits", "evaluate"):
        engine, resources = getattr(config, stage).engine, getattr(config.resources, stage)
        if engine == "server" and not resources.server:
            yield f"{stage}.engine is server: set resources.{stage}.server to its base URL"
        replicas = resources.tensor_parallel_size * resources.data_parallel_size
        if engine == "vllm" and resources.gpu not in (0, replicas):
            yield (
                f"resources.{stage}.gpu is {resources.gpu}, but tensor_parallel_size times "
                f"data_parallel_size is {replicas}; make them equal"
            )
    distill = config.resources.distill
    if distill.gpu not in (0, distill.num_processes):
        yield (
            f"resources.distill.gpu is {distill.gpu}, but num_processes is "
            f"{distill.num_processes}, and each process takes one GPU; make them equal"
        )


def _trajectory_conflicts(branch: Branch) -> Iterator[str]:
    """Trajectories that are given for a method in which no student samples, or needs to have."""
    if branch.sample.trajectories and branch.method.sampler == "teacher":
        yield (
            f"sample.trajectories replaces a student's samples, but in {branch.name} the teacher "
            "samples; remove one of the two"
        )
    if branch.method.divergence != "relaxed_policy_gradient":
        return
    if not branch.distill.relaxed.importance_ratio:
        return
    method = branch.method
    if branch.sample.trajectories or method.sampler == "teacher" or method.rewriter != "none":
        yield (
            "distill.relaxed.importance_ratio needs trajectories that the student itself samples "
            f"and that nobody rewrites, which {branch.name} does not train on; set it to false"
        )


def _bank_conflicts(config: Config, branch: Branch) -> Iterator[str]:
    """A bank of paths without what embeds texts, or whose prompts a scorer would have to see."""
    if branch.bank is None:
        return
    if config.models.embedder is None:
        yield (
            f"compress.bank: {branch.name} needs a model that embeds questions and intents; set "
            "models.embedder, or bank: null"
        )
    if branch.method.context == "rewriting":
        yield (
            f"compress.bank: in {branch.name} the scorer sees the rewriting prompt, which differs "
            "by route; set context: problem, or bank: null"
        )
    if branch.method.sampler == "base":
        yield (
            f"compress.bank: in {branch.name} the base student's trajectories serve every round, "
            "but a bank gives each round other prompts; set sampler: student, or bank: null"
        )


def _scoring_conflicts(config: Config, branch: Branch) -> Iterator[str]:
    """Caches that the scorer or its engine cannot make, and prompts without their columns."""
    if branch.method.scorer == "student" and branch.logits.cache == "hidden":
        is_clamped = branch.method.divergence == "clamped_forward_kl"
        change = "set scorer: base" if is_clamped else "set cache: sparse"
        yield (
            f"logits.cache: hidden holds states of the teacher, but in {branch.name} the student "
            f"scores; {change}, or remove the method"
        )
    if branch.method.context == "solution":
        for key in ("original", "solution"):
            if f"{{{key}}}" in config.chat.solution and key not in config.problems.train.references:
                yield (
                    f"in {branch.name} the scorer sees chat.solution, which contains {{{key}}}: "
                    f"set problems.train.{key} to the column that has it"
                )
    if branch.logits.engine == "vllm" and branch.distill.merge_stop_ids:
        yield (
            "distill.merge_stop_ids needs every stop id in the cache, which logits.engine: vllm "
            "does not give; change one of the two"
        )
