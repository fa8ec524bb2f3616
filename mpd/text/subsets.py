"""Seeded subsets of problems: a development split, training problems, a part of a benchmark."""

import logging
import random
from collections.abc import Sequence

from mpd.config.curriculum import takes_part
from mpd.text.overlap import Row

log = logging.getLogger("mpd")


def split_rows(
    rows: list[Row], num_train: int | None, num_dev: int | None, seed: int
) -> tuple[list[Row], list[Row], list[Row]]:
    """A seeded development split, training subset, and the rest with the reason not_selected.

    The split is empty without `num_dev`. Raises ValueError where there are not enough rows.
    """
    held_out = "benchmarks" if num_dev is not None else "benchmarks and dev"
    num_dev = num_dev or 0
    needed = num_dev + (num_train or 1)
    if len(rows) < needed:
        keys = [f"num_dev: {num_dev}"] if num_dev else []
        keys += ["at least one more" if num_train is None else f"num_train: {num_train}"]
        raise ValueError(
            f"problems: {len(rows)} training problems are left after removing duplicates and those "
            f"of {held_out}, but {needed} are needed ({', '.join(keys)}); lower that, or give more "
            "problems"
        )
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    end = len(rows) if num_train is None else num_dev + num_train
    rest = [{**row, "reason": "not_selected"} for row in shuffled[end:]]
    return shuffled[:num_dev], shuffled[num_dev:end], rest


def subset(rows: list[Row], limit: int | None, seed: int, num_duplicates: int) -> list[Row]:
    """A seeded subset of held-out rows, in their order; all of them without a limit."""
    count = len(rows) if limit is None else min(limit, len(rows))
    numbers = random.Random(seed).sample(range(len(rows)), count)
    log.info(
        "%d problems; left out: %d duplicates, %d outside the subset of num_problems",
        *(count, num_duplicates, len(rows) - count),
    )
    return [rows[number] for number in sorted(numbers)]


def require_rounds(train: Sequence[Row], num_steps: int) -> None:
    """Raise ValueError where one of the first rounds has none of the training problems.

    `num_steps` are the rounds of a curriculum until nothing changes any more.
    """
    for number in range(1, num_steps + 1):
        count = sum(takes_part(row["first_round"], row["last_round"], number) for row in train)
        log.info("round %d: %d of %d training problems", number, count, len(train))
        if not count:
            raise ValueError(
                f"problems: none of the {len(train)} training problems is one of round {number} "
                "of the curriculum; raise num_train or num_problems, or take fewer levels"
            )
