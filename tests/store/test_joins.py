"""Rows of several artifacts, joined by what identifies them."""

import polars as pl
import pytest

from mpd.store import schema
from mpd.store.joins import joined, matched


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


def test_rows_without_a_match_are_left_out():
    candidates = pl.DataFrame({"sample_id": ["b", "a", "b", "c"], "candidate": [0, 0, 1, 0]})
    samples = pl.DataFrame({"sample_id": ["a", "b"], "num_tokens": [1, 2]})
    rows = matched(candidates, samples, schema.SAMPLE)
    assert rows.rows() == [("b", 0, 2), ("a", 0, 1), ("b", 1, 2)]


def test_two_rows_of_one_key_match_nothing():
    twice = pl.DataFrame({"sample_id": ["a", "a"], "num_tokens": [1, 2]})
    with pytest.raises(pl.exceptions.ComputeError):
        matched(pl.DataFrame({"sample_id": ["a"]}), twice, schema.SAMPLE)
