"""Budget curve: the accuracy, had every answer been cut at T tokens.

Prefixes of the same outputs are scored again; nothing is sampled anew. A student cut at T is not
told so: the curve says when its answers are there, not what it could do under a limit it knows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count, takewhile
from typing import Any

import polars as pl

from mpd.report.bootstrap import interval_columns, pooled
from mpd.report.compare import answers_of, stacked, student_columns
from mpd.report.rounds import Evaluations, read_evaluations
from mpd.report.students import IS_BASE
from mpd.store import schema, table
from mpd.text.grading import Grader, extract

SMALLEST_POWER = 4


def ladder(max_new_tokens: int) -> list[int]:
    """Budgets in tokens: 16, 24, 32, 48, 64, ... while below max_new_tokens, then that itself."""
    sizes = (size for power in count(SMALLEST_POWER) for size in (2**power, 3 * 2 ** (power - 1)))
    return [*takewhile(lambda size: size < max_new_tokens, sizes), max_new_tokens]


def answers_by_budget(
    ids: list[int],
    answer: str | None,
    budgets: Sequence[int],
    decode: Callable[[list[int]], str],
    think_close: str | None,
) -> dict[int, str]:
    """The final answer at each budget, where there is one.

    `ids` and `answer` are the whole completion and its answer. Only prefixes that hold the end of
    thinking are decoded, and the longest that does not.
    """
    found: dict[int, str | None] = {}
    for budget in sorted(budgets, reverse=True):
        if budget >= len(ids):
            found[budget] = answer
            continue
        text = decode(ids[:budget])
        if think_close is not None and think_close not in text:
            break  # nor is it in any shorter prefix
        found[budget] = extract(text, think_close)
    return {budget: answer for budget, answer in found.items() if answer is not None}


def grade(
    golds: Sequence[str],
    found: Sequence[str | None],
    cut: Sequence[Mapping[int, str]],
    grader: Grader,
) -> tuple[list[str], list[list[int]]]:
    """The verdicts on answers, and for each the budgets at which what was there is correct.

    `cut` are the answers by budget. Equal pairs of gold and answer are graded once, all together.
    """
    pairs = list(zip(golds, found, strict=True))
    for gold, of in zip(golds, cut, strict=True):
        pairs += [(gold, answer) for answer in of.values()]
    verdicts = grader.grade([gold for gold, _ in pairs], [answer for _, answer in pairs])
    correct = {pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict == "correct"}
    budgets = [
        sorted(budget for budget, answer in of.items() if (gold, answer) in correct)
        for gold, of in zip(golds, cut, strict=True)
    ]
    return verdicts[: len(golds)], budgets


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
            files, BUDGET_INPUTS, partial(accuracies, budgets=ladder(max_new_tokens[name]))
        )
        for name, files in benchmarks.items()
    )
