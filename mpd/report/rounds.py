"""The files behind a report: those of its rounds, their digests, and which of them are links."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mpd.job.layout import Round
from mpd.job.sources import has_routes
from mpd.report.students import with_place
from mpd.store import schema, table

Files = Mapping[str, Sequence[Path]]  # the files of a trained round by kind, as in KINDS
Trained = Mapping[Round, Files]
Spent = Mapping[str, Sequence[Mapping[str, Any]]]  # by stage, `spent` of each note of a round
Seconds = Mapping[Round, Mapping[str, float]]  # wall seconds of each round by stage
Evaluations = Mapping[Path, Mapping[str, Any]]  # file to method, round, seed and benchmark

# What is read from a trained round, in the order of the stages.
KINDS = {
    "sample": schema.SAMPLE,
    "compress": schema.COMPRESS,
    "filter": schema.FILTER,
    "logits": schema.LOGITS,
    "metrics": schema.METRICS,
}
SHARDED = tuple(kind for kind in KINDS if kind != "metrics")


def round_files(round: Round, num_shards: int) -> dict[str, list[Path]]:
    """The files of a trained round by kind: the shards of four stages, and the metrics."""
    shards = {stage: round.shards(stage, num_shards) for stage in SHARDED}
    return {**shards, "metrics": [round.metrics]}


def bank_files(round: Round) -> list[Path]:
    """The bank and the routes that the rewrites of a trained round were asked along, if any."""
    return [round.bank, round.routes] if has_routes(round) else []


def evaluation_files(rounds: Iterable[Round], benchmarks: Sequence[str]) -> dict[Path, Any]:
    """The evaluations of every round on every benchmark, each with its place."""
    return {
        round.benchmark("evaluate", benchmark): {**round.place, "benchmark": benchmark}
        for round in rounds
        for benchmark in benchmarks
    }


def read_evaluations(
    evaluations: Evaluations,
    columns: Sequence[str],
    rows_of: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows,
) -> pl.DataFrame:
    """What `rows_of` makes of the columns of each evaluation, with the columns of its place."""
    return pl.concat(
        with_place(rows_of(table.read_columns(path, columns)), place)
        for path, place in evaluations.items()
    )


def evaluation_digests(evaluations: Evaluations) -> dict[str, str]:
    """Content digests of the evaluations by place, such as "mpd 1 0 dev"."""
    return {
        " ".join(str(part) for part in place.values()): table.content_digest(path, schema.EVALUATE)
        for path, place in evaluations.items()
    }


def round_digests(trained: Trained, seconds: Seconds) -> dict[str, str]:
    """Content digests of the files of trained rounds, and one digest of their seconds."""
    digests = {
        f"{round.name} {kind} {number}": table.content_digest(path, KINDS[kind])
        for round, files in trained.items()
        for kind, paths in files.items()
        for number, path in enumerate(paths)
    }
    return {**digests, "seconds": spent_digest(seconds)}


def spent_digest(spent: Mapping[Round, Any]) -> str:
    """One digest of what rounds took, by their names."""
    values = repr([(round.name, stages) for round, stages in spent.items()])
    return hashlib.sha256(values.encode()).hexdigest()[:32]


def count_links(files: Files) -> list[dict[str, Any]]:
    """For each kind of file how many there are, how many differ, and how many are links.

    The store hard-links what it already has, so that equal files have one inode. On another file
    system they are copies, which count as computed.
    """
    rows = []
    for kind, paths in files.items():
        inodes = [(status.st_dev, status.st_ino) for path in paths for status in [path.stat()]]
        computed = len(set(inodes))
        rows.append(
            {
                "kind": kind,
                "files": len(inodes),
                "computed": computed,
                "linked": len(inodes) - computed,
            }
        )
    return rows
