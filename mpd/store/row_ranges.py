"""Rows of tables by number, so that a stage holds no more of a table than its part needs."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from mpd.store import table

Range = tuple[int, int]  # the first row, and the one behind the last


def ranges_of(num_rows: int, rows_per_part: int | None) -> list[Range]:
    """Ranges of so many rows, the last of which may be shorter; an empty one where there are none.

    Without `rows_per_part`, all rows are one range.
    """
    step = rows_per_part or max(num_rows, 1)
    return [(start, min(start + step, num_rows)) for start in range(0, max(num_rows, 1), step)]


def ranges_within(places: np.ndarray, costs: np.ndarray, limit: int) -> list[Range]:
    """Ranges of rows that refer to rows of another table, whose numbers are `places` [R].

    A range costs no more than `limit`, if it can be cut: no two ranges share a place, and places
    ascend from range to range. So the rows of one place stay together, and both tables can be read
    forwards. `costs` [R] are those of the rows.
    """
    if not len(places):
        return [(0, 0)]
    highest = np.maximum.accumulate(places)
    lowest = np.minimum.accumulate(places[::-1])[::-1]
    ends = np.append(np.flatnonzero(highest[:-1] < lowest[1:]) + 1, len(places))
    totals = np.cumsum(costs)[ends - 1]
    ranges: list[Range] = []
    start = spent = number = 0
    while number < len(ends):
        number = max(int(np.searchsorted(totals, spent + limit, "right")), number + 1)
        stop, spent = int(ends[number - 1]), int(totals[number - 1])
        ranges.append((start, stop))
        start = stop
    return ranges


class ForwardReader:
    """Some columns of a table that has been checked, read forwards, range by range."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, columns
        self._groups = table.groups(path, columns)
        self._held: pl.DataFrame | None = None
        self._start = 0  # the number of the first row that is held

    def read(self, start: int, stop: int) -> pl.DataFrame:
        """The rows of a range that does not begin before the end of the range that was read last.

        Raises IndexError where the table has fewer rows.
        """
        held = self._held
        while held is None or self._start + len(held) < stop:
            group = next(self._groups, None)
            if group is None and held is None:
                group = table.read_columns(self.path, self.columns)  # no row group: no rows
            elif group is None:
                raise IndexError(f"{self.path}: it has no row {stop - 1}")
            if held is not None and self._start + len(held) > start:
                group = pl.concat([held, group])
            elif held is not None:
                self._start += len(held)
            held = group
        rows = held[start - self._start : stop - self._start]
        self._held, self._start = held[stop - self._start :], stop
        return rows


def regrouped(frames: Iterable[pl.DataFrame], num_rows: int) -> Iterator[pl.DataFrame]:
    """The rows of frames in frames of `num_rows`, the last of which may be shorter.

    Frames without any row give one frame without rows.
    """
    held: list[pl.DataFrame] = []
    is_first = True
    for frame in frames:
        held.append(frame)
        while sum(map(len, held)) >= num_rows:
            rows = pl.concat(held)
            yield rows[:num_rows]
            held, is_first = [rows[num_rows:]], False
    if held and (is_first or sum(map(len, held))):
        yield pl.concat(held)
