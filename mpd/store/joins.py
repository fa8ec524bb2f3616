"""Rows of several artifacts, joined by what identifies them."""

import polars as pl

from mpd.store.schema import Artifact


def joined(rows: pl.DataFrame, others: pl.DataFrame, artifact: Artifact) -> pl.DataFrame:
    """`rows` in their order, with the columns of `others`, which are rows of an artifact.

    They are joined on the columns of the artifact's key that `rows` have: a row without a
    `candidate` comes once with each candidate of its sample. Where there is no other row, its
    columns are null.
    """
    key = [name for name in artifact.key if name in rows.columns]
    return rows.join(others, on=key, how="left", maintain_order="left")


def matched(rows: pl.DataFrame, others: pl.DataFrame, artifact: Artifact) -> pl.DataFrame:
    """Those of `rows` that have another row, in their order, with the columns of `others`.

    `others` are rows of an artifact with its whole key. Where fewer rows come out than go in, some
    had no other row: callers compare the lengths, and name the files.
    """
    return rows.join(others, on=list(artifact.key), validate="m:1", maintain_order="left")
