"""What distill says where too few rows were kept."""

import polars as pl
import pytest

from mpd.training.cache_checks import require_rows

EASIER = "train on easier problems, take a stronger teacher, or more samples"
ALL = "; or train regardless of correctness, by a custom row with axes: {kept: all}"


def verdicts_of(**reasons):
    keep = [False] * sum(reasons.values())
    reason = [name for name, count in reasons.items() for _ in range(count)]
    return pl.DataFrame(
        {"keep": keep, "reason": reason}, schema={"keep": pl.Boolean, "reason": pl.String}
    )


def test_too_few_rows_stop_with_reasons_and_advice():
    verdicts = verdicts_of(ratio_too_high=1, wrong_answer=3)
    with pytest.raises(ValueError) as error:
        require_rows(verdicts, 0, 2)
    assert str(error.value) == (
        "0 of 4 candidates survived the filter, and distill.min_kept is 2; the others: "
        "3 wrong_answer, 1 ratio_too_high. Nothing was trained: train on easier problems, take "
        "a stronger teacher, or more samples; or train regardless of correctness, by a custom row "
        "with axes: {kept: all}"
    )
    require_rows(verdicts, 2, 2)


@pytest.mark.parametrize(
    ("reasons", "advice"),
    [
        ({}, "give more problems, draw more samples, or lower distill.min_kept"),
        ({"sample_truncated": 5}, "raise sample.max_new_tokens"),
        ({"leak": 1}, "read the column reason of the filter files"),
        ({"wrong_answer": 2, "copy": 1}, EASIER + ALL),
        ({"wrong_answer": 2, "answer_none": 1, "answer_unparsed": 1, "copy": 3}, None),
        ({"rewrite_truncated": 1, "wrong_answer": 1}, "raise compress.max_new_tokens"),
        ({"ratio_too_high": 3, "wrong_answer": 2}, "rewrites are not shorter: check "
         "compress.prompt, or raise filter.max_ratio"),
    ],
)  # fmt: skip
def test_training_regardless_of_correctness_is_advised_where_it_helps(reasons, advice):
    """That is, where most rows failed by their answer, whatever single reason is the first."""
    with pytest.raises(ValueError) as error:
        require_rows(verdicts_of(**reasons), 0, 1)
    found = str(error.value).partition("Nothing was trained: ")[2]
    assert found == (advice or "read the column reason of the filter files" + ALL)
