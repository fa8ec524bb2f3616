"""What an answer is graded against: a gold answer, or a problem with a scorer of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from mpd.store import schema, table


class ScoredProblem(NamedTuple):
    """A problem whose answers a scorer grades: the scorer's name, and what it needs, as JSON."""

    scorer: str
    entry: str


Gold = str | ScoredProblem


def read_golds(path: Path) -> pl.DataFrame:
    """The key and the gold answer of each problem, and where the file has them, scorer and entry.

    Raises ValueError as `table.check` does.
    """
    has_scorers = table.check(path, schema.PROBLEMS)["artifact"] != schema.PROBLEMS.name
    more = ScoredProblem._fields if has_scorers else ()
    return table.read_columns(path, ["problem_id", "gold", *more])


def golds_of(rows: pl.DataFrame) -> Sequence[Gold]:
    """What the answers of rows are graded against; the rows have the columns of `read_golds`."""
    if "scorer" not in rows.columns:
        return rows["gold"].to_list()
    return [ScoredProblem(*pair) for pair in rows.select(ScoredProblem._fields).iter_rows()]
