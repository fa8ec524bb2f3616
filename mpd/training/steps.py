"""Which trajectories make an optimiser step, and how processes share them.

A step is a fixed set of trajectories, the same for any number of processes and any micro-batch
size.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice

import torch

from mpd.config.distill import DistillSettings

WINDOW = 8  # row groups of the cache whose rows are shuffled together


def plan_steps(
    group_sizes: Sequence[int], lengths: Sequence[int], settings: DistillSettings
) -> list[list[int]]:
    """The rows of every optimiser step: shuffled epochs, one after another, in full batches.

    The settings give `batch_size`, `seed` and the budget: so many `epochs`, an `amount` of steps,
    or the steps that it takes to pass an `amount` of completion tokens. `lengths` of rows are in
    tokens.
    """
    num_rows = sum(group_sizes)
    batch_size = min(settings.batch_size, num_rows)
    steps = _endless_steps(group_sizes, batch_size, settings.seed)
    if settings.budget == "epochs":
        return list(islice(steps, max(1, round(num_rows * settings.epochs / batch_size))))
    assert settings.amount is not None, "budgets of steps and tokens have an amount"
    if settings.budget == "tokens":
        planned, tokens = [], 0
        while tokens < settings.amount:
            planned.append(next(steps))
            tokens += sum(lengths[row] for row in planned[-1])
        return planned
    return list(islice(steps, settings.amount))


def _endless_steps(group_sizes: Sequence[int], batch_size: int, seed: int) -> Iterator[list[int]]:
    """Steps of `batch_size` rows, epoch after epoch.

    An epoch takes the row groups in random order, and shuffles the rows of WINDOW of them at a
    time, so that rows that are close together in a step are close together in the cache.
    """
    generator = torch.Generator().manual_seed(seed)
    starts = list(accumulate(group_sizes, initial=0))
    order: list[int] = []
    while True:
        groups = torch.randperm(len(group_sizes), generator=generator).tolist()
        for first in range(0, len(groups), WINDOW):
            window = sorted(groups[first : first + WINDOW])
            rows = [row for group in window for row in range(starts[group], starts[group + 1])]
            shuffled = torch.randperm(len(rows), generator=generator).tolist()
            order += [rows[place] for place in shuffled]
        full = len(order) - len(order) % batch_size
        yield from (order[start : start + batch_size] for start in range(0, full, batch_size))
        order = order[full:]


def split_step(
    rows: Sequence[int], lengths: Sequence[int], micro_batch_size: int, num_processes: int
) -> list[list[int]]:
    """The micro-batches of a step: equally many for each process, of rows of similar length.

    Raises ValueError where there are too few rows for that.
    """
    rounds = math.ceil(len(rows) / (micro_batch_size * num_processes))
    count = rounds * num_processes
    if count > len(rows):
        raise ValueError(
            f"distill.batch_size: {len(rows)} trajectories cannot be shared by {num_processes} "
            f"processes in micro-batches of {micro_batch_size}; raise it, or lower "
            "resources.distill.num_processes, or raise its micro_batch_size"
        )
    ordered = sorted(rows, key=lambda row: lengths[row])
    return [
        ordered[len(rows) * part // count : len(rows) * (part + 1) // count]
        for part in range(count)
    ]


def extent(steps: Sequence[Sequence[int]]) -> str:
    """How long a training run is; a budget of steps or tokens may pass over few rows many times."""
    rows = [row for step in steps for row in step]
    distinct = len(set(rows))
    return f"{len(steps)} steps: {len(rows) / distinct:.1f} passes over {distinct} trajectories"
