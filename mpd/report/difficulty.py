"""Students by difficulty: problems binned by how often the base student solves them. No I/O.

Savings are within a problem: the base student's tokens less the student's own, same problem and
seed. Means over the problems that each solves would compare different problems.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from mpd.report import compare
from mpd.report.compare import stacked
from mpd.store import schema, table

BINS = ("never", "up to half", "more than half", "always")  # the hardest first
COLUMNS = ("accuracy", "tokens", "saved_tokens")


def bins_of(accuracy: np.ndarray) -> np.ndarray:
    """Index into BINS of each problem, from the base student's accuracy: S × P to P.

    The rate is over all seeds and samples.
    """
    rate = accuracy.mean(axis=0)
    half = 0.5 + 1e-9  # room for rounding
    return np.select([rate == 0, rate <= half, rate < 1], [0, 1, 2], default=3)


def by_difficulty(problems: pl.DataFrame) -> pl.DataFrame:
    """Rows of `difficulty`: each student in each bin that has problems, pooled over seeds.

    `problems` are those of `compare.answers_of`. Seeds without a base student are left out, and
    benchmarks without one.
    """
    rows: list[dict[str, Any]] = []
    for benchmark, students in compare.answers_of(problems).items():
        base = students.get(("base", 0))
        if base is None:
            continue
        bins = bins_of(stacked(base, base)[0])
        entries: list[tuple[dict[str, Any], np.ndarray]] = []
        for (method, number), own in students.items():
            seeds = [seed for seed in own if seed in base]
            if seeds:
                place = {"method": method, "round": number, "benchmark": benchmark}
                columns = columns_of(stacked(own, seeds), stacked(base, seeds))
                if method == "base":
                    columns[2] = np.nan  # from itself it saves nothing, by definition
                entries += in_bins(place, columns, bins)
        for place, _, drawn in compare.pooled(entries):
            for name, own in zip(COLUMNS, drawn, strict=True):
                place |= compare.interval_columns(name, own)
            rows.append(place)
    is_base = pl.col("method") == "base"
    order = pl.col("bin").replace_strict(BINS, range(len(BINS)))
    frame = table.frame_of(rows, schema.DIFFICULTY)
    return frame.sort("benchmark", ~is_base, "method", "round", order)


def columns_of(own: np.ndarray, base: np.ndarray) -> np.ndarray:
    """COLUMNS × S × P of a student from its measures and the base student's: MEASURES × S × P."""
    accuracy, tokens, _ = own
    return np.stack([accuracy, tokens, base[1] - tokens])


def in_bins(
    place: dict[str, Any], columns: np.ndarray, bins: np.ndarray
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """For each bin of the problems its name and size, and the columns: of other bins all NaN."""
    for number in np.unique(bins):
        inside = bins == number
        named = {**place, "bin": BINS[number], "num_problems": int(inside.sum())}
        yield named, np.where(inside, columns, np.nan)
