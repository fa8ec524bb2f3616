"""Answers under token budgets: what a completion would have answered, had it been cut at T tokens.

Prefixes of the same completion are graded; nothing is sampled again. A model does not
know that it will be cut: budgets show when its answers appear, not what it could do under a known
limit.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import count, takewhile

from mpd.text.grading.extraction import extract
from mpd.text.grading.golds import Gold
from mpd.text.grading.grader import Grader

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

    `ids` and `answer` are the full completion and its answer. Only prefixes that hold the end of
    thinking are decoded, and the longest that does not.
    """
    answers: dict[int, str | None] = {}
    for budget in sorted(budgets, reverse=True):
        if budget >= len(ids):
            answers[budget] = answer
            continue
        text = decode(ids[:budget])
        if think_close is not None and think_close not in text:
            break  # nor is it in any shorter prefix
        answers[budget] = extract(text, think_close)
    return {budget: answer for budget, answer in answers.items() if answer is not None}


def grade_with_budgets(
    golds: Sequence[Gold],
    answers: Sequence[str | None],
    answers_at: Sequence[Mapping[int, str]],
    grader: Grader,
) -> tuple[list[str], list[list[int]]]:
    """The verdicts on answers, and for each the budgets at which its completion is correct.

    `answers_at` are those of `answers_by_budget`. Equal pairs are graded once, all together.
    """
    pairs: list[tuple[Gold, str | None]] = list(zip(golds, answers, strict=True))
    for gold, by_budget in zip(golds, answers_at, strict=True):
        pairs += [(gold, answer) for answer in by_budget.values()]
    verdicts = grader.grade([gold for gold, _ in pairs], [answer for _, answer in pairs])
    correct = {pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict == "correct"}
    correct_budgets = [
        sorted(budget for budget, answer in by_budget.items() if (gold, answer) in correct)
        for gold, by_budget in zip(golds, answers_at, strict=True)
    ]
    return verdicts[: len(golds)], correct_budgets
