"""The report as one HTML text that opens offline. No I/O but the style sheet.

What a model or a user wrote goes in escaped.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import polars as pl

from mpd import charts
from mpd.browser_section import Section
from mpd.compare import REFERENCE, Student
from mpd.efficiency import FORMULA
from mpd.funnel import STAGES
from mpd.page_tables import (
    HEADER,
    artifacts_table,
    costs_table,
    diagnostics_table,
    difference_tables,
    difficulty_table,
    html_table,
    interval,
    intervals_note,
    means_table,
    measures_table,
    printable,
    seconds_table,
    shipping_table,
    with_minus,
)

FUNNEL_HEADER = ["method", "round", *STAGES, "tokens before", "after"]


@dataclass(frozen=True)
class Findings:
    """All that the page shows.

    `means` are those of mpd.compare, `artifacts` the counts of mpd.costs, `choice` is made by
    mpd.shipping, `contexts` are what the scorer of each method sees, `browser` is made by
    mpd.browser_section, and what follows by mpd.findings.
    """

    experiment: str
    summary: pl.DataFrame
    means: pl.DataFrame
    comparison: pl.DataFrame
    budgets: pl.DataFrame
    difficulty: pl.DataFrame
    costs: pl.DataFrame
    artifacts: Sequence[Mapping[str, Any]]
    choice: pl.DataFrame
    contexts: Mapping[str, str]
    browser: Section
    lengths: pl.DataFrame
    metrics: pl.DataFrame
    funnels: Mapping[Student, Mapping[str, Any]]
    seconds: Mapping[Student, Mapping[str, float]]
    stages: Mapping[str, Mapping[str, Sequence[str]]]
    models: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]


def page(found: Findings) -> str:
    """The whole report."""
    sections = {
        "Result": result(found),
        "Accuracy against tokens": accuracy_against_tokens(found),
        "Differences": differences(found),
        "Answer lengths": answer_lengths(found),
        "Difficulty": difficulty(found.difficulty),
        "Which round to ship": shipping(found.choice),
        "What became of the trajectories": trajectories(found.funnels),
        "Trajectories": found.browser.body,
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
{found.browser.head}
<h1>{name}</h1>
<nav>{links}</nav>
{body}</html>
"""


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def result(found: Findings) -> str:
    """From the base student to each round of mpd, else of the first method by its name."""
    trained = found.means.filter(pl.col("round") > 0)["method"].unique().sort().to_list()
    if not trained:
        return "<p>Only untrained students were evaluated.</p>"
    method = REFERENCE if REFERENCE in trained else trained[0]
    shown = charts.held_out(found.means).filter(pl.col("method").is_in(["base", method]))
    choice = found.choice.filter(method=method)
    number = shipped_most(choice) or max(shown["round"].to_list())
    cards = [
        card(benchmark, rows, found.comparison.filter(method=method, benchmark=benchmark), number)
        for (benchmark,), rows in shown.group_by("benchmark", maintain_order=True)
    ]
    ships = [f"round {own}" if own else "none, stay with base" for own in choice["round"]]
    seeds = ", ".join(
        f"seed {seed}: {own}" for seed, own in zip(choice["seed"], ships, strict=True)
    )
    return (
        f"<p>From the base student to each round of <b>{html.escape(method)}</b>: mean over "
        f"{len(ships)} seed{'s' if len(ships) > 1 else ''}, 95&nbsp;% intervals. The round to "
        f"ship, chosen on the development split: {seeds}.</p>"
        f"<div class=cards>{''.join(cards)}</div>"
    )


def shipped_most(choice: pl.DataFrame) -> int | None:
    """The round that most seeds ship, the earliest among equals; None where no seed ships one."""
    rounds = choice.filter(pl.col("round") > 0)["round"].value_counts()
    ordered = rounds.sort("count", "round", descending=[True, False])["round"]
    return int(ordered[0]) if len(ordered) else None


def card(benchmark: str, means: pl.DataFrame, comparison: pl.DataFrame, number: int) -> str:
    """A benchmark, headed by what round `number` did.

    `means` are rows of the base student and one method.
    """
    rounds = {row["round"]: row for row in means.sort("round").iter_rows(named=True)}
    change = rounds[number]["tokens"] / rounds[0]["tokens"] - 1
    rows = [
        [
            f"round {place}" if place else "base",
            interval(row, "accuracy", 3),
            interval(row, "tokens", 1),
        ]
        for place, row in rounds.items()
    ]
    paired = comparison.filter(against="base", round=number).row(0, named=True)
    gained = interval(paired, "accuracy", 3, "+")
    return (
        f"<div class=card><h3>{html.escape(benchmark)}, round {number}</h3>"
        f"<p class=big>{with_minus(f'{change:+.0%}')} tokens</p>"
        f"<p>accuracy {gained} against the base student</p>"
        f"{html_table(['student', 'accuracy', 'tokens'], rows)}</div>"
    )


