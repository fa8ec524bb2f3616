"""The report as one HTML text that opens offline. No I/O but templates and assets.

It fills the templates with the entries of contents.py, and with the data of the sections that have
templates of their own. The templates give the markup and escape all that they are given.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl
from markupsafe import Markup

from mpd.config.base import BASE
from mpd.report.efficiency import FORMULA
from mpd.report.findings import Findings
from mpd.report.page import markup, tables
from mpd.report.page.cells import Grid, Split, by_split, grid, interval, number
from mpd.report.page.contents import FIGURES, PAGE_SECTIONS, TABLES, Figure, Table
from mpd.report.shipping import in_words
from mpd.report.students import held_out, in_order


class Card(NamedTuple):
    """The result on a benchmark, as texts, and a table of its rounds."""

    title: str
    tokens: str
    accuracy: str
    rounds: Grid


class MethodResult(NamedTuple):
    """From the base student to each round of one method; `shipped` is the choice of each seed."""

    method: str
    num_seeds: int
    shipped: str
    cards: list[Card]


class PageSection(NamedTuple):
    """A section: its figures and tables as drawn, and the template of what else it shows."""

    title: str
    anchor: str
    figures: list[tuple[Figure, Markup]]
    tables: list[tuple[Table, Split]]
    template: str | None


def page(findings: Findings) -> str:
    """The report."""
    return markup.rendered(
        "page.html",
        experiment=findings.experiment,
        sections=[section(title, findings) for title in PAGE_SECTIONS],
        result=result(findings),
        differences=by_split(findings.comparison, tables.difference_tables),
        intervals_note=tables.intervals_note(findings.summary["seed"].n_unique()),
        formula=FORMULA,
        browser=findings.browser,
        answers=findings.answers,
        stages={
            stage: {settings: shortened(students) for settings, students in groups.items()}
            for stage, groups in findings.stages.items()
        },
    )


def section(title: str, findings: Findings) -> PageSection:
    """A section of the contents, without the entries that have nothing to show."""

    def read(entry: Figure | Table) -> list[Any]:
        return [getattr(findings, name) for name in entry.reads]

    entries = [entry for entry in (*FIGURES, *TABLES) if entry.section == title]
    entries = [entry for entry in entries if all(len(values) for values in read(entry))]
    return PageSection(
        title,
        title.lower().replace(" ", "-"),
        # Safe: SVG by vl_convert, which escapes the texts that it draws.
        [
            (entry, Markup(entry.draw(*read(entry))))
            for entry in entries
            if isinstance(entry, Figure)
        ],
        [(entry, cells(entry, *read(entry))) for entry in entries if isinstance(entry, Table)],
        PAGE_SECTIONS[title],
    )


def cells(table: Table, *values: Any) -> Split:
    """The cells of a table of the contents, from the fields that it reads."""
    if table.by_split:
        (rows,) = values
        return by_split(rows, table.cells)
    return Split(table.cells(*values), None)


def result(findings: Findings) -> MethodResult | None:
    """The result of mpd, else of the first method by name; None where nothing was trained."""
    methods = in_order(findings.means.filter(pl.col("round") > 0)["method"].unique())
    if not methods:
        return None
    method = methods[0]
    shown = held_out(findings.means).filter(pl.col("method").is_in([BASE, method]))
    choice = findings.choice.filter(method=method)
    headline = shipped_most(choice) or max(shown["round"].to_list())
    comparison = findings.comparison.filter(method=method)
    cards = [
        card(benchmark, rows, comparison.filter(benchmark=benchmark), headline)
        for (benchmark,), rows in shown.group_by("benchmark", maintain_order=True)
    ]
    seeds = zip(choice["seed"], choice["round"], strict=True)
    shipped = "; ".join(f"{in_words(chosen)} (seed {seed})" for seed, chosen in seeds)
    return MethodResult(method, len(choice), shipped, cards)


def shipped_most(choice: pl.DataFrame) -> int | None:
    """The round that most seeds ship, the earliest among equals; None where no seed ships one."""
    rounds = choice.filter(pl.col("round") > 0)["round"].value_counts()
    ordered = rounds.sort("count", "round", descending=[True, False])["round"]
    return int(ordered[0]) if len(ordered) else None


def card(benchmark: str, means: pl.DataFrame, comparison: pl.DataFrame, headline: int) -> Card:
    """The result on a benchmark, headed by that of round `headline`.

    `means` are rows of the base student and one method.
    """
    rounds = {row["round"]: row for row in means.sort("round").iter_rows(named=True)}
    change = rounds[headline]["tokens"] / rounds[0]["tokens"] - 1
    rows = [
        [
            f"round {round}" if round else BASE,
            interval(row, "accuracy", 3),
            interval(row, "tokens", 1),
        ]
        for round, row in rounds.items()
    ]
    against_base = comparison.filter(against=BASE, round=headline).row(0, named=True)
    return Card(
        title=f"{benchmark}, round {headline}",
        tokens=number(change, "+.0%"),
        accuracy=interval(against_base, "accuracy", 3, "+"),
        rounds=grid(["student", "accuracy", "tokens"], rows),
    )


def shortened(names: Sequence[str], limit: int = 4) -> str:
    """The first names, and how many more there are."""
    more = len(names) - limit
    return "; ".join(names[:limit]) + (f"; and {more} more" if more > 0 else "")
