"""The summary as text, and as the stage prints it."""

from pathlib import Path

import polars as pl

HEADER = [
    *("method", "round", "seed", "benchmark", "problems", "samples"),
    *("accuracy", "tokens", "truncated", "no answer"),
]
SEEDS_HEADER = ["method", "round", "seeds", "benchmark", "accuracy", "tokens"]
NUM_CHOICES = 12  # that are printed


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


def over_seeds(summary: pl.DataFrame) -> list[list[str]]:
    """The cells of a table with a row for each student and benchmark: means and ranges."""

    def cell(values: pl.Series, digits: int) -> str:
        found = values.to_list()
        ends = sum(found) / len(found), min(found), max(found)
        mean, low, high = (f"{value:.{digits}f}" for value in ends)
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
    """One sentence for each branch."""
    return [
        f"{method}, seed {seed}: "
        + (f"round {number}" if number else "none; stay with the base student")
        for method, seed, number in choice.select("method", "seed", "round").iter_rows()
    ]


def print_table(summary: pl.DataFrame, choice: pl.DataFrame, path: Path) -> None:
    """Print accuracy and tokens, the choice and the path of the report: one line for a student.

    That is for each of its benchmarks; of several seeds the means and their range.
    """
    from rich.console import Console
    from rich.table import Table

    alone = summary["seed"].n_unique() == 1
    rows = printable(summary) if alone else over_seeds(summary)
    title = "± standard error over problems" if alone else "means over seeds, lowest to highest"
    shown = Table(title=f"accuracy and tokens, {title}")
    for number, name in enumerate(HEADER if alone else SEEDS_HEADER):
        shown.add_column(name, justify="left" if number < 4 else "right", no_wrap=True)
    for cells in rows:
        shown.add_row(*cells)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(shown)
    lines = shipping_lines(choice)
    for line in lines[:NUM_CHOICES]:
        console.print(f"ship {line}", highlight=False)
    if len(lines) > NUM_CHOICES:
        console.print(f"and {len(lines) - NUM_CHOICES} more, in the report", highlight=False)
    console.print(f"report: {path}", highlight=False)
