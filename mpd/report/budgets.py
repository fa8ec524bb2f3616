"""Budget curve: the accuracy, had every answer been cut at T tokens.

Prefixes of the same outputs are scored again; nothing is sampled anew. A student cut at T is not
told so: the curve says when its answers are there, not what it could do under a limit it knows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count, takewhile
from typing import Any

import polars as pl

from mpd.report import compare
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
