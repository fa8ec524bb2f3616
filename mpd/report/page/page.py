"""The report as one HTML text that opens offline. No I/O but templates and assets.

Here is what the templates are given: the entries of contents.py, and the data of sections that have
templates of their own. The templates give the markup, and escape it all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl
from markupsafe import Markup

from mpd.report import browser_section
from mpd.report.compare import REFERENCE, Student
from mpd.report.efficiency import FORMULA
from mpd.report.page import markup, tables
from mpd.report.page.cells import Grid, Split, by_split, grid, interval, with_minus
from mpd.report.page.contents import FIGURES, SECTIONS, TABLES, Figure, Table
from mpd.report.series import held_out


@dataclass(frozen=True)
class Findings:
    """All that the page shows.

    Of the modules of mpd.report, `means` are those of compare, `artifacts` the counts of costs,
    `choice` is made by shipping, `browser` by browser_section, and what follows by findings.
    `contexts` are what the scorer of each method sees.
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
    browser: browser_section.Section
    lengths: pl.DataFrame
    metrics: pl.DataFrame
    funnels: Mapping[Student, Mapping[str, Any]]
    seconds: Mapping[Student, Mapping[str, float]]
    stages: Mapping[str, Mapping[str, Sequence[str]]]
    models: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]


class Card(NamedTuple):
    """A benchmark of the result, as texts, and a table of its rounds."""

    title: str
    tokens: str
    accuracy: str
    rounds: Grid


class Result(NamedTuple):
    """From the base student to each round of one method; `shipped` by seed."""

    method: str
    num_seeds: int
    shipped: str
    cards: list[Card]


class Section(NamedTuple):
    """A section, its entries with what came of them, and the template of the rest, if any."""

    title: str
    anchor: str
    figures: list[tuple[Figure, Markup]]
    tables: list[tuple[Table, Split]]
    template: str | None


def page(findings: Findings) -> str:
    """The whole report."""
    return markup.rendered(
        "page.html",
        experiment=findings.experiment,
        sections=[section(title, findings) for title in SECTIONS],
        result=result(findings),
        differences=by_split(findings.comparison, tables.difference_tables),
        intervals_note=tables.intervals_note(findings.summary["seed"].n_unique()),
        formula=FORMULA,
        browser=findings.browser,
        stages={
            stage: {settings: shortened(students) for settings, students in groups.items()}
            for stage, groups in findings.stages.items()
        },
    )


def section(title: str, findings: Findings) -> Section:
    """A section of the contents, without the entries that have nothing to show."""

    def read(entry: Figure | Table) -> list[Any]:
        return [getattr(findings, name) for name in entry.reads]

    entries = [entry for entry in (*FIGURES, *TABLES) if entry.section == title]
    entries = [entry for entry in entries if all(len(values) for values in read(entry))]
    return Section(
        title,
        title.lower().replace(" ", "-"),
        # Safe: SVG by vl_convert, which escapes the texts that it draws.
        [
            (entry, Markup(entry.draw(*read(entry))))
            for entry in entries
            if isinstance(entry, Figure)
        ],
        [(entry, cells(entry, *read(entry))) for entry in entries if isinstance(entry, Table)],
        SECTIONS[title],
    )


def cells(table: Table, *values: Any) -> Split:
    """The cells of a table of the contents."""
    if table.by_split:
        (rows,) = values
        return by_split(rows, table.cells)
    return Split(table.cells(*values), None)


def result(findings: Findings) -> Result | None:
    """Of mpd, else of the first method by its name; None where nothing was trained."""
    trained = findings.means.filter(pl.col("round") > 0)["method"].unique().sort().to_list()
    if not trained:
        return None
    method = REFERENCE if REFERENCE in trained else trained[0]
    shown = held_out(findings.means).filter(pl.col("method").is_in(["base", method]))
    choice = findings.choice.filter(method=method)
    number = shipped_most(choice) or max(shown["round"].to_list())
    comparison = findings.comparison.filter(method=method)
    cards = [
        card(benchmark, rows, comparison.filter(benchmark=benchmark), number)
        for (benchmark,), rows in shown.group_by("benchmark", maintain_order=True)
    ]
    ships = [f"round {own}" if own else "none, stay with base" for own in choice["round"]]
    seeds = (f"seed {seed}: {own}" for seed, own in zip(choice["seed"], ships, strict=True))
    return Result(method, len(ships), ", ".join(seeds), cards)


def shipped_most(choice: pl.DataFrame) -> int | None:
    """The round that most seeds ship, the earliest among equals; None where no seed ships one."""
    rounds = choice.filter(pl.col("round") > 0)["round"].value_counts()
    ordered = rounds.sort("count", "round", descending=[True, False])["round"]
    return int(ordered[0]) if len(ordered) else None


def card(benchmark: str, means: pl.DataFrame, comparison: pl.DataFrame, number: int) -> Card:
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
    return Card(
        title=f"{benchmark}, round {number}",
        tokens=with_minus(f"{change:+.0%}"),
        accuracy=interval(paired, "accuracy", 3, "+"),
        rounds=grid(["student", "accuracy", "tokens"], rows),
    )


def shortened(names: Sequence[str], limit: int = 4) -> str:
    """The first names, and how many more there are."""
    more = len(names) - limit
    return "; ".join(names[:limit]) + (f"; and {more} more" if more > 0 else "")
