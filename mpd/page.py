"""The report as one HTML text that opens offline. No I/O but the style sheet.

What a model or a user wrote goes in escaped.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import polars as pl

from mpd import charts
from mpd.compare import MEASURES, REFERENCE, is_significant
from mpd.funnel import STAGES

HEADER = [
    *("method", "round", "seed", "benchmark", "problems", "samples"),
    *("accuracy", "tokens", "truncated", "no answer"),
]
Student = tuple[str, int]  # method and round


@dataclass(frozen=True)
class Findings:
    """All that the page shows.

    `means` are those of mpd.compare, `artifacts` the counts of mpd.costs, `choice` and `examples`
    are made by mpd.report, and what follows by mpd.findings.
    """

    experiment: str
    summary: pl.DataFrame
    means: pl.DataFrame
    comparison: pl.DataFrame
    costs: pl.DataFrame
    artifacts: Sequence[Mapping[str, Any]]
    choice: pl.DataFrame
    examples: pl.DataFrame
    lengths: pl.DataFrame
    metrics: pl.DataFrame
    funnels: Mapping[Student, Mapping[str, Any]]
    seconds: Mapping[Student, Mapping[str, float]]
    settings: Mapping[str, Mapping[str, Sequence[str]]]
    models: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]


def page(found: Findings) -> str:
    """The whole report."""
    sections = {
        "Result": result(found),
        "Accuracy against tokens": accuracy_against_tokens(found),
        "Differences": differences(found),
        "Answer lengths": answer_lengths(found.lengths),
        "Which round to ship": shipping(found.choice),
        "What became of the trajectories": trajectories(found.funnels),
        "What the student is trained on": trained_on(found.examples),
        "Training": training(found),
        "Costs": spending(found),
        "Where it came from": provenance(found),
    }
    links = "".join(f"<a href='#{_anchor(title)}'>{title}</a>" for title in sections)
    body = "".join(
        f"<h2 id='{_anchor(title)}'>{title}</h2>\n{text}\n" for title, text in sections.items()
    )
    name = html.escape(found.experiment)
    style = files("mpd").joinpath("assets", "page.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>MPD: {name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{style}</style>
<h1>{name}</h1>
<nav>{links}</nav>
{body}</html>
"""


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def result(found: Findings) -> str:
    """From the base student to each round of the leading method, a card for each benchmark."""
    trained = found.means.filter(pl.col("round") > 0)["method"].unique().sort().to_list()
    if not trained:
        return "<p>Only untrained students were evaluated.</p>"
    method = REFERENCE if REFERENCE in trained else trained[0]
    shown = charts.held_out(found.means).filter(pl.col("method").is_in(["base", method]))
    cards = [
        card(benchmark, rows, found.comparison.filter(method=method, benchmark=benchmark))
        for (benchmark,), rows in shown.group_by("benchmark", maintain_order=True)
    ]
    seeds = found.summary["seed"].n_unique()
    return (
        f"<p>From the base student to each round of <b>{html.escape(method)}</b>: mean over "
        f"{seeds} seed{'s' if seeds > 1 else ''}, 95&nbsp;% intervals.</p>"
        f"<div class=cards>{''.join(cards)}</div>"
    )


def card(benchmark: str, means: pl.DataFrame, comparison: pl.DataFrame) -> str:
    """The headline of one benchmark. `means` are rows of the base student and one method."""
    base = means.row(by_predicate=pl.col("method") == "base", named=True)
    last = means.sort("round").row(-1, named=True)
    change = last["tokens"] / base["tokens"] - 1
    rows = [
        [
            "base" if row["round"] == 0 else f"round {row['round']}",
            interval(row, "accuracy", 3),
            interval(row, "tokens", 1),
        ]
        for row in means.sort("round").iter_rows(named=True)
    ]
    paired = comparison.filter(against="base", round=last["round"]).row(0, named=True)
    gained = interval(paired, "accuracy", 3, "+")
    return (
        f"<div class=card><h3>{html.escape(benchmark)}, round {last['round']}</h3>"
        f"<p class=big>{_minus(f'{change:+.0%}')} tokens</p>"
        f"<p>accuracy {gained} against the base student</p>"
        f"{html_table(['student', 'accuracy', 'tokens'], rows)}</div>"
    )


def accuracy_against_tokens(found: Findings) -> str:
    return f"""\
<p>A large point is a student, its training round beside it, mean over all seeds; the bars are
95&nbsp;% intervals. A small faint point is one seed. The square is the base student. Further left
is shorter, further up is more often right.</p>
<div class=chart>{charts.students_chart(found.summary, found.means)}</div>
{means_table(found.means)}
<details><summary>Every seed, ± standard error over problems</summary>
{html_table(HEADER, printable(found.summary), text=(0, 3))}</details>"""


def differences(found: Findings) -> str:
    return f"""\
<p>Paired: the same problems, the same seed. <b>Bold with a star</b> where the 95&nbsp;% interval
excludes zero, and only there. {intervals_note(found.summary["seed"].n_unique())}
“Tokens, both solve” compares correct answers on the problems that both students solve.</p>
{difference_tables(found.comparison)}"""


