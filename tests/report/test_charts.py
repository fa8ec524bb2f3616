"""The figures; what is drawn is looked at in the page."""

import re

import polars as pl

from mpd.report import series, students
from mpd.report.page import charts
from tests.report.test_series import LENGTHS, METRICS


def test_figures_take_the_colours_of_the_page():
    for figure in (charts.histograms(LENGTHS), charts.training_curves(METRICS)):
        assert figure.startswith("<svg")
        assert 'fill="white"' not in figure


def test_of_more_methods_than_colours_each_is_named():
    from tests.report.test_page import MEANS, SUMMARY

    def many(frame):
        own = frame.filter(method="opd", benchmark="one")
        names = [f"row-{number:02d}" for number in range(31)]
        return pl.concat([frame, *(own.with_columns(method=pl.lit(name)) for name in names)])

    few = series.chart_rows(SUMMARY, MEANS, 10)
    assert {row["label"] for row in few if row["kind"] == "mean"} == {"1"}
    rows = series.chart_rows(many(SUMMARY), many(MEANS), 10)
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
    from tests.report.test_page import BUDGETS

    names = [f"row-{number:02d}" for number in range(30)]
    title = "10 of 31 methods: mpd, and the first others by name"
    metrics = with_many(METRICS, names)
    shown, found = charts.distinguishable(metrics)
    assert (found, students.in_order(shown["method"].unique())) == (title, ["mpd", *names[:9]])
    budgets = with_many(BUDGETS.filter(pl.col("method") != "opd"), names)
    shown, _ = charts.distinguishable(budgets)
    assert sorted(shown["method"].unique()) == ["base", "mpd", *names[:9]]
    for figure in (charts.training_curves(metrics), charts.budget_curves(budgets)):
        assert figure.count(f">{title}</text>") == 1
        assert figure.count(">row-08</text>") == 1
        assert ">row-09</text>" not in figure
        symbols = re.findall(r'role-legend-symbol".*?<path[^>]* opacity="([^"]*)"', figure)
        assert min(map(float, symbols)) > 0.5  # not as faint as an area


def test_ten_methods_are_all_drawn_and_the_figure_needs_no_title():
    metrics = with_many(METRICS, [f"row-{number}" for number in range(9)])
    shown, title = charts.distinguishable(metrics)
    assert (len(shown), title) == (len(metrics), "")
    assert all(f'stroke="{colour}"' in charts.training_curves(metrics) for colour in charts.PALETTE)


def test_the_reference_has_the_first_colour_and_the_first_method_where_it_is_missing():
    assert students.in_order(["kl", "mpd", "opd"]) == ["mpd", "kl", "opd"]
    assert students.in_order(["opd", "kl"]) == ["kl", "opd"]
