"""Students, as all of the report names, selects and orders them. No I/O.

A student is a method after a round of training; round 0 trains nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from mpd.config.base import BASE, DEV
from mpd.job.layout import Round

Student = tuple[str, int]  # method and round

BASE_STUDENT: Student = (BASE, 0)
REFERENCE = "mpd"  # methods are compared with the base student, and with this method
IS_BASE = pl.col("method") == BASE
PLACE_TYPES = {"method": pl.String, "round": pl.Int32, "seed": pl.Int32, "benchmark": pl.String}


def with_place(frame: pl.DataFrame, place: Mapping[str, Any]) -> pl.DataFrame:
    """Add the columns of `place`: those of PLACE_TYPES that it has."""
    return frame.with_columns(
        pl.lit(value, PLACE_TYPES[name]).alias(name) for name, value in place.items()
    )


def with_base(summary: pl.DataFrame) -> pl.DataFrame:
    """Add `base_accuracy` and `base_tokens`, of the base student on the same seed and benchmark.

    `summary` are rows of `summary`. Where there is no such base student, both are null.
    """
    base = summary.filter(IS_BASE).select(
        "seed", "benchmark", base_accuracy="accuracy", base_tokens="mean_tokens"
    )
    on = ["seed", "benchmark"]
    return summary.join(base, on=on, how="left", validate="m:1", maintain_order="left")


def by_student(rounds: Iterable[Round]) -> dict[Student, list[Round]]:
    """The rounds of each student, one for each seed."""
    students: dict[Student, list[Round]] = {}
    for round in rounds:
        students.setdefault((round.method, round.number), []).append(round)
    return students


def in_order(methods: Iterable[str]) -> list[str]:
    """Trained methods in the order in which they are shown: the reference first, then by name."""
    return sorted(methods, key=lambda name: (name != REFERENCE, name))


def held_out(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of the benchmarks; those of the development split where there are no others."""
    benchmarks = frame.filter(pl.col("benchmark") != DEV)
    return benchmarks if len(benchmarks) else frame


def last_rounds(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of the base student and of the last round of each method."""
    return frame.filter(pl.col("round") == pl.col("round").max().over("method"))
