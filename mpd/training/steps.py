"""Which trajectories make an optimiser step, and how processes share them.

A step is a fixed set of trajectories, the same for any number of processes and any micro-batch
size.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch

from mpd.config.distill import DistillSettings

BLOCK = 512  # consecutive rows of the cache that stay close together in an epoch
WINDOW = 4  # blocks whose rows are shuffled together


def plan_steps(lengths: Sequence[int], settings: DistillSettings) -> list[list[int]]:
    """The rows of every optimiser step: shuffled epochs, one after another, in full batches.

    The settings give `batch_size`, `seed` and the budget: so many `epochs`, an `amount` of steps,
    or the steps that it takes to pass an `amount` of completion tokens. `lengths` of all rows are
    in tokens. The order of the rows depends on their number and the seed alone.
    """
    num_rows = len(lengths)
    batch_size = min(settings.batch_size, num_rows)
    steps = _endless_steps(num_rows, batch_size, settings.seed)
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


def _endless_steps(num_rows: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Steps of `batch_size` rows, epoch after epoch.

    An epoch takes the blocks in random order, and shuffles the rows of WINDOW of them at a time, so
    that rows that are close together in a step are close together in the cache. Row groups decide
    nothing: how many rows one has depends on the resources of the job that wrote it.
    """
    generator = torch.Generator().manual_seed(seed)
    starts = range(0, num_rows, BLOCK)
    order: list[int] = []
    while True:
        blocks = torch.randperm(len(starts), generator=generator).tolist()
        for first in range(0, len(blocks), WINDOW):
            window = [starts[block] for block in sorted(blocks[first : first + WINDOW])]
            rows = [row for start in window for row in range(num_rows)[start : start + BLOCK]]
            shuffled = torch.randperm(len(rows), generator=generator).tolist()
            order += [rows[place] for place in shuffled]
        full = len(order) - len(order) % batch_size
        yield from (order[start : start + batch_size] for start in range(0, full, batch_size))
        order = order[full:]


class Limits(NamedTuple):
    """What a micro-batch holds at most. A trajectory of more tokens is one of its own."""

    num_rows: int
    num_tokens: int


def split_step(
    rows: Sequence[int], sizes: Sequence[int], limits: Limits, num_processes: int
) -> list[list[int]]:
    """The micro-batches of a step: equally many for each process, of about equally many tokens.

    `sizes` of rows are in tokens, with their prompts. The longest row goes first, always to the
    micro-batch that has the fewest tokens (Graham's longest-processing-time rule). Raises
    ValueError where the processes cannot share the rows.
    """
    # A row that is longer than a micro-batch may be fills only its own.
    total = sum(min(sizes[row], limits.num_tokens) for row in rows)
    num_parts = max(math.ceil(len(rows) / limits.num_rows), math.ceil(total / limits.num_tokens))
    count = math.ceil(num_parts / num_processes) * num_processes
    most = len(rows) // num_processes * num_processes
    if not most or math.ceil(len(rows) / limits.num_rows) > most:
        raise ValueError(
            f"distill.batch_size: {len(rows)} trajectories cannot be shared by {num_processes} "
            f"processes in micro-batches of {limits.num_rows}; raise it, or lower "
            "resources.distill.num_processes, or raise its micro_batch_size"
        )
    while True:
        parts = _balanced(rows, sizes, min(count, most), limits.num_rows)
        if count >= most or all(_fits(part, sizes, limits.num_tokens) for part in parts):
            return parts
        count += num_processes


def _balanced(
    rows: Sequence[int], sizes: Sequence[int], count: int, max_rows: int
) -> list[list[int]]:
    """The rows in `count` parts of about equally many tokens and at most `max_rows` rows."""
    parts: list[list[int]] = [[] for _ in range(count)]
    filled = [(0, number) for number in range(count)]
    for row in sorted(rows, key=lambda row: (-sizes[row], row)):
        total, number = heapq.heappop(filled)
        parts[number].append(row)
        if len(parts[number]) < max_rows:
            heapq.heappush(filled, (total + sizes[row], number))
    return parts


def _fits(rows: Sequence[int], sizes: Sequence[int], num_tokens: int) -> bool:
    return len(rows) == 1 or sum(sizes[row] for row in rows) <= num_tokens


def extent(steps: Sequence[Sequence[int]]) -> str:
    """How long a training run is; a budget of steps or tokens may pass over few rows many times."""
    rows = [row for step in steps for row in step]
    distinct = len(set(rows))
    return f"{len(steps)} steps: {len(rows) / distinct:.1f} passes over {distinct} trajectories"
