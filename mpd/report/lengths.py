"""Quantiles of the lengths of answers, since a median can fall while the mean rises. No I/O."""

from collections.abc import Iterable

import polars as pl

from mpd.report.students import Student

# Column to probability. Quantiles are interpolated linearly between two lengths.
QUANTILES = {"tokens_p10": 0.1, "tokens_median": 0.5, "tokens_p90": 0.9, "tokens_max": 1.0}

Quantiles = dict[str, float | None]  # by the names of QUANTILES; None where nothing was answered


def quantiles(lengths: pl.Series) -> Quantiles:
    """The quantiles of lengths in tokens, one for each answer."""
    return {name: lengths.quantile(share, "linear") for name, share in QUANTILES.items()}


def less(values: Quantiles, others: Quantiles) -> Quantiles:
    """Quantiles less others; None where one has none."""

    def difference(value: float | None, other: float | None) -> float | None:
        return None if value is None or other is None else value - other

    return {name: difference(values[name], others[name]) for name in QUANTILES}


class Lengths:
    """The lengths of all answers of the students on one benchmark."""

    def __init__(self, problems: pl.DataFrame, benchmark: str):
        """`problems` are rows of `per_problem` with method, round, seed and benchmark."""
        groups = problems.filter(benchmark=benchmark).group_by("method", "round", "seed")
        self.by_seed = {key: rows["lengths"].explode() for key, rows in groups}

    def quantiles(self, student: Student, seeds: Iterable[int]) -> Quantiles:
        """The quantiles of a student's answers, those of these seeds together."""
        return quantiles(pl.concat(self.by_seed[*student, seed] for seed in seeds))

    def differences(self, student: Student, other: Student, seeds: Iterable[int]) -> Quantiles:
        """The quantiles of a student less those of another; None where one has none."""
        seeds = list(seeds)
        return less(self.quantiles(student, seeds), self.quantiles(other, seeds))
