"""The report as one HTML text that opens offline: figures as SVG, tables, trajectories.

What a model or a user wrote goes in escaped.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from mpd.browser_section import Section
from mpd.compare import MEASURES, is_significant

HEADER = [
    *("method", "round", "seed", "benchmark", "problems", "samples"),
    *("accuracy", "tokens", "truncated", "no answer"),
]
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
p { max-width: 46rem }
.wide { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
td, th { padding: .2rem .5rem; text-align: right; white-space: nowrap; vertical-align: bottom }
th { white-space: normal }
td.text, th.text { text-align: left }
tr:nth-child(even) { background: #8881 }
td.clear { font-weight: 600 }
td.unclear { opacity: .65 }
.chart svg { background: white; max-width: 100%; height: auto }
"""


def page(
    experiment: str,
    summary: pl.DataFrame,
    means: pl.DataFrame,
    comparison: pl.DataFrame,
    costs: pl.DataFrame,
    artifacts: Sequence[Mapping[str, Any]],
    choice: pl.DataFrame,
    trajectories: Section,
) -> str:
    """The whole report. `means` are those of mpd.compare, `artifacts` the counts of mpd.costs,
    `trajectories` the browser."""
    num_seeds = summary["seed"].n_unique()
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>MPD: {html.escape(experiment)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{STYLE}</style>
{trajectories.head}
<h1>{html.escape(experiment)}</h1>
<h2>Accuracy against tokens</h2>
<p>A large point is a student, its training round beside it, mean over all seeds; the bars are
95&nbsp;% intervals. A small faint point is one seed. The square is the base student. Further left
is shorter, further up is more often right.</p>
<div class=chart>{chart(summary, means)}</div>
{means_table(means)}
<details><summary>Every seed, ± standard error over problems</summary>
{html_table(HEADER, printable(summary), text=(0, 3))}</details>
<h2>Differences</h2>
<p>Paired: the same problems, the same seed. <b>Bold with a star</b> where the 95&nbsp;% interval
excludes zero, and only there. {intervals_note(num_seeds)}
“Tokens, both solve” compares correct answers on the problems that both students solve.</p>
{difference_tables(comparison)}
<h2>Which round to ship</h2>
<p>Chosen on the development split: the shortest of the students that are shorter than the base
student and no less accurate, but for the configured drop; among equally short ones, within the
standard error, the most accurate. Where no round is good, stay with the base student.</p>
{shipping_table(choice)}
<h2>Costs</h2>
<p>Sums over the seeds of a method. Every method is charged in full, also for what it shares with
another. Evaluation is not among the tokens. Seconds are the wall time of the jobs as they last
ran: a job that linked what the store already had took about a second.</p>
{costs_table(costs)}
<h2>What the teacher thinks of the trained completions</h2>
<p>Mean log-probabilities in nats, under the prompt that the teacher scores with: of all ids, of the
end of thinking where thinking ends, and of the last id.</p>
{diagnostics_table(costs)}
<h2>Computed and linked</h2>
<p>Of the files behind this report, those that had to be computed, and those that are further links
to one of them: what branches share is computed once.</p>
{artifacts_table(artifacts)}
{trajectories.body}
</html>
"""


def html_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str | tuple[str, str]]],
    text: Sequence[int] = (0,),
) -> str:
    """A table of cells: text, or text and the name of a class. `text`: columns on the left."""

    def cell(tag: str, column: int, content: str | tuple[str, str]) -> str:
        shown, name = content if isinstance(content, tuple) else (content, "")
        name = "text" if column in text else name
        return f"<{tag}{f' class={name}' if name else ''}>{html.escape(shown)}</{tag}>"

    def line(tag: str, cells: Sequence[str | tuple[str, str]]) -> str:
        return f"<tr>{''.join(cell(tag, *numbered) for numbered in enumerate(cells))}</tr>"

    body = "".join(line("td", cells) for cells in rows)
    return f"<div class=wide><table>{line('th', header)}{body}</table></div>"


def printable(summary: pl.DataFrame) -> list[list[str]]:
    """The cells of the table of every seed."""
    return [
        [
            row["method"],
            str(row["round"]),
            str(row["seed"]),
            row["benchmark"],
            str(row["num_problems"]),
            str(row["num_samples"]),
            f"{row['accuracy']:.3f} ± {row['accuracy_se']:.3f}",
            f"{row['mean_tokens']:.1f} ± {row['mean_tokens_se']:.1f}",
            f"{row['truncation_rate']:.1%}",
            f"{row['no_answer_rate']:.1%}",
        ]
        for row in summary.iter_rows(named=True)
    ]


def shipping_lines(choice: pl.DataFrame) -> list[str]:
    """One sentence for each branch."""
    return [
        f"{method}, seed {seed}: "
        + (f"round {number}" if number else "none; stay with the base student")
        for method, seed, number in choice.select("method", "seed", "round").iter_rows()
    ]


def shipping_table(choice: pl.DataFrame) -> str:
    """The round to ship by method and seed."""
    seeds = choice["seed"].unique().sort().to_list()
    rounds = {(method, seed): number for method, seed, number in choice.iter_rows()}
    rows = [
        [
            method,
            *(
                f"round {number}" if (number := rounds.get((method, seed))) else "base"
                for seed in seeds
            ),
        ]
        for method in choice["method"].unique(maintain_order=True)
    ]
    return html_table(["method", *(f"seed {seed}" for seed in seeds)], rows)


def interval(row: Mapping[str, Any], measure: str, digits: int, sign: str = "") -> str:
    """Value and interval as text; a dash where there is none."""
    if row[f"{measure}_low"] is None:
        return "–"
    ends = (row[measure], row[f"{measure}_low"], row[f"{measure}_high"])
    value, low, high = (_minus(f"{number:{sign},.{digits}f}") for number in ends)
    return f"{value} [{low}, {high}]"


def _minus(number: str) -> str:
    return number.replace("-", "−")


def intervals_note(num_seeds: int) -> str:
    """How far the intervals can be trusted, by the number of seeds."""
    if num_seeds == 1:
        return (
            "With one seed the intervals are by bootstrap over problems: they say nothing about "
            "how another seed would come out."
        )
    # Percentile bootstrap of S values: it cannot leave their range, and all S lie on one side
    # of the truth with probability 2 / 2^S.
    return (
        f"Intervals are by bootstrap, {num_seeds} seeds as the outer level, problems within. So "
        "few seeds make them narrow: for differences between seeds alone they hold the true "
        f"value at most {1 - 2 ** (1 - num_seeds):.0%} of the time."
    )


def means_table(means: pl.DataFrame) -> str:
    header = ["benchmark", "method", "round", "seeds", "accuracy", "tokens"]
    rows = [
        [
            *(row["benchmark"], row["method"], str(row["round"]), str(row["num_seeds"])),
            *(interval(row, "accuracy", 3), interval(row, "tokens", 1)),
        ]
        for row in means.iter_rows(named=True)
    ]
    return html_table(header, rows, text=(0, 1))


def difference_tables(comparison: pl.DataFrame) -> str:
    """A table for each of what is subtracted."""
    header = ["benchmark", "method", "round", "seeds"]
    header += ["accuracy", "tokens", "tokens, both solve", "both solve"]
    titles = {"base": "to the base student", "mpd": "to mpd of the same round"}
    shown = ""
    for against, title in titles.items():
        rows = [
            [row["benchmark"], row["method"], str(row["round"]), str(row["num_seeds"])]
            + [difference(row, measure) for measure in MEASURES]
            + [f"{row['num_solved']:,}"]
            for row in comparison.filter(against=against).iter_rows(named=True)
        ]
        if rows:
            shown += f"<h3>{title}</h3>{html_table(header, rows, text=(0, 1))}"
    return shown or "<p>Only the base student was evaluated.</p>"


def difference(row: Mapping[str, Any], measure: str) -> tuple[str, str]:
    """A difference as a cell, marked where its interval excludes zero."""
    shown = interval(row, measure, 3 if measure == "accuracy" else 1, "+")
    return (f"{shown} *", "clear") if is_significant(row, measure) else (shown, "unclear")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def costs_table(costs: pl.DataFrame) -> str:
    columns = {
        "num_seeds": "seeds",
        "num_samples": "samples",
        "student_tokens": "generated by student",
        "teacher_tokens": "generated by teacher",
        "scored_tokens": "scored",
        "kept_rows": "kept",
        "num_steps": "steps",
        "trained_tokens": "trained tokens",
        "wall_seconds": "seconds",
        "evaluation_seconds": "evaluation seconds",
    }
    rows = [
        [row["method"], str(row["round"]), *(_number(row[name]) for name in columns)]
        for row in costs.iter_rows(named=True)
    ]
    return html_table(["method", "round", *columns.values()], rows)


def diagnostics_table(costs: pl.DataFrame) -> str:
    columns = {
        "mean_teacher_logprob": "all ids",
        "think_close_logprob": "end of thinking",
        "stop_logprob": "last id",
    }
    rows = [
        [row["method"], str(row["round"]), f"{row['share_kept']:.1%}"]
        + ["–" if row[name] is None else _minus(f"{row[name]:.2g}") for name in columns]
        for row in costs.iter_rows(named=True)
    ]
    return html_table(["method", "round", "share kept", *columns.values()], rows)


def artifacts_table(artifacts: Sequence[Mapping[str, Any]]) -> str:
    counts = ("files", "computed", "linked")
    whole = {"kind": "all", **{name: sum(row[name] for row in artifacts) for name in counts}}
    rows = [[row["kind"], *(str(row[name]) for name in counts)] for row in (*artifacts, whole)]
    return html_table(["kind", *counts], rows)


def chart_rows(summary: pl.DataFrame, means: pl.DataFrame) -> list[dict[str, Any]]:
    """What the chart draws: a row for each student (kind mean or base) and each seed of it.

    The base student is a row of its own, and once more (kind start) at the start of the line of
    each method. The development split is left out where there is a benchmark.
    """
    held_out = means.filter(pl.col("benchmark") != "dev")
    names = held_out["benchmark"].unique() if len(held_out) else pl.Series(["dev"])
    shown = means.filter(pl.col("benchmark").is_in(names.implode()))
    is_base = pl.col("method") == "base"
    base = shown.filter(is_base)
    methods = shown.filter(~is_base)["method"].unique().sort()
    rows = [
        base.with_columns(kind=pl.lit("base")),
        shown.filter(~is_base).with_columns(kind=pl.lit("mean")),
        *(base.with_columns(kind=pl.lit("start"), method=pl.lit(name)) for name in methods),
        summary.filter(pl.col("benchmark").is_in(names.implode())).select(
            "method", "round", "benchmark", "accuracy", tokens="mean_tokens", kind=pl.lit("seed")
        ),
    ]
    return pl.concat(rows, how="diagonal").sort("kind", "benchmark", "method", "round").to_dicts()


def chart(summary: pl.DataFrame, means: pl.DataFrame) -> str:
    """Accuracy against tokens, a panel for each benchmark, as SVG text."""
    import altair as alt
    import vl_convert

    rows = chart_rows(summary, means)
    methods = sorted({row["method"] for row in rows} - {"base"})
    # Tableau's ten colours without its grey, which is near to the base student's black.
    palette = ["#4c78a8", "#f58518", "#e45756", "#72b7b2", "#54a24b", "#b279a2"]
    palette += ["#9d755d", "#ff9da6", "#d6a81d", "#3b3b98"]
    colours = ["black", *(palette[number % len(palette)] for number in range(len(methods)))]
    scale = alt.Scale(domain=["base", *methods], range=colours)
    # Logarithmic: half as many tokens is one step to the left, wherever it starts.
    tokens = alt.X("tokens:Q").title("mean tokens per answer, logarithmic")
    tokens = tokens.scale(type="log", base=2, nice=False, padding=20)
    accuracy = alt.Y("accuracy:Q").title("accuracy").scale(zero=False).axis(titlePadding=14)
    encoded = alt.Chart().encode(
        x=tokens,
        y=accuracy,
        color=alt.Color("method:N", scale=scale).title(None).legend(symbolOpacity=1),
    )

    def of(*kinds: str) -> alt.Chart:
        return encoded.transform_filter(alt.FieldOneOfPredicate("kind", list(kinds)))

    students = of("mean", "base")
    layers = alt.layer(
        of("seed").mark_point(filled=True, size=22, opacity=0.35),
        of("start", "mean")
        .mark_line(strokeDash=[4, 3], strokeWidth=1, opacity=0.6)
        .encode(order=alt.Order("round:O")),
        students.mark_rule(strokeWidth=1.5).encode(
            y=alt.Y("accuracy_low:Q").title(""), y2="accuracy_high:Q"
        ),
        students.mark_rule(strokeWidth=1.5).encode(
            x=alt.X("tokens_low:Q").title(""), x2="tokens_high:Q"
        ),
        of("mean").mark_point(filled=True, size=60, opacity=1),
        of("base").mark_square(size=70, opacity=1),
        of("mean").mark_text(dx=9, dy=-8, fontSize=10).encode(text="round:O"),
    ).properties(width=780, height=360)
    # Altair hashes the data into the chart; rows go in as plain values.
    figure = alt.FacetChart(
        data=alt.Data(values=rows),
        spec=layers,
        facet=alt.Facet("benchmark:N").title(None),
        columns=1,
        padding={"left": 5, "top": 5, "right": 40, "bottom": 5},  # room for long names
    )
    return vl_convert.vegalite_to_svg(figure.to_json())