def answer_lengths(lengths: pl.DataFrame) -> str:
    return f"""\
<p>Tokens of every answer, all seeds: the base student in grey, behind the last round of each
method.</p>
<div class=chart>{charts.histograms(lengths)}</div>"""


def shipping(choice: pl.DataFrame) -> str:
    return f"""\
<p>Chosen on the development split: the shortest of the students that are shorter than the base
student and no less accurate, but for the configured drop; among equally short ones, within the
standard error, the most accurate. Where no round is good, stay with the base student.</p>
{shipping_table(choice)}"""


def trajectories(funnels: Mapping[Student, Mapping[str, Any]]) -> str:
    """The funnel of each round."""
    header = ["method", "round", *STAGES, "tokens before", "after", "why the others were not kept"]
    rows: list[list[str | tuple[str, str]]] = []
    for (method, number), row in funnels.items():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in row["reasons"].items())
        counts = [f"{row[name]:,}" for name in STAGES]
        lengths = [
            "–" if row[name] is None else f"{row[name]:.1f}"
            for name in ("sample_tokens", "num_tokens")
        ]
        rows.append([method, str(number), *counts, *lengths, (reasons or "–", "reasons")])
    return f"""\
<p>Complete ones were not cut, correct ones have the right answer after rewriting, kept ones are
trained on. Tokens are means over the kept: of the trajectory, and of what is trained on.</p>
{html_table(header, rows)}"""


def trained_on(examples: pl.DataFrame) -> str:
    return f"""\
<p>Round 1: the student's own trajectory, and the teacher's rewrite of it that was kept; those
with the most typical ratio of lengths.</p>
{pairs(examples) or "<p>No rewrite was kept in this shard.</p>"}"""


def training(found: Findings) -> str:
    if found.metrics.is_empty():
        return "<p>Nothing was trained.</p>"
    return f"""\
<p>A line is a seed. The mass off the support is what the cache merges into its tail buckets.</p>
<div class=chart>{charts.curves(found.metrics)}</div>
<h3>What the teacher thinks of the trained completions</h3>
<p>Mean log-probabilities in nats, under the prompt that the teacher scores with: of all ids, of the
end of thinking where thinking ends, and of the last id.</p>
{diagnostics_table(found.costs)}"""


def spending(found: Findings) -> str:
    return f"""\
<p>Sums over the seeds of a method. Every method is charged in full, also for what it shares with
another. Evaluation is not among the tokens. Seconds are the wall time of the jobs as they last
ran: a job that linked what the store already had took about a second.</p>
{costs_table(found.costs)}
<h3>Seconds by stage</h3>
{seconds_table(found.seconds)}
<h3>Computed and linked</h3>
<p>Of the files behind this report, those that had to be computed, and those that are further links
to one of them: what branches share is computed once.</p>
{artifacts_table(found.artifacts)}"""


def provenance(found: Findings) -> str:
    """Packages, models, and the settings of every stage."""
    packages = html_table(["package", "version"], found.versions.items(), text=(0, 1))
    models = html_table(
        ["model", "digest", "weights", "token map"],
        [
            [role, *(manifest[name][:16] for name in ("digest", "weights", "token_map"))]
            for role, manifest in found.models.items()
        ],
        text=(0, 1, 2, 3),
    )
    stages = "".join(
        f"<h3>{html.escape(stage)}</h3>"
        + "".join(
            f"<details><summary>{html.escape(_shortened(students))}</summary>"
            f"<pre>{html.escape(settings)}</pre></details>"
            for settings, students in own.items()
        )
        for stage, own in found.settings.items()
    )
    return f"""\
<p>Every artifact has the settings and the digests of its inputs beside it, in a JSON file of its
name. These are the packages that wrote this page, the models that the run started from, and the
settings of each stage.</p>
{packages}{models}{stages}"""


def _shortened(names: Sequence[str], limit: int = 4) -> str:
    more = len(names) - limit
    return "; ".join(names[:limit]) + (f"; and {more} more" if more > 0 else "")


def seconds_table(seconds: Mapping[Student, Mapping[str, float]]) -> str:
    stages = list(dict.fromkeys(stage for own in seconds.values() for stage in own))
    rows = [
        [method, str(number), *(_number(own.get(stage)) for stage in stages)]
        for (method, number), own in seconds.items()
    ]
    return html_table(["method", "round", *stages], rows)


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


def pairs(examples: pl.DataFrame) -> str:
    """Trajectories beside their rewrites."""
    return "".join(
        f"<h3>{html.escape(row['question'])} <small>answer: {html.escape(row['gold'])}</small></h3>"
        f"<div class=pair><div><b>student, {row['sample_tokens']} tokens</b>"
        f"<pre>{html.escape(row['sample_text'])}</pre></div>"
        f"<div><b>teacher's rewrite, {row['num_tokens']} tokens</b>"
        f"<pre>{html.escape(row['text'])}</pre></div></div>"
        for row in examples.iter_rows(named=True)
    )
