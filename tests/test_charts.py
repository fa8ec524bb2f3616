"""The rows behind the figures; what is drawn of them is looked at in the page."""

import re

import polars as pl
import pytest

from mpd.reporting.page import charts

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
        **{name: 0.5 for name in charts.CURVES if name != "think_close_mass"},
        "think_close_mass": [None] * 130 + [0.25, 0.75],
    }
).with_columns(loss_token_mean=pl.col("step") * 1.0)


def test_histograms_are_of_the_base_student_and_of_each_last_round():
    bins = charts.histogram_rows(LENGTHS).rows()
    root = 2 ** (1 / charts.BINS_PER_DOUBLING)
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
    rows = charts.curve_rows(METRICS)
    loss = rows.filter(measure="loss_token_mean", seed=0)
    # 130 steps in at most 60 pieces: three steps each, and one in the last.
    assert loss["value"].to_list() == [3.0 * piece + 2 for piece in range(43)] + [130.0]
    assert loss["tokens"].to_list() == [30 * (piece + 1) for piece in range(43)] + [1300]
    assert rows.filter(measure="loss_token_mean", seed=1)["value"].to_list() == [1.0, 2.0]


def test_a_curve_without_values_is_not_drawn():
    rows = charts.curve_rows(METRICS)
    assert rows.filter(measure="think_close_mass").select("seed", "value").rows() == [
        (1, 0.25),
        (1, 0.75),
    ]


def test_chart_draws_every_student_and_every_seed():
    from test_page import MEANS, SUMMARY

    rows = charts.chart_rows(SUMMARY, MEANS)
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


def test_last_rounds_are_of_each_method():
    assert charts.last_rounds(LENGTHS)["round"].to_list() == [0] * 4 + [2] * 4 + [1, 2]


def test_figures_take_the_colours_of_the_page():
    for figure in (charts.histograms(LENGTHS), charts.curves(METRICS)):
        assert figure.startswith("<svg")
        assert 'fill="white"' not in figure


def test_of_more_methods_than_colours_each_is_named():
    from test_page import MEANS, SUMMARY

    def many(frame):
        own = frame.filter(method="opd", benchmark="one")
        names = [f"row-{number:02d}" for number in range(31)]
        return pl.concat([frame, *(own.with_columns(method=pl.lit(name)) for name in names)])

    few = charts.chart_rows(SUMMARY, MEANS)
    assert {row["label"] for row in few if row["kind"] == "mean"} == {"1"}
    rows = charts.chart_rows(many(SUMMARY), many(MEANS))
    labels = [row["label"] for row in rows if row["kind"] == "mean"]
    assert (len(labels), labels[0], labels[-1]) == (33, "mpd 1", "row-30 1")
    figure = charts.students_chart(many(SUMMARY), many(MEANS))
    assert figure.count(">row-30</text>") == figure.count(">row-30 1</text>") == 1
    assert "entries</text>" not in figure  # what a legend says of those it leaves out


def with_many(frame, names):
    """A frame with its rows of mpd once more for each name."""
    own = frame.filter(method="mpd")
    return pl.concat([frame, *(own.with_columns(method=pl.lit(name)) for name in names)])


def test_lines_are_of_no_more_methods_than_can_be_told_apart():
    from test_page import BUDGETS

    names = [f"row-{number:02d}" for number in range(30)]
    title = "10 of 31 methods: mpd, and the first others by name"
    metrics = with_many(METRICS, names)
    shown, found = charts.told_apart(metrics)
    assert (found, charts.in_order(shown["method"].unique())) == (title, ["mpd", *names[:9]])
    budgets = with_many(BUDGETS.filter(pl.col("method") != "opd"), names)
    shown, _ = charts.told_apart(budgets)
    assert sorted(shown["method"].unique()) == ["base", "mpd", *names[:9]]
    for figure in (charts.curves(metrics), charts.budget_curves(budgets)):
        assert figure.count(f">{title}</text>") == 1
        assert figure.count(">row-08</text>") == 1
        assert ">row-09</text>" not in figure
        symbols = re.findall(r'role-legend-symbol".*?<path[^>]* opacity="([^"]*)"', figure)
        assert min(map(float, symbols)) > 0.5  # not as faint as an area


def test_ten_methods_are_all_drawn_and_the_figure_needs_no_title():
    metrics = with_many(METRICS, [f"row-{number}" for number in range(9)])
    shown, title = charts.told_apart(metrics)
    assert (len(shown), title) == (len(metrics), "")
    assert all(f'stroke="{colour}"' in charts.curves(metrics) for colour in charts.PALETTE)


def test_the_reference_has_the_first_colour_and_the_first_method_where_it_is_missing():
    assert charts.in_order(["kl", "mpd", "opd"]) == ["mpd", "kl", "opd"]
    assert charts.in_order(["opd", "kl"]) == ["kl", "opd"]
