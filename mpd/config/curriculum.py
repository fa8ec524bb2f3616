"""The parts of a mix of tasks: how many problems each makes, and in which rounds they take part."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from mpd.config.gym import Task

Curriculum = Annotated[
    Literal["add", "replace"] | None,
    Field(
        exclude_if=lambda curriculum: curriculum is None,
        description="whether levels rise from round to round: the first of each task is that of "
        "round 1, the second comes in round 2, and so on; add, beside those before; replace, in "
        "their place; null: every round has all levels",
    ),
]


def takes_part(first_round: int, last_round: int | None, number: int) -> bool:
    """Whether a round is one of those from the first to the last; None: all that follow are."""
    return first_round <= number <= (last_round or number)


@dataclass(frozen=True)
class Part:
    """A task at one of its levels, with settings as JSON, and the rounds that it takes part in.

    Without `last_round`, it stays to the last one.
    """

    task: str
    level: int | None
    settings: str
    first_round: int = 1
    last_round: int | None = None

    def has_round(self, number: int) -> bool:
        """Whether it takes part in a round."""
        return takes_part(self.first_round, self.last_round, number)


def weights_of(mix: Sequence[Task], curriculum: Curriculum) -> dict[Part, Fraction]:
    """The parts of a mix with their weights: the levels of a task have equal parts of its weight.

    In a curriculum, a level that is given twice is that of two rounds, each with its own problems.
    """
    weights: dict[Part, Fraction] = {}
    for task in mix:
        settings, levels = json.dumps(task.settings, sort_keys=True), task.levels or (None,)
        for place, level in enumerate(levels, start=1):
            first, last = (place if curriculum else 1), None
            if curriculum == "replace" and place < len(levels):
                last = place
            part = Part(task.task, level, settings, first, last)
            weight = Fraction(task.weight) / len(levels)
            weights[part] = weights.get(part, Fraction(0)) + weight
    return weights


def shares(weights: Mapping[Part, Fraction], number: int) -> dict[Part, int]:
    """How many of a number of problems each part makes: by weights; rests go to the largest.

    What gets no problem at all is left out.
    """
    total = sum(weights.values())
    exact = {part: number * weight / total for part, weight in weights.items()}
    numbers = {part: int(share) for part, share in exact.items()}
    by_rest = sorted(exact, key=lambda part: numbers[part] - exact[part])
    for part in by_rest[: number - sum(numbers.values())]:
        numbers[part] += 1
    return {part: share for part, share in numbers.items() if share}


def num_steps(weights: Mapping[Part, Fraction]) -> int:
    """The rounds of a curriculum until nothing changes any more; 1 where there is none."""
    return max((part.first_round for part in weights), default=1)


def share_of_round(weights: Mapping[Part, Fraction], number: int) -> float:
    """The share of the problems that take part in a round."""
    chosen = [weight for part, weight in weights.items() if part.has_round(number)]
    return float(sum(chosen) / sum(weights.values()))
