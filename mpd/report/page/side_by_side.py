"""The page of several experiments side by side, as one HTML text that opens offline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from markupsafe import Markup

from mpd.report.compare import MEASURES
from mpd.report.page import markup, tables
from mpd.report.page.cells import (
    DASH,
    QUANTILES_TITLE,
    Cell,
    Grid,
    by_split,
    difference,
    grid,
    interval,
    number,
    percentages,
    quantiles,
)
from mpd.report.page.cost_tables import payback_table
from mpd.report.page.experiments_chart import experiments_chart
from mpd.report.payback import FORMULA
from mpd.report.shipping import in_words


@dataclass(frozen=True)
class Difference:
    """An experiment by its label, and `rows` of `comparison`: its students less others.

    `alone` are the students that nothing was subtracted from.
    """

    label: str
    rows: pl.DataFrame
    alone: Sequence[str]


@dataclass(frozen=True)
class SideBySide:
    """All that the page shows. Lists of experiments are in the order of `labels`.

    `origins` say where each comes from, `means` are those of `compare.means` with `experiment`,
    `differences` are to the first experiment, `costs` those of `payback` with `experiment`,
    `choices` those of `shipping.shipped`, `settings` those that differ, with a text for each
    experiment, and `left_out` sentences.
    """

    labels: Sequence[str]
    origins: Sequence[Mapping[str, str]]
    means: pl.DataFrame
    differences: Sequence[Difference]
    costs: pl.DataFrame
    choices: Sequence[pl.DataFrame]
    settings: Sequence[Mapping[str, Any]]
    left_out: Sequence[str]


def page(found: SideBySide) -> str:
    """The page."""
    counts = [count for each in found.differences for count in each.rows["num_seeds"]]
    return markup.rendered(
        "side_by_side.html",
        found=found,
        # Safe: SVG by vl_convert, which escapes the texts that it draws.
        figure=Markup(experiments_chart(found.means)),
        origins=origins_table(found),
        differences=[(each, by_split(each.rows, difference_table)) for each in found.differences],
        intervals_note=tables.intervals_note(min(counts)),
        students=by_split(found.means, students_table),
        costs=by_split(found.costs, payback_table),
        formula=FORMULA,
        shipping=shipping_table(found),
        settings=settings_table(found) if found.settings else None,
    )


def origins_table(found: SideBySide) -> Grid:
    """Where each experiment comes from, an experiment in a row."""
    rows = [
        [label, *(text or DASH for text in origin.values())]
        for label, origin in zip(found.labels, found.origins, strict=True)
    ]
    header = ["experiment", *found.origins[0]]
    return grid(header, rows, text=range(len(header)))


def difference_table(rows: pl.DataFrame) -> Grid:
    """The students of an experiment less those of the first one."""
    header = ["benchmark", "method", "round", "less", "seeds", "accuracy", "tokens"]
    header += ["tokens, both solve", QUANTILES_TITLE, "longer", "both solve"]
    cells: list[list[str | Cell]] = [
        [row["benchmark"], row["method"], str(row["round"]), row["against"], str(row["num_seeds"])]
        + [difference(row, measure) for measure in MEASURES]
        + [quantiles(row, "+"), percentages(row, "longer"), number(row["num_solved"])]
        for row in rows.iter_rows(named=True)
    ]
    return grid(header, cells, text=(0, 1, 3))


def students_table(means: pl.DataFrame) -> Grid:
    """Accuracy and tokens of every student of every experiment, over its seeds."""
    header = ["benchmark", "experiment", "method", "round", "seeds", "accuracy", "tokens"]
    rows = [
        [
            *(row["benchmark"], row["experiment"], row["method"], str(row["round"])),
            *(str(row["num_seeds"]), interval(row, "accuracy", 3), interval(row, "tokens", 1)),
            quantiles(row),
        ]
        for row in means.sort("benchmark", maintain_order=True).iter_rows(named=True)
    ]
    return grid([*header, QUANTILES_TITLE], rows, text=(0, 1, 2))


def shipping_table(found: SideBySide) -> Grid:
    """The round that each experiment ships of each method, by seed."""
    rows = []
    for label, choice in zip(found.labels, found.choices, strict=True):
        for (method,), seeds in choice.group_by("method", maintain_order=True):
            pairs = seeds.select("seed", "round").iter_rows()
            texts = (f"seed {seed}: {in_words(chosen)}" for seed, chosen in pairs)
            rows.append([label, str(method), "; ".join(texts)])
    return grid(["experiment", "method", "round to ship"], rows, text=(0, 1, 2))


def settings_table(found: SideBySide) -> Grid:
    """The settings that are not the same in all experiments."""
    header: list[str | Cell] = ["stage", "setting"]
    header += [Cell(label, "reasons") for label in found.labels]
    rows: list[list[str | Cell]] = [
        [row["stage"], row["setting"], *(Cell(text or DASH, "reasons") for text in row["values"])]
        for row in found.settings
    ]
    return grid(header, rows, text=(0, 1))
