"""What each round of each method cost, and what its teacher thought of what was trained on."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mpd.store import schema, table
from mpd.store.differences import note_beside

ARTIFACTS = {
    "sample": schema.SAMPLE,
    "compress": schema.COMPRESS,
    "filter": schema.FILTER,
    "logits": schema.LOGITS,
    "metrics": schema.METRICS,
}
EVALUATION = ("answers", "evaluate")  # stages whose seconds are apart from a round's
COLUMNS = {
    "sample": ["num_tokens"],
    "compress": ["rewrite_tokens"],
    "filter": ["keep"],
    "logits": [
        *("num_tokens", "divergence"),
        *("mean_teacher_logprob", "think_close_logprob", "stop_logprob"),
    ],
    "metrics": ["step", "tokens_seen"],
}


def round_files(folder: Path, num_shards: int) -> dict[str, list[Path]]:
    """The files of a trained round by kind: the four stages' shards, and metrics."""
    shards = [f"shard_{number}.parquet" for number in range(num_shards)]
    stages = [kind for kind in ARTIFACTS if kind != "metrics"]
    files = {stage: [folder / stage / shard for shard in shards] for stage in stages}
    return {**files, "metrics": [folder / "student" / "metrics.parquet"]}


def read_round(files: Mapping[str, Sequence[Path]]) -> dict[str, pl.DataFrame]:
    """What `costs_of` needs of the files of a round."""
    return {
        kind: pl.concat(table.read_columns(path, COLUMNS[kind]) for path in paths)
        for kind, paths in files.items()
    }


def seconds_by_stage(folder: Path, num_shards: int, benchmarks: Sequence[str]) -> dict[str, float]:
    """Wall seconds that computing the artifacts of a round took, by their notes.

    A stage of which not every note has them is not among them: older notes have none. `folder` is
    that of the round.
    """
    files = round_files(folder, num_shards)
    outputs = {
        **{stage: paths for stage, paths in files.items() if stage != "metrics"},
        "distill": [folder / "student"],
        **{
            stage: [folder / stage / f"{name}.parquet" for name in benchmarks]
            for stage in EVALUATION
        },
    }
    seconds = {
        stage: [note_beside(path).get("spent", {}).get("seconds") for path in paths]
        for stage, paths in outputs.items()
    }
    return {stage: sum(of) for stage, of in seconds.items() if of and None not in of}


def seconds_of(stages: Mapping[str, float]) -> dict[str, float | None]:
    """The seconds of all stages together, those of evaluation apart; None where there are none."""
    held_out = [seconds for stage, seconds in stages.items() if stage in EVALUATION]
    others = [seconds for stage, seconds in stages.items() if stage not in EVALUATION]
    return {"wall_seconds": _sum_known(others), "evaluation_seconds": _sum_known(held_out)}


def costs_of(frames: Mapping[str, pl.DataFrame], sampler: str | None) -> dict[str, Any]:
    """The costs of one round of one seed, as if nothing were shared, and sums for diagnostics.

    `sampler`: student or teacher, whoever drew the samples; None where the user gave them.
    """
    sampled = int(frames["sample"]["num_tokens"].sum())
    rewritten = int(frames["compress"]["rewrite_tokens"].sum())
    logits, metrics = frames["logits"], frames["metrics"]
    return {
        "num_samples": len(frames["sample"]),
        "student_tokens": sampled if sampler == "student" else 0,
        "teacher_tokens": rewritten + (sampled if sampler == "teacher" else 0),
        "kept_rows": frames["filter"]["keep"].sum(),
        "scored_tokens": logits["num_tokens"].sum(),
        "num_steps": len(metrics),
        "trained_tokens": metrics["tokens_seen"].max() or 0,
    }


def diagnostics_of(logits: pl.DataFrame) -> dict[str, Any]:
    """Means over trained completions of what the teacher's scores say of them; None without any.

    Of the divergence the mean over their tokens.
    """
    names = ("mean_teacher_logprob", "think_close_logprob", "stop_logprob")
    return {
        **{name: logits[name].mean() for name in names},
        "think_close_mass": logits["think_close_logprob"].exp().mean(),
        "divergence": logits["divergence"].explode().mean(),
    }


def costs(
    rounds: Mapping[tuple[str, int], Sequence[dict[str, pl.DataFrame]]],
    seconds: Mapping[tuple[str, int], Sequence[Mapping[str, float | None]]],
    samplers: Mapping[str, str],
    given: bool,
) -> pl.DataFrame:
    """Rows of `costs`, sums over the seeds of each (method, round).

    `given`: the first round's samples are the user's own, so no one generated them.
    """
    rows = []
    for (method, number), seeds in rounds.items():
        sampler = None if given and number == 1 else samplers[method]
        each = [costs_of(frames, sampler) for frames in seeds]
        whole = {name: sum(row[name] for row in each) for name in each[0]}
        times = {
            name: _sum_known(of[name] for of in seconds[method, number])
            for name in ("wall_seconds", "evaluation_seconds")
        }
        logits = pl.concat(frames["logits"] for frames in seeds)
        rows.append(
            {
                "method": method,
                "round": number,
                "num_seeds": len(seeds),
                **whole,
                "share_kept": whole["kept_rows"] / max(whole["num_samples"], 1),
                **times,
                **diagnostics_of(logits),
            }
        )
    return table.frame_of(rows, schema.COSTS).sort("method", "round")


def _sum_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def count_artifacts(files: Mapping[str, Iterable[Path]]) -> list[dict[str, Any]]:
    """Per kind of artifact its files, how many of them are different, and how many are links.

    The store hard-links what was computed before, so the same file has the same inode. Across
    file systems it is a copy, which counts as computed.
    """
    rows = []
    for kind, paths in files.items():
        found = [(status.st_dev, status.st_ino) for path in paths for status in [path.stat()]]
        computed = len(set(found))
        rows.append(
            {
                "kind": kind,
                "files": len(found),
                "computed": computed,
                "linked": len(found) - computed,
            }
        )
    return rows
