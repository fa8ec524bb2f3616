"""The figures of the report as SVG text, by Vega-Altair. No I/O.

Text and lines take the page's colours (page.css), so that they can be read in the dark too.
"""

from collections.abc import Iterable
from typing import Any

import polars as pl

from mpd.config.base import BASE
from mpd.report.series import CURVES, chart_rows, curve_rows, histogram_rows
from mpd.report.students import held_out, in_order, last_rounds

# Tableau's ten colours without its grey, which stands for the base student.
PALETTE = ["#4c78a8", "#f58518", "#e45756", "#72b7b2", "#54a24b", "#b279a2"]
PALETTE += ["#9d755d", "#ff9da6", "#d6a81d", "#6b6bd6"]
GREY = "#888888"


def distinguishable(rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """The rows of the base student and of as many methods as there are colours, and a title.

    It is for lines, which have no room for names. The title says how many methods are drawn; it is
    empty where all are.
    """
    methods = in_order({*rows["method"]} - {BASE})
    if len(methods) <= len(PALETTE):
        return rows, ""
    drawn = methods[: len(PALETTE)]
    title = f"{len(drawn)} of {len(methods)} methods: {drawn[0]}, and the first others by name"
    return rows.filter(pl.col("method").is_in([BASE, *drawn])), title


def _colours(methods: Iterable[str], with_base: bool) -> Any:
    """The colour of each method, the same in every figure; the base student is grey."""
    import altair as alt

    ordered = in_order(methods)
    colours = [PALETTE[index % len(PALETTE)] for index in range(len(ordered))]
    base_name, base_colour = ([BASE], [GREY]) if with_base else ([], [])
    return alt.Scale(domain=[*base_name, *ordered], range=[*base_colour, *colours])


def log_axis(channel: Any, title: str, **scale: Any) -> Any:
    """An axis on which half as many tokens is one step to the left, wherever it starts."""
    titled = channel.title(f"{title} (log scale)")
    return titled.scale(type="log", base=2, nice=False, **scale)


def svg(figure: Any, title: str = "") -> str:
    """A figure as SVG text, in the colours of the page."""
    import vl_convert

    titled = figure.properties(title=title) if title else figure
    plain = titled.configure(background="transparent").configure_view(stroke="#8884")
    return vl_convert.vegalite_to_svg(plain.to_json())


def students_chart(summary: pl.DataFrame, means: pl.DataFrame) -> str:
    """Accuracy against tokens, a panel for each benchmark."""
    import altair as alt

    rows = chart_rows(summary, means, len(PALETTE))
    methods = {row["method"] for row in rows} - {BASE}
    tokens = log_axis(alt.X("tokens:Q"), "mean tokens per answer", padding=20)
    accuracy = alt.Y("accuracy:Q").title("accuracy").scale(zero=False).axis(titlePadding=14)
    colour = alt.Color("method:N", scale=_colours(methods, True)).title(None)
    encoded = alt.Chart().encode(
        x=tokens, y=accuracy, color=colour.legend(symbolOpacity=1, symbolLimit=0)
    )

    def rows_of(*kinds: str) -> alt.Chart:
        return encoded.transform_filter(alt.FieldOneOfPredicate("kind", list(kinds)))

    students = rows_of("mean", BASE)
    layers = alt.layer(
        rows_of("seed").mark_point(filled=True, size=22, opacity=0.35),
        rows_of("start", "mean")
        .mark_line(strokeDash=[4, 3], strokeWidth=1, opacity=0.6)
        .encode(order=alt.Order("round:O")),
        *interval_bars(students),
        rows_of("mean").mark_point(filled=True, size=60, opacity=1),
        rows_of(BASE).mark_square(size=70, opacity=1),
        rows_of("mean").mark_text(align="left", dx=6, dy=-8, fontSize=10).encode(text="label:N"),
    ).properties(width=780, height=340)
    return by_benchmark(layers, rows, right=40)


def interval_bars(students: Any) -> list[Any]:
    """The intervals of accuracy and of tokens of each student, as layers."""
    import altair as alt

    bars = students.mark_rule(strokeWidth=1.5)
    return [
        bars.encode(y=alt.Y("accuracy_low:Q").title(""), y2="accuracy_high:Q"),
        bars.encode(x=alt.X("tokens_low:Q").title(""), x2="tokens_high:Q"),
    ]


def by_benchmark(layers: Any, rows: list[dict[str, Any]], right: int) -> str:
    """A panel for each benchmark, as SVG text; `right` is room for long names, in pixels."""
    import altair as alt

    # Altair hashes the data into the chart; rows go in as plain values.
    return svg(
        alt.FacetChart(
            data=alt.Data(values=rows),
            spec=layers,
            facet=alt.Facet("benchmark:N").title(None),
            columns=1,
            padding={"left": 5, "top": 5, "right": right, "bottom": 5},
        )
    )


def histograms(lengths: pl.DataFrame) -> str:
    """Tokens per answer of the base student and after the last round of each method."""
    import altair as alt

    panel = pl.format("{}, {}", "method", "benchmark")
    rows = histogram_rows(lengths).with_columns(panel=panel)
    bars = (
        alt.Chart(alt.Data(values=rows.to_dicts()))
        .mark_bar(opacity=0.7, orient="vertical")
        .encode(
            x=log_axis(alt.X("low:Q").axis(labelSeparation=6), "tokens per answer"),
            x2="high:Q",
            y=alt.Y("share:Q").title("share of answers").axis(format="%", tickCount=3).stack(None),
            y2=alt.datum(0),
            color=alt.Color(
                "student:N", scale=alt.Scale(domain=[BASE, "last round"], range=[GREY, "#4c78a8"])
            ).title(None),
        )
        .properties(width=360, height=90)
    )
    return svg(bars.facet(alt.Facet("panel:N").title(None), columns=2))


def budget_curves(budgets: pl.DataFrame) -> str:
    """Accuracy under token budgets, of the base student and the last round of each method."""
    import altair as alt

    rows, title = distinguishable(last_rounds(held_out(budgets)))
    methods = {*rows["method"]} - {BASE}
    encoded = alt.Chart().encode(
        x=log_axis(alt.X("budget:Q"), "token budget"),
        color=alt.Color("method:N", scale=_colours(methods, True))
        .title(None)
        # Else the symbols are those of the areas, too faint to be distinguished.
        .legend(symbolLimit=0, symbolType="stroke", symbolOpacity=1),
    )
    accuracy = alt.Y("accuracy:Q").title("accuracy")
    layers = alt.layer(
        encoded.mark_area(opacity=0.12).encode(
            y=alt.Y("accuracy_low:Q").title("accuracy"), y2="accuracy_high:Q"
        ),
        encoded.mark_line(strokeWidth=1.5).encode(y=accuracy),
    ).properties(width=360, height=180)
    return svg(
        alt.FacetChart(
            data=alt.Data(values=rows.to_dicts()),
            spec=layers,
            facet=alt.Facet("benchmark:N").title(None),
            columns=2,
        ),
        title,
    )


def training_curves(metrics: pl.DataFrame) -> str:
    """What training measured at each step, a panel for each measure; a line for each seed."""
    import altair as alt

    shown, title = distinguishable(metrics)
    rows = curve_rows(shown).with_columns(pl.col("measure").replace_strict(CURVES))
    lines = (
        alt.Chart(alt.Data(values=rows.to_dicts()))
        .mark_line(strokeWidth=1.2, opacity=0.75)
        .encode(
            x=alt.X("tokens:Q").title("completion tokens trained on").axis(tickCount=4),
            # Room for the longest labels, so that panels are aligned.
            y=alt.Y("value:Q").title(None).axis(tickCount=4, minExtent=44),
            color=alt.Color("method:N", scale=_colours(shown["method"].unique(), False))
            .title(None)
            .legend(symbolLimit=0),
            strokeDash=alt.StrokeDash("round:O").title("round"),
            detail="seed:N",
        )
        .properties(width=360, height=120)
    )
    facet = alt.Facet("measure:N", sort=list(CURVES.values())).title(None)
    return svg(lines.facet(facet, columns=2).resolve_scale(y="independent"), title)
