"""Budget curves: the accuracy of each student, had every answer been cut at T tokens."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import polars as pl

from mpd.report.bootstrap import interval_columns, pooled
from mpd.report.compare import answers_of, stacked, student_columns
from mpd.report.rounds import Evaluations, read_evaluations
from mpd.report.students import IS_BASE
from mpd.store import schema, table
from mpd.text.grading.token_budgets import ladder

BUDGET_INPUTS = ["problem_id", "correct_budgets"]


def accuracies(rows: pl.DataFrame, budgets: Sequence[int]) -> pl.DataFrame:
    """Rows of `evaluate` as one row per problem: problem_id, and a column for each budget.

    A column is named by its budget and holds the share of the samples that are correct at it.
    """
    correct = pl.col("correct_budgets").list
    return rows.group_by("problem_id", maintain_order=True).agg(
        correct.contains(budget).mean().alias(str(budget)) for budget in budgets
    )


def curves(problems: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Rows of `budgets`: pooled over seeds, with intervals by bootstrap.

    `problems` has for each benchmark the rows of `accuracies` of all students, with method, round,
    seed and benchmark.
    """
    rows: list[dict[str, Any]] = []
    for frame in problems:
        budgets = [name for name in frame.columns if name.isdecimal()]
        for benchmark, students in answers_of(frame, budgets).items():
            entries = (
                (student_columns(student, benchmark), stacked(answers))
                for student, answers in students.items()
            )
            for place, _, drawn in pooled(entries):
                for budget, budget_draws in zip(budgets, drawn, strict=True):
                    accuracy = interval_columns("accuracy", budget_draws)
                    rows.append({**place, "budget": int(budget), **accuracy})
    frame = table.frame_of(rows, schema.BUDGETS)
    return frame.sort("benchmark", ~IS_BASE, "method", "round", "budget")


def budget_frame(evaluations: Evaluations, max_new_tokens: Mapping[str, int]) -> pl.DataFrame:
    """Rows of `budgets`, from the files of the evaluations.

    `max_new_tokens` of each benchmark decides its budgets.
    """
    benchmarks: dict[str, dict[Any, Any]] = {}
    for path, place in evaluations.items():
        benchmarks.setdefault(place["benchmark"], {})[path] = place
    return curves(
        read_evaluations(
            files,
            BUDGET_INPUTS,
            partial(accuracies, budgets=ladder(max_new_tokens[name])),
        )
        for name, files in benchmarks.items()
    )
