"""Accuracy against tokens of the students of several experiments, as SVG text. No I/O."""

from typing import Any

import polars as pl

from mpd.config.base import BASE
from mpd.report.page.charts import PALETTE, by_benchmark, interval_bars, log_axis
from mpd.report.students import IS_BASE, held_out


def experiment_rows(means: pl.DataFrame) -> list[dict[str, Any]]:
    """A row for each student and benchmark; `path` is its experiment and method.

    The base student has a row of its own, and one more for each path, where its line starts.
    `means` have the column experiment, and those of `compare.means`.
    """
    shown = held_out(means)
    base, trained = shown.filter(IS_BASE), shown.filter(~IS_BASE)
    methods = trained.select("experiment", "method").unique(maintain_order=True)
    starts = base.drop("method").join(methods, on="experiment", maintain_order="left")
    named = pl.format("{}: {}", "experiment", "method")
    frames = [
        base.with_columns(kind=pl.lit(BASE), label=pl.lit(BASE)),
        trained.with_columns(kind=pl.lit("trained"), label=pl.format("{} {}", "method", "round")),
        starts.with_columns(kind=pl.lit("start"), label=pl.lit("")),
    ]
    rows = pl.concat(frames, how="diagonal").with_columns(path=named)
    return rows.sort("kind", "benchmark", "path", "round", maintain_order=True).to_dicts()


def experiments_chart(means: pl.DataFrame) -> str:
    """Accuracy against tokens, a panel for each benchmark, a colour for each experiment."""
    import altair as alt

    rows = experiment_rows(means)
    labels = means["experiment"].unique(maintain_order=True).to_list()
    colours = [PALETTE[index % len(PALETTE)] for index in range(len(labels))]
    encoded = alt.Chart().encode(
        x=log_axis(alt.X("tokens:Q"), "mean tokens per answer", padding=20),
        y=alt.Y("accuracy:Q").title("accuracy").scale(zero=False),
        color=alt.Color("experiment:N", scale=alt.Scale(domain=labels, range=colours))
        .title(None)
        .legend(symbolLimit=0, symbolOpacity=1, symbolType="circle"),
    )

    def rows_of(*kinds: str) -> alt.Chart:
        return encoded.transform_filter(alt.FieldOneOfPredicate("kind", list(kinds)))

    students = rows_of("trained", BASE)
    layers = alt.layer(
        rows_of("start", "trained")
        .mark_line(strokeDash=[4, 3], strokeWidth=1, opacity=0.6)
        .encode(order=alt.Order("round:O"), detail="path:N"),
        *interval_bars(students),
        rows_of("trained").mark_point(filled=True, size=60, opacity=1, shape="circle"),
        rows_of(BASE).mark_square(size=70, opacity=1),
        students.mark_text(align="left", dx=6, dy=-8, fontSize=10).encode(text="label:N"),
    ).properties(width=780, height=300)
    return by_benchmark(layers, rows, right=60)
