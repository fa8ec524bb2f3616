"""The rows behind the figures; what is drawn of them is looked at in the page."""

import polars as pl
import pytest

from mpd.report import series, students

LENGTHS = pl.DataFrame(
    {
        "method": ["base"] * 4 + ["mpd"] * 5 + ["opd", "mpd"],
        "round": [0] * 4 + [1] + [2] * 4 + [1, 2],
        "benchmark": ["one"] * 10 + ["dev"],
        "num_tokens": [64, 70, 128, 255, 99, 16, 16, 17, 0, 40, 1000],
    }
)
METRICS = pl.DataFrame(
    {
        "method": "mpd",
        "round": 1,
        "seed": [0] * 130 + [1] * 2,
        "step": [*range(1, 131), 1, 2],
        "tokens_seen": [*range(10, 1310, 10), 7, 9],
        **{name: 0.5 for name in series.CURVES if name != "think_close_mass"},
        "think_close_mass": [None] * 130 + [0.25, 0.75],
    }
).with_columns(loss_token_mean=pl.col("step") * 1.0)


def test_histograms_are_of_the_base_student_and_of_each_last_round():
    bins = series.histogram_rows(LENGTHS).rows()
    root = 2 ** (1 / series.BINS_PER_DOUBLING)
    base = [("base", 64.0, 0.5), ("base", 128.0, 0.25), ("base", 2**7.75, 0.25)]
    last = [("last round", 16.0, 1.0)]  # an answer that never was has no length
    (low,) = {row[3] for row in bins if row[0] == "opd" and row[2] == "last round"}
    assert low <= 40 < low * root
    expected = [("mpd", "one", *row) for row in base + last]
    expected += [("opd", "one", *row) for row in [*base, ("last round", low, 1.0)]]
    found = [(method, name, student, low, share) for method, name, student, low, _, share in bins]
    assert found == expected
    assert all(high == pytest.approx(low * root) for *_, low, high, _ in bins)


def test_curves_are_means_over_neighbouring_steps():
    rows = series.curve_rows(METRICS)
    loss = rows.filter(measure="loss_token_mean", seed=0)
    # 130 steps in at most 60 pieces: three steps each, and one in the last.
    assert loss["value"].to_list() == [3.0 * piece + 2 for piece in range(43)] + [130.0]
    assert loss["tokens"].to_list() == [30 * (piece + 1) for piece in range(43)] + [1300]
    assert rows.filter(measure="loss_token_mean", seed=1)["value"].to_list() == [1.0, 2.0]


def test_a_curve_without_values_is_not_drawn():
    rows = series.curve_rows(METRICS)
    assert rows.filter(measure="think_close_mass").select("seed", "value").rows() == [
        (1, 0.25),
        (1, 0.75),
    ]


def test_chart_draws_every_student_and_every_seed():
    from tests.report.test_page import MEANS, SUMMARY

    rows = series.chart_rows(SUMMARY, MEANS, 10)
    drawn = [(row["kind"], row["method"], row["round"]) for row in rows]
    students = [("base", 0), ("mpd", 1), ("opd", 1)]
    assert drawn == [
        ("base", "base", 0),
        ("mean", "mpd", 1),
        ("mean", "opd", 1),
        *(("seed", *student) for student in students),
        ("start", "mpd", 0),
        ("start", "opd", 0),
    ]
    assert {row["benchmark"] for row in rows} == {"one"}
    assert [row["tokens"] for row in rows if row["kind"] == "seed"] == [1234.56, 60.0, 70.0]


def test_students_in_one_place_have_one_label():
    from tests.report.test_page import MEANS, SUMMARY

    own = MEANS.filter(method="mpd", benchmark="one")
    changes = {2: {}, 3: {"accuracy": 0.853}, 4: {"accuracy": 0.9}, 5: {"tokens": 70.0}}
    others = [
        own.with_columns(
            pl.lit(number, pl.Int32).alias("round"),
            **{name: pl.lit(value) for name, value in change.items()},
        )
        for number, change in changes.items()
    ]
    rows = series.chart_rows(SUMMARY, pl.concat([*others, MEANS]), 10)
    labels = [row["label"] for row in rows if row["kind"] == "mean" and row["method"] == "mpd"]
    assert labels == ["1, 2, 3", "", "", "4", "5"]


def test_last_rounds_are_of_each_method():
    assert students.last_rounds(LENGTHS)["round"].to_list() == [0] * 4 + [2] * 4 + [1, 2]
