"""The summary as the stage prints it, and as the cells of a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from mpd.report.shipping import in_words

HEADER = [
    *("method", "round", "seed", "benchmark", "problems", "samples"),
    *("accuracy", "tokens", "truncated", "no answer"),
]
SEEDS_HEADER = ["method", "round", "seeds", "benchmark", "accuracy", "tokens"]
MAX_CHOICES = 12  # that are printed


def printable(summary: pl.DataFrame) -> list[list[str]]:
    """The cells of a table with a row for each seed, columns as in HEADER."""
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


def over_seeds(summary: pl.DataFrame) -> list[list[str]]:
    """The cells of a table with a row for each student and benchmark, columns as in SEEDS_HEADER.

    Accuracy and tokens are the mean over seeds, with the lowest and the highest.
    """

    def cell(values: pl.Series, digits: int) -> str:
        seeds = values.to_list()
        numbers = sum(seeds) / len(seeds), min(seeds), max(seeds)
        mean, low, high = (f"{number:.{digits}f}" for number in numbers)
        return f"{mean} ({low} to {high})"

    groups = summary.group_by("method", "benchmark", "round", maintain_order=True)
    return [
        [
            *(method, str(number), str(len(rows)), benchmark),
            *(cell(rows["accuracy"], 3), cell(rows["mean_tokens"], 1)),
        ]
        for (method, benchmark, number), rows in groups
    ]


def shipping_lines(choice: pl.DataFrame) -> list[str]:
    """One line for each method and seed."""
    return [
        f"{method}, seed {seed}: {in_words(number)}"
        for method, seed, number in choice.select("method", "seed", "round").iter_rows()
    ]


def overlap_lines(costs: pl.DataFrame, samplers: Mapping[str, str]) -> list[str]:
    """One line for each method that trains on the base student's trajectories.

    How much teacher and student agree before training decides between it and a method that samples
    again, by arXiv 2610.11291. Where the cache has no overlap, there is no line.
    """
    first = costs.filter(pl.col("round") == 1, pl.col("overlap").is_not_null())
    return [
        f"{method}: before training, {overlap:.1%} of the student's most probable tokens are among "
        "the teacher's"
        for method, overlap in first.select("method", "overlap").iter_rows()
        if samplers.get(method) == "base"
    ]


def print_table(
    summary: pl.DataFrame, choice: pl.DataFrame, path: Path, overlaps: Sequence[str] = ()
) -> None:
    """Print accuracy and tokens of every student, the round to ship, and the path of the report.

    A student has one row for each benchmark; where there are several seeds, it has their means and
    ranges. `overlaps` are the lines of `overlap_lines`.
    """
    from rich.console import Console
    from rich.table import Table

    one_seed = summary["seed"].n_unique() == 1
    rows = printable(summary) if one_seed else over_seeds(summary)
    spread = "± standard error over problems" if one_seed else "mean over seeds (lowest to highest)"
    grid = Table(title=f"accuracy and tokens, {spread}")
    for column, name in enumerate(HEADER if one_seed else SEEDS_HEADER):
        grid.add_column(name, justify="left" if column < 4 else "right", no_wrap=True)
    for cells in rows:
        grid.add_row(*cells)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(grid)
    lines = shipping_lines(choice)
    for line in lines[:MAX_CHOICES]:
        console.print(f"ship {line}", highlight=False)
    if len(lines) > MAX_CHOICES:
        console.print(f"and {len(lines) - MAX_CHOICES} more, in the report", highlight=False)
    for line in overlaps:
        console.print(line, highlight=False)
    console.print(f"report: {path}", highlight=False)
