"""Budget curves: the accuracy of each student, had every answer been cut at T tokens."""

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from mpd.report import compare
from mpd.store import schema, table


def accuracies(answered: pl.DataFrame, budgets: Sequence[int]) -> pl.DataFrame:
    """Rows of `evaluate` as one row per problem: problem_id, and a column for each budget.

    A column is named by its budget and holds the share of the samples that are correct at it.
    """
    correct = pl.col("correct_budgets").list
    return answered.group_by("problem_id", maintain_order=True).agg(
        correct.contains(budget).mean().alias(str(budget)) for budget in budgets
    )


def curves(problems: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Rows of `budgets`: pooled over seeds, with intervals by bootstrap.

    `problems`: for each benchmark the rows of `accuracies` of all students, with method, round,
    seed and benchmark.
    """
    rows: list[dict[str, Any]] = []
    for frame in problems:
        budgets = [name for name in frame.columns if name.isdecimal()]
        for benchmark, students in compare.answers_of(frame, budgets).items():
            entries = (
                (
                    {"method": method, "round": number, "benchmark": benchmark},
                    compare.stacked(seeds, seeds),
                )
                for (method, number), seeds in students.items()
            )
            for place, _, drawn in compare.pooled(entries):
                for budget, own in zip(budgets, drawn, strict=True):
                    accuracy = compare.interval_columns("accuracy", own)
                    rows.append({**place, "budget": int(budget), **accuracy})
    is_base = pl.col("method") == "base"
    frame = table.frame_of(rows, schema.BUDGETS)
    return frame.sort("benchmark", ~is_base, "method", "round", "budget")
