"""The cells of a table, and how a number is written in one. No markup, no I/O."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from mpd.config.base import DEV
from mpd.report.compare import is_significant
from mpd.report.lengths import QUANTILES
from mpd.report.students import held_out

DASH = "–"  # where a number is not known, or does not apply
QUANTILES_TITLE = "p10 · median · p90 · longest"


class Cell(NamedTuple):
    """Text, and its class in the style sheet, such as text (aligned left); often empty."""

    text: str
    kind: str = ""


class Grid(NamedTuple):
    """The cells of a table, whose header is one row."""

    header: list[Cell]
    rows: list[list[Cell]]


class Split(NamedTuple):
    """What is shown of the benchmarks, and of the development split; None where that is all."""

    benchmarks: Any
    development: Any


def grid(
    header: Sequence[str | Cell],
    rows: Iterable[Sequence[str | Cell]],
    text: Sequence[int] = (0,),
) -> Grid:
    """The cells of a table. `text` are the columns that are aligned left."""

    def row_of(cells: Sequence[str | Cell]) -> list[Cell]:
        row = (cell if isinstance(cell, Cell) else Cell(cell) for cell in cells)
        return [
            cell._replace(kind="text") if column in text else cell
            for column, cell in enumerate(row)
        ]

    return Grid(row_of(header), [row_of(cells) for cells in rows])


def by_split(rows: pl.DataFrame, cells: Callable[[pl.DataFrame], Any]) -> Split:
    """What `cells` makes of the rows of the benchmarks, and of those of the development split."""
    benchmarks = held_out(rows)
    if len(benchmarks) == len(rows):
        return Split(cells(rows), None)
    return Split(cells(benchmarks), cells(rows.filter(benchmark=DEV)))


def number(value: float | None, form: str = ",.0f") -> str:
    """A number by a format specification, with a true minus sign; a dash for None.

    The minus sign is as wide as a plus sign, the hyphen is not.
    """
    return DASH if value is None else format(value, form).replace("-", "−")


def interval(row: Mapping[str, Any], measure: str, digits: int, sign: str = "") -> str:
    """Value and interval as text; a dash where there is no interval."""
    if row[f"{measure}_low"] is None:
        return DASH
    ends = (row[measure], row[f"{measure}_low"], row[f"{measure}_high"])
    value, low, high = (number(end, f"{sign},.{digits}f") for end in ends)
    return f"{value} [{low}, {high}]"


def quantiles(row: Mapping[str, Any], sign: str = "") -> str:
    """The quantiles of a row as text, in whole tokens."""
    return " · ".join(number(row[name], f"{sign},.0f") for name in QUANTILES)


def percentages(row: Mapping[str, Any], measure: str) -> str:
    """A share and its interval as text; a dash where there is none."""
    ends = [row[f"{measure}{end}"] for end in ("", "_low", "_high")]
    if None in ends:
        return DASH
    value, low, high = (f"{end:.0%}" for end in ends)
    return f"{value} [{low}, {high}]"


def difference(row: Mapping[str, Any], measure: str) -> Cell:
    """A difference as a cell, marked where its interval excludes zero."""
    text = interval(row, measure, {"accuracy": 3, "aes": 2}.get(measure, 1), "+")
    if is_significant(row, measure):
        return Cell(f"{text} *", "clear")
    return Cell(text, "unclear")
