"""What does not fit together in a configuration whose every section is right by itself.

Each check gives a sentence for each mistake that it finds.
"""

from collections.abc import Iterator

from mpd.config.branches import Branch
from mpd.config.config import Config


def conflicts(config: Config) -> Iterator[str]:
    """One sentence for each mistake, naming what to set."""
    yield from _engines(config)
    if not config.trained_methods:
        yield "methods: none of these trains a student; add mpd"
    for branch in config.branches.values():
        yield from _given_trajectories(branch)
        yield from _scoring(branch)
        sentence = inexact(
            branch.method.divergence,
            branch.distill.temperature,
            branch.distill.tail,
            branch.logits.cache,
        )
        if sentence:
            yield sentence


def inexact(divergence: str, temperature: float, tail: str, cache: str) -> str | None:
    """Why a cache, sparse or hidden, cannot give the loss of these settings; None where it can."""
    if divergence == "cross_entropy" and (temperature != 1 or tail != "bucket"):
        return (
            "distill.temperature, distill.tail: divergence: cross_entropy has neither temperature "
            "nor tail; leave them out"
        )
    if cache == "hidden" and tail != "bucket":
        return "distill.tail: with logits.cache: hidden there is no tail; set bucket"
    if cache == "sparse" and temperature != 1:
        return (
            f"distill.temperature is {temperature}, but the tail of a sparse cache has no "
            "temperature but 1; set it to 1, or logits.cache: hidden"
        )
    return None


def _engines(config: Config) -> Iterator[str]:
    """Of each stage that runs an engine: whether its resources are those of the engine."""
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


def _given_trajectories(branch: Branch) -> Iterator[str]:
    if branch.sample.trajectories and branch.method.sampler == "teacher":
        yield (
            f"sample.trajectories are a student's, but of {branch.name} the teacher samples; leave "
            "one of the two out"
        )


def _scoring(branch: Branch) -> Iterator[str]:
    """Whether the cache is one of this scorer and engine."""
    if branch.method.scorer == "student" and branch.logits.cache == "hidden":
        yield (
            f"logits.cache: hidden holds the teacher's states, but of {branch.name} the student is "
            "the scorer; set cache: sparse, or leave the method out"
        )
    if branch.logits.engine == "vllm" and branch.distill.merge_stop_ids:
        yield (
            "distill.merge_stop_ids needs every stop id in the cache, which logits.engine: vllm "
            "does not give; set one of the two back"
        )