def accuracy_against_tokens(found: Findings) -> str:
    return f"""\
<p>A large point is a student, its training round beside it, mean over all seeds; the bars are
95&nbsp;% intervals. A small faint point is one seed. The square is the base student. Further left
is shorter, further up is more often right.</p>
<div class=chart>{charts.students_chart(found.summary, found.means)}</div>
{benchmarks_first(found.means, means_table)}
<details><summary>Every seed, ± standard error over problems</summary>
{html_table(HEADER, printable(found.summary), text=(0, 3))}</details>
<details><summary>Every seed, further measures</summary>
<p>pass@k: the share of problems with a correct one among k samples. “Tokens, solved” are those of
correct samples, of other problems for each student; tokens per correct answer, of all samples over
the number of correct ones.</p>
{measures_table(found.summary)}</details>"""


def benchmarks_first(rows: pl.DataFrame, shown: Callable[[pl.DataFrame], str]) -> str:
    """The table of the held-out benchmarks; that of the development split folded up behind it."""
    benchmarks = charts.held_out(rows)
    if len(benchmarks) == len(rows):
        return shown(rows)
    development = shown(rows.filter(benchmark="dev"))
    return (
        f"{shown(benchmarks)}<details><summary>The development split</summary>"
        f"{development}</details>"
    )


def differences(found: Findings) -> str:
    return f"""\
<p>Paired: the same problems, the same seed. <b>Bold with a star</b> where the 95&nbsp;% interval
excludes zero, and only there. {intervals_note(found.summary["seed"].n_unique())}
“Tokens, both solve” compares correct answers on the problems that both students solve.
The accuracy-efficiency score is {html.escape(FORMULA)}. It stands beside both, never alone.</p>
{benchmarks_first(found.comparison, difference_tables)}"""


def answer_lengths(found: Findings) -> str:
    return f"""\
<p>Tokens of every answer, all seeds: the base student in grey, behind the last round of each
method.</p>
<div class=chart>{charts.histograms(found.lengths)}</div>
<h3>Under a token budget</h3>
<p>Accuracy, had every answer been cut at so many tokens: prefixes of the same answers, graded anew.
The last round of each method.</p>
<div class=chart>{charts.budget_curves(found.budgets)}</div>"""


def difficulty(bins: pl.DataFrame) -> str:
    return f"""\
<p>Problems by how often the base student solves them, over all its seeds and samples. Saved tokens
are the base student's less the student's own on the same problem. Bins are made from the base
student's own answers, and its wrong ones may be longer than others: where it seldom solves, any
student looks more accurate and shorter beside it. Compare other students with each other.</p>
{benchmarks_first(bins, difficulty_table)}"""


def shipping(choice: pl.DataFrame) -> str:
    return f"""\
<p>Chosen on the development split: the shortest of the students that are shorter than the base
student and no less accurate, but for the configured drop; among equally short ones, within the
standard error, the most accurate. Where no round is good, stay with the base student.</p>
{shipping_table(choice)}"""


def trajectories(funnels: Mapping[Student, Mapping[str, Any]]) -> str:
    """The funnel of each round."""
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
{html_table([*FUNNEL_HEADER, ("why the others were not kept", "reasons")], rows)}"""


def training(found: Findings) -> str:
    if found.metrics.is_empty():
        return "<p>Nothing was trained.</p>"
    return f"""\
<p>A line is a seed. The mass off the support is what the cache merges into its tail buckets.</p>
<div class=chart>{charts.curves(found.metrics)}</div>
<h3>What the teacher thinks of the trained completions</h3>
<p>Under the prompt that the scorer sees (“problem” is the plain one, under which the student will
answer), means over trained completions: log-probabilities in nats of all ids, of the last id, and
of the end of thinking where thinking ends, with its probability; and per token the exact divergence
of the student from the scorer before the round's training. Where the scorer finds the rewrites
unlikely, or would rather go on thinking, reverse KL works against them.</p>
{diagnostics_table(found.costs, found.contexts)}"""


def spending(found: Findings) -> str:
    return f"""\
<p>Sums over the seeds of a method. Every method is charged in full, also for what it shares with
another. Evaluation is not among the tokens. Seconds are the wall time of computing the artifacts,
also where the store already had them; those of before version 0.2 have none.</p>
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
        for stage, own in found.stages.items()
    )
    return f"""\
<p>Every artifact has the settings and the digests of its inputs beside it, in a JSON file of its
name. These are the packages that wrote this page, the models that the run started from, and the
settings of each stage.</p>
{packages}{models}{stages}"""


def _shortened(names: Sequence[str], limit: int = 4) -> str:
    more = len(names) - limit
    return "; ".join(names[:limit]) + (f"; and {more} more" if more > 0 else "")
