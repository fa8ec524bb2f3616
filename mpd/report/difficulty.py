"""Students by difficulty: problems binned by how often the base student solves them. No I/O.

Saved tokens are differences within a problem and a seed. Means over the problems that each student
solves would compare different problems. Shapes: S seeds, P problems.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from mpd.config.base import BASE
from mpd.report.bootstrap import Entry, interval_columns, pooled
from mpd.report.compare import answers_of, paired, stacked, student_columns
from mpd.report.students import BASE_STUDENT, IS_BASE
from mpd.store import schema, table

BINS = ("never", "up to half", "more than half", "always")  # the hardest first
QUANTITIES = ("accuracy", "tokens", "saved_tokens")


def bins_of(accuracy: np.ndarray) -> np.ndarray:
    """The index into BINS of each problem [P], from the base student's accuracy [S, P].

    The rate is over all seeds and samples.
    """
    rate = accuracy.mean(axis=0)
    half = 0.5 + 1e-9  # room for rounding
    return np.select([rate == 0, rate <= half, rate < 1], [0, 1, 2], default=3)


def by_difficulty(problems: pl.DataFrame) -> pl.DataFrame:
    """Rows of `difficulty`: each student in each bin that has problems, its seeds pooled.

    `problems` are those of `compare.answers_of`. Benchmarks and seeds without a base student are
    left out.
    """
    rows: list[dict[str, Any]] = []
    for benchmark, students in answers_of(problems).items():
        base = students.get(BASE_STUDENT)
        if base is None:
            continue
        bins = bins_of(stacked(base)[0])
        entries: list[Entry] = []
        for student, answers in students.items():
            pair = paired(answers, base)
            if pair is not None:
                quantities = quantities_of(*pair)
                if student[0] == BASE:
                    quantities[2] = np.nan  # it saves nothing against itself
                entries += in_bins(student_columns(student, benchmark), quantities, bins)
        for row, _, drawn in pooled(entries):
            for name, quantity_draws in zip(QUANTITIES, drawn, strict=True):
                row |= interval_columns(name, quantity_draws)
            rows.append(row)
    order = pl.col("bin").replace_strict(BINS, range(len(BINS)))
    frame = table.frame_of(rows, schema.DIFFICULTY)
    return frame.sort("benchmark", ~IS_BASE, "method", "round", order)


def quantities_of(student: np.ndarray, base: np.ndarray) -> np.ndarray:
    """QUANTITIES [3, S, P], from the MEASURES [3, S, P] of a student and of the base student."""
    accuracy, tokens, _ = student
    return np.stack([accuracy, tokens, base[1] - tokens])


def in_bins(place: dict[str, Any], quantities: np.ndarray, bins: np.ndarray) -> Iterator[Entry]:
    """An entry for each bin that has problems; the quantities are NaN outside the bin."""
    for number in np.unique(bins):
        inside = bins == number
        in_bin = {**place, "bin": BINS[number], "num_problems": int(inside.sum())}
        yield in_bin, np.where(inside, quantities, np.nan)
