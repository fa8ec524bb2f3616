"""Budget curves."""

import polars as pl
import pytest

from mpd.report.budgets import accuracies, curves
from mpd.store import schema, table
from mpd.text.grading.token_budgets import ladder

PLACE_TYPES = {"method": pl.String, "round": pl.Int32, "seed": pl.Int32, "benchmark": pl.String}


def answered(place, *rows):
    """Rows of `accuracies` at budgets 16 and 20, given as problem and correct budgets."""
    schema = {"problem_id": pl.String, "correct_budgets": pl.List(pl.Int32)}
    frame = accuracies(pl.DataFrame(rows, schema, orient="row"), ladder(20))
    columns = zip(PLACE_TYPES.items(), place, strict=True)
    return frame.with_columns(pl.lit(value, dtype).alias(name) for (name, dtype), value in columns)


def test_accuracies_are_shares_of_a_problems_samples():
    found = answered(("mpd", 1, 0, "one"), ("b", [16, 20]), ("a", []), ("b", [20]), ("a", [16]))
    assert found.select("problem_id", "16", "20").rows() == [("b", 0.5, 1.0), ("a", 0.5, 0.0)]


def test_curves_pool_seeds():
    one = pl.concat(
        [
            answered(("mpd", 1, 0, "one"), ("a", [16, 20]), ("b", [20])),
            answered(("mpd", 1, 1, "one"), ("b", [20]), ("a", [20])),
            answered(("base", 0, 0, "one"), ("a", [20]), ("b", [20])),
        ]
    )
    two = answered(("base", 0, 0, "two"), ("c", []))
    found = curves([two, one])
    assert found.to_arrow().schema == table.arrow_schema(schema.BUDGETS)
    keys = ("benchmark", "method", "round", "budget", "num_seeds", "accuracy")
    assert found.select(keys).rows() == [
        ("one", "base", 0, 16, 1, 0.0),
        ("one", "base", 0, 20, 1, 1.0),
        ("one", "mpd", 1, 16, 2, 0.25),
        ("one", "mpd", 1, 20, 2, 1.0),
        ("two", "base", 0, 16, 1, 0.0),
        ("two", "base", 0, 20, 1, 0.0),
    ]
    # At budget 16 seed 0 solves one of two problems and seed 1 none: of the draws, 1 in 16 has
    # that seed and that problem alone, 7 in 16 lack one of the two.
    ends = found.select("accuracy_low", "accuracy_high").rows()
    assert ends == [(0, 0), (1, 1), (0, 1), (1, 1), (0, 0), (0, 0)]


def test_curves_of_other_problems_are_refused():
    frames = [
        answered(("base", 0, 0, "one"), ("a", [])),
        answered(("mpd", 1, 0, "one"), ("b", [])),
    ]
    with pytest.raises(ValueError, match="mpd, round 1, seed 0 answered other problems"):
        curves([pl.concat(frames)])
