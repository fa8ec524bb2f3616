"""Speed and peak memory of scoring: from rows of trajectories to a file of the cache.

    python benchmarks/score.py --shape tiny
    python benchmarks/score.py --device cuda --shape qwen3-1.7b --dtype bfloat16 \\
        --prompt-tokens 200 --completion-tokens 2048 --profile

It runs the stage's own code: teacher and student, encoding, and the parts that are put together in
one file. The models are loaded, and a first batch is scored, before the clock starts. MFU counts
2 operations for each weight of both models and token, output heads at completion positions only,
and causal attention of each sequence alone. With --profile, a last pass tells for what share of
the time the GPU had nothing to do.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import card
import kernels
import polars as pl
import random_models
import shapes

from mpd.config.logits import PlainScores
from mpd.config.resources import ScoringResources
from mpd.logits import score_rows
from mpd.store import schema, table
from mpd.store.outputs import TableOutput
from mpd.store.parts import Parts
from mpd.store.spent import Meter


class Clock:
    """Starts behind the loading of models; a trace of the GPU, if there is one, as well."""

    def __init__(self, trace: kernels.Trace | None) -> None:
        self.trace, self.start = trace, 0.0

    def stream(self, parts: Parts) -> Callable[..., None]:
        """`parts.stream`, with the clock started when its work is prepared."""
        stream = parts.stream

        def timed(rows: pl.DataFrame, rows_per_part: int, prepare: Callable[[], Any]) -> None:
            def prepare_and_start() -> Any:
                work = prepare()
                if self.trace:
                    self.trace.start()
                self.start = time.monotonic()
                return work

            stream(rows, rows_per_part, prepare_and_start)

        return timed


def kept_rows(arguments: argparse.Namespace) -> pl.DataFrame:
    """The trajectories as the stage reads them."""
    prompts, completions = zip(*shapes.trajectories(arguments), strict=True)
    integers, count = pl.List(pl.Int32), len(prompts)
    return pl.DataFrame(
        {
            "sample_id": [str(number) for number in range(count)],
            "candidate": pl.Series([0] * count, dtype=pl.Int32),
            "prompt_ids": pl.Series(prompts, dtype=integers),
            "completion_ids": pl.Series(completions, dtype=integers),
            "num_tokens": pl.Series([len(ids) for ids in completions], dtype=pl.Int32),
            "question": [""] * count,
            "sample_text": [""] * count,
        }
    )


def job_of(arguments: argparse.Namespace) -> argparse.Namespace:
    """What the stage's command line gives."""
    student = random_models.write_model(arguments.folder / arguments.shape, arguments.shape)
    name = arguments.teacher_shape or shapes.SHAPES[arguments.shape].teacher
    teacher = random_models.write_model(arguments.folder / name, name)
    resources = shapes.batch_resources(arguments, "batch_size")
    settings = {"context": "problem", "dtype": arguments.dtype, **arguments.settings}
    return argparse.Namespace(
        settings=PlainScores(**settings),
        resources=ScoringResources(**resources),
        threads=None,
        student=student / "manifest.json",
        teacher=teacher / "manifest.json",
    )


def score(
    job: argparse.Namespace,
    rows: pl.DataFrame,
    folder: Path,
    device: str,
    trace: kernels.Trace | None = None,
) -> tuple[float, Path]:
    """Score rows into a file; seconds without the loading of models, and its path."""
    clock, path = Clock(trace), folder / "shard.parquet"

    def compute(parts: Parts) -> None:
        parts.stream = clock.stream(parts)
        score_rows(job, job.teacher, rows, parts)

    gc.collect()  # models of the run before
    folder.mkdir()
    output = TableOutput(schema.LOGITS, path, {}, {}, compute)
    output.build(path, folder, Meter(folder / "spent.json"))
    card.synchronize(device)
    return time.monotonic() - clock.start, path


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All measures of one run."""
    random_models.make_weights_when_loading()
    if not arguments.matrix_tflops:
        arguments.matrix_tflops = card.matrix_tflops(arguments.device)
    job, rows = job_of(arguments), kept_rows(arguments)
    lengths, num_positions = shapes.sizes(shapes.trajectories(arguments))
    models = [manifest.parent.name for manifest in (job.student, job.teacher)]
    flops = sum(shapes.forward_flops(name, lengths, num_positions) for name in models)
    folder = arguments.folder / f"scored_{time.time_ns()}"
    folder.mkdir()
    score(job, rows[: arguments.warm_up], folder / "warm-up", arguments.device)
    runs = [
        score(job, rows, folder / str(number), arguments.device)
        for number in range(arguments.repeats)
    ]
    seconds = sorted(seconds for seconds, _ in runs)
    path = runs[0][1]
    sizes = table.read_columns(path, ["support_size"])["support_size"].list.mean()
    result = {
        "name": " beside ".join(models),
        "seconds": [round(one, 4) for one in seconds],
        "tokens": num_positions,
        **card.peak_memory(arguments.device),
        **card.utilisation(arguments, flops, statistics.median(seconds)),
        "entries": round(float(sizes.mean() or 0), 1),
        "bytes_per_token": round(path.stat().st_size / num_positions, 1),
    }
    if arguments.profile and arguments.device == "cuda":
        trace = kernels.Trace()
        score(job, rows[: (len(rows) + 1) // 2], folder / "traced", "cuda", trace)
        result["profile"] = trace.summary()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    shapes.add_arguments(parser, batch_size=8, completion_tokens=160, repeats=2)
    parser.add_argument("--warm-up", type=int, default=16, help="trajectories scored before")
    shapes.run(parser, measure)


if __name__ == "__main__":
    main()
