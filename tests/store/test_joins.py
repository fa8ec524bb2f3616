"""Rows of several artifacts, joined by what identifies them."""

import polars as pl

from mpd.store import schema
from mpd.store.joins import joined


def test_a_sample_comes_with_each_of_its_candidates():
    samples = pl.DataFrame({"sample_id": ["b", "a", "c"], "num_tokens": [2, 1, 3]})
    candidates = pl.DataFrame(
        {"sample_id": ["a", "a", "b"], "candidate": [0, 1, 0], "status": ["ok", "format", "ok"]}
    )
    rows = joined(samples, candidates, schema.COMPRESS)
    assert rows.rows() == [("b", 2, 0, "ok"), ("a", 1, 0, "ok"), ("a", 1, 1, "format"),
                           ("c", 3, None, None)]  # fmt: skip
    verdicts = pl.DataFrame({"sample_id": ["a"], "candidate": [1], "reason": ["kept"]})
    assert joined(rows, verdicts, schema.FILTER)["reason"].to_list() == [None, None, "kept", None]
