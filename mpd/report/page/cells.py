"""The cells of a table, and how a number is written in one. No markup, no I/O."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from mpd.report.compare import is_significant
from mpd.report.series import held_out


class Cell(NamedTuple):
    """Text, and the name of its class in the style sheet: empty, text (on the left) or another."""

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
    """The cells of a table. `text`: columns on the left."""

    def line(cells: Sequence[str | Cell]) -> list[Cell]:
        whole = (cell if isinstance(cell, Cell) else Cell(cell) for cell in cells)
        return [
            cell._replace(kind="text") if column in text else cell
            for column, cell in enumerate(whole)
        ]

    return Grid(line(header), [line(cells) for cells in rows])


def by_split(rows: pl.DataFrame, cells: Callable[[pl.DataFrame], Any]) -> Split:
    """What `cells` makes of the held-out benchmarks, and of the development split."""
    benchmarks = held_out(rows)
    if len(benchmarks) == len(rows):
        return Split(cells(rows), None)
    return Split(cells(benchmarks), cells(rows.filter(benchmark="dev")))


def interval(row: Mapping[str, Any], measure: str, digits: int, sign: str = "") -> str:
    """Value and interval as text; a dash where there is none."""
    if row[f"{measure}_low"] is None:
        return "–"
    ends = (row[measure], row[f"{measure}_low"], row[f"{measure}_high"])
    value, low, high = (with_minus(f"{number:{sign},.{digits}f}") for number in ends)
    return f"{value} [{low}, {high}]"


def with_minus(number: str) -> str:
    """A number as text, with the sign that is as wide as a plus."""
    return number.replace("-", "−")


def difference(row: Mapping[str, Any], measure: str) -> Cell:
    """A difference as a cell, marked where its interval excludes zero."""
    shown = interval(row, measure, {"accuracy": 3, "aes": 2}.get(measure, 1), "+")
    if is_significant(row, measure):
        return Cell(f"{shown} *", "clear")
    return Cell(shown, "unclear")


def whole_number(value: float | None) -> str:
    """Without decimals; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"
