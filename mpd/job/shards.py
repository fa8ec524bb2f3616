"""Jobs of the stages of shards: one shard after another, by one model."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from mpd.store.outputs import Outputs

T = TypeVar("T")
Stage = Callable[[Namespace], Outputs]


def add_shards(stage_parser: ArgumentParser, contents: Mapping[str, str]) -> None:
    """Add the arguments that name files of each shard: inputs, of these contents, and the output.

    A job takes as many of each as it has shards.
    """
    names = {**contents, "output": "what the stage writes"}
    for name, content in names.items():
        words = f"{content} of one shard, or of several in the same order"
        stage_parser.add_argument(f"--{name}", type=Path, nargs="+", required=True, help=words)
    stage_parser.set_defaults(sharded=list(names))


def for_each_shard(outputs: Callable[[Namespace], Outputs]) -> Stage:
    """The outputs of a stage for all shards of its job, from its outputs for one.

    What was `opened` for a shard stays open for the next. Raises ValueError where the job does not
    have as many files of each input as outputs.
    """

    @wraps(outputs)
    def of_all(arguments: Namespace) -> Outputs:
        names = arguments.sharded
        files = {name: getattr(arguments, name) for name in names}
        if len({len(paths) for paths in files.values()}) > 1:
            counts = ", ".join(f"{len(paths)} of {name}" for name, paths in files.items())
            raise ValueError(f"as many files of each shard are wanted, found {counts}")
        models: dict[str, Any] = {}
        for shard in zip(*files.values(), strict=True):
            of_shard = dict(zip(names, shard, strict=True))
            yield from outputs(Namespace(**{**vars(arguments), "opened": models, **of_shard}))

    return of_all


def opened(arguments: Namespace, open_model: Callable[[], T]) -> T:
    """What `open_model` returns, once in a job of shards: the model that serves them all."""
    models = getattr(arguments, "opened", {})
    if not models:
        models["model"] = open_model()
    return models["model"]
