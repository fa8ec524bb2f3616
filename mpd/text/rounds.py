"""The problems of a shard that a round samples, where a curriculum says which."""

from pathlib import Path

import polars as pl

from mpd.store import schema, table


def problems_of_round(path: Path, number: int | None) -> pl.DataFrame:
    """The problems of a shard that take part in a round, with the columns of `problems`.

    Without a number, there is no curriculum: all of them.
    Raises ValueError as `table.read` does, and where there is a number but the shard has no rounds.
    """
    if number is None:
        return table.read(path, schema.PROBLEMS)
    problems = table.read(path, schema.CURRICULUM_PROBLEMS)
    has_come = pl.col("first_round") <= number
    has_gone = pl.col("last_round").fill_null(number) < number
    return problems.filter(has_come & ~has_gone).select(schema.PROBLEMS.names)
