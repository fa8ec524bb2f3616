"""What a student cost and when its training has paid, by hand."""

import polars as pl
import pytest

from mpd.report.payback import payback
from mpd.store import schema, table
from tests.test_report import summary_of

H200 = "NVIDIA H200"


def speed_of(*rows):
    """Rows given as method, round, stage, device-seconds, tokens, joules and device."""
    return table.frame_of(
        [
            {
                **dict.fromkeys(schema.SPEED.names),
                **dict(
                    zip(
                        (
                            "method",
                            "round",
                            "stage",
                            "device_seconds",
                            "tokens",
                            "joules",
                            "device",
                        ),
                        row,
                        strict=True,
                    )
                ),
            }
            for row in rows
        ],
        schema.SPEED,
    )


# Over two seeds. A token of the base student's answers takes 0.01 s and 2 J.
SPEED = speed_of(
    ("base", 0, "answers", 40.0, 4000, 8000.0, H200),
    ("base", 0, "evaluate", 5.0, None, None, "cpu"),
    ("mpd", 1, "sample", 100.0, 9000, 10_000.0, H200),
    ("mpd", 1, "filter", 20.0, None, None, "cpu"),
    ("mpd", 1, "distill", 80.0, 500, 30_000.0, H200),
    ("mpd", 1, "answers", 30.0, 2000, 1.0, H200),
    ("mpd", 2, "sample", 50.0, 4000, 5_000.0, H200),
    ("mpd", 2, "distill", 50.0, 500, 15_000.0, H200),
    ("mpd", 2, "answers", 30.0, 2000, 1.0, H200),
)
SUMMARY = summary_of(
    ("base", 0, 0, "one", 0.4, 220.0),
    ("base", 0, 1, "one", 0.6, 180.0),
    ("mpd", 1, 0, "one", 0.5, 120.0),
    ("mpd", 1, 1, "one", 0.7, 80.0),
    ("mpd", 2, 0, "one", 0.8, 50.0),
    ("mpd", 2, 1, "one", 0.8, 50.0),
)


def test_training_is_paid_by_the_tokens_that_answers_save():
    found = payback(SPEED, SUMMARY, {"mpd": "student"})
    base, first, second = found.to_dicts()
    assert base == {
        "method": "base",
        "round": 0,
        "benchmark": "one",
        **dict.fromkeys(("training_seconds", "training_joules", "saved_share")),
        **dict.fromkeys(("seconds_per_percent", "joules_per_percent", "answers_to_pay_back")),
        "seconds_per_answer": 2.0,  # 200 tokens
        "seconds_per_correct": 4.0,  # half of them are right
        "joules_per_correct": 800.0,
    }
    assert first == {
        "method": "mpd",
        "round": 1,
        "benchmark": "one",
        "training_seconds": 100.0,  # (100 + 20 + 80) / 2 seeds
        "training_joules": 20_000.0,
        "saved_share": 0.5,  # 100 of 200 tokens
        "seconds_per_percent": 2.0,
        "joules_per_percent": 400.0,
        "seconds_per_answer": 1.0,
        "seconds_per_correct": pytest.approx(1 / 0.6),
        "joules_per_correct": pytest.approx(200 / 0.6),
        "answers_to_pay_back": 100.0,  # 100 s, of which each answer saves 1 s
    }
    # Round 2 needs both rounds: (200 + 100) / 2 s for 1.5 s an answer.
    assert (second["training_seconds"], second["training_joules"]) == (150.0, 30_000.0)
    assert (second["saved_share"], second["answers_to_pay_back"]) == (0.75, 100.0)


def test_samples_that_later_rounds_share_are_paid_once():
    (row,) = payback(SPEED, SUMMARY, {"mpd": "base"}).filter(round=2).to_dicts()
    assert row["training_seconds"] == 125.0  # without the 50 s of sampling again


def test_nothing_saved_is_never_paid():
    longer = SUMMARY.with_columns(
        mean_tokens=pl.when(pl.col("round") == 1).then(300.0).otherwise("mean_tokens"),
        accuracy=pl.when(pl.col("round") == 1).then(0.0).otherwise("accuracy"),
    )
    (row,) = payback(SPEED, longer, {}).filter(round=1).to_dicts()
    names = ("seconds_per_percent", "answers_to_pay_back", "seconds_per_correct")
    assert [row[name] for name in names] == [None] * 3
    assert row["saved_share"] == -0.5


@pytest.mark.parametrize(
    ("stage", "is_paid"), [("sample", False), ("answers", False), (None, True)]
)
def test_times_that_no_note_has_leave_a_dash(stage, is_paid):
    """Of a stage of training, or of the base student's answers."""
    speed = SPEED.with_columns(joules=pl.lit(None, pl.Float64))
    if stage is not None:
        lost = (pl.col("stage") == stage) & (pl.col("round") < 2)
        speed = SPEED.with_columns(device_seconds=pl.when(~lost).then("device_seconds"))
    (row,) = payback(speed, SUMMARY, {}).filter(round=1).to_dicts()
    assert (row["answers_to_pay_back"] is not None) == is_paid
    assert (row["joules_per_percent"] is None) == (stage is None)
    assert (row["training_seconds"] is None) == (stage == "sample")


def test_without_a_base_student_nothing_is_compared():
    alone = SUMMARY.filter(pl.col("method") != "base")
    found = payback(SPEED.filter(pl.col("method") != "base"), alone, {})
    assert found["saved_share"].to_list() == [None, None]
    assert found["training_seconds"].to_list() == [100.0, 150.0]
