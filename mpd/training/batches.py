"""Which trajectories make a step, a micro-batch and its tensors. R, L, N, K, B as elsewhere.

A step is a fixed set of trajectories, the same for any number of processes and any micro-batch
size. Each position carries its weight in the mean over the whole step, so that no process needs
to know what the others hold. Only a window of the cache is in memory at a time.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import torch

from mpd.config.distill import DistillSettings
from mpd.scoring.cache import DecodedRows, Support
from mpd.scoring.cache_layout import FIXED_COLUMNS, SUPPORT_COLUMNS
from mpd.scoring.divergence import FLOOR
from mpd.scoring.forward import pack

# Row groups whose rows are shuffled together, and thus in memory: steps draw from so many.
WINDOW = 8

COLUMNS = [
    *("sample_id", "prompt_ids", "completion_ids", "num_tokens", "think_end", "control_ids"),
    *FIXED_COLUMNS,
    *SUPPORT_COLUMNS,
    "teacher_hidden",
]


class CachedRows:
    """The rows of all cache shards by number, read one row group at a time."""

    def __init__(self, paths: Sequence[Path]) -> None:
        files = [pq.ParquetFile(path) for path in paths]
        self.groups = [
            (file, group) for file in files for group in range(file.metadata.num_row_groups)
        ]
        self.group_sizes = [file.metadata.row_group(group).num_rows for file, group in self.groups]
        self.starts = list(accumulate(self.group_sizes, initial=0))
        self.lengths: list[int] = [
            length for file in files for length in file.read(["num_tokens"])[0].to_pylist()
        ]
        self.decoded = lru_cache(maxsize=2 * WINDOW)(self._decode)

    def _decode(self, number: int) -> DecodedRows:
        file, group = self.groups[number]
        frame = pl.from_arrow(file.read_row_group(group, columns=COLUMNS))
        assert isinstance(frame, pl.DataFrame)
        return DecodedRows(frame)

    def place(self, row: int) -> tuple[DecodedRows, int]:
        """The decoded row group of a row, and its place in it."""
        group = bisect_right(self.starts, row) - 1
        return self.decoded(group), row - self.starts[group]


def plan_steps(
    group_sizes: Sequence[int], lengths: Sequence[int], settings: DistillSettings
) -> list[list[int]]:
    """The rows of every optimiser step: shuffled epochs, one after another, in full batches.

    `settings` has batch_size, seed, and the budget: as many `epochs`, or an `amount` of steps, or
    the steps by which an `amount` of completion tokens has been passed. `lengths` are those of
    the rows, in tokens.
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
    time, so that what lies close together in a step lies close together in the cache.
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
    """The micro-batches of a step: as many for each process, neighbours in length together.

    Raises ValueError where the rows do not fill as many micro-batches for each process.
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


class TrajectoryDataset(torch.utils.data.Dataset):
    """Cached trajectories; an item is a row and its share in its step."""

    def __init__(
        self, cached: CachedRows, steps: list[list[int]], settings: DistillSettings
    ) -> None:
        self.cached, self.steps, self.loss = cached, steps, settings.loss
        self.is_supervised = settings.divergence == "cross_entropy"
        lengths = cached.lengths
        self.step_tokens = [sum(lengths[row] for row in step) for step in steps]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        step, number = key
        rows, place = self.cached.place(number)
        row = rows.frame.row(place, named=True)
        length = row["num_tokens"]
        of_sequence = 1 / (length * len(self.steps[step]))
        of_token = 1 / self.step_tokens[step]
        weight = {"token_mean": of_token, "sequence_mean": of_sequence}[self.loss]
        known = not self.is_supervised
        return {
            "prompt": row["prompt_ids"],
            "completion": row["completion_ids"],
            "think_end": row["think_end"],
            "weight": weight,
            "sequence_weight": of_sequence,
            "support": rows.support(place) if known and not rows.has_hidden else None,
            "hidden": rows.hidden(place) if known and rows.has_hidden else None,
        }

    def plan(self, micro_batch_size: int, num_processes: int) -> list[list[list[tuple[int, int]]]]:
        """For every step its micro-batches; each names its items as (step, row)."""
        lengths = self.cached.lengths
        return [
            [
                [(number, row) for row in part]
                for part in split_step(step, lengths, micro_batch_size, num_processes)
            ]
            for number, step in enumerate(self.steps)
        ]


def collate(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A micro-batch: packed sequences, and what is known of their N completion positions.

    `usage` counts the tokens, and the places with those that are padding. `closes` [N] marks
    where thinking ends, `stops` [N] the last ids. The teacher stands either in
    `support_ids`, `distinct` [N, K] and `teacher` [N, K + B], or in `teacher_hidden` [N, H], or
    nowhere where the loss is cross-entropy.
    """
    completions = [item["completion"] for item in items]
    lengths = torch.tensor([len(completion) for completion in completions])
    prompts = [item["prompt"] for item in items]
    ids, positions, predicts = pack(prompts, completions)
    used = sum(len(prompt) for prompt in prompts) + lengths.sum()
    ends = lengths.cumsum(0)
    closes = torch.zeros(len(predicts), dtype=torch.bool)
    for item, end, length in zip(items, ends.tolist(), lengths.tolist(), strict=True):
        if item["think_end"] is not None:
            closes[end - length + item["think_end"]] = True
    stops = torch.zeros_like(closes)
    stops[ends - 1] = True
    batch = {
        "ids": ids,
        "positions": positions,
        "predicts": predicts,
        "usage": torch.tensor([int(used), ids.numel()], dtype=torch.float32),
        "realised": torch.tensor([token for completion in completions for token in completion]),
        "closes": closes,
        "stops": stops,
        **{
            name: torch.tensor([item[name] for item in items]).repeat_interleave(lengths)
            for name in ("weight", "sequence_weight")
        },
    }
    if items[0]["hidden"] is not None:
        return {**batch, "teacher_hidden": torch.cat([item["hidden"] for item in items])}
    if items[0]["support"] is None:
        return batch
    width = max(item["support"].ids.shape[1] for item in items)
    wide = [_widen(item["support"], width) for item in items]
    return {
        **batch,
        "support_ids": torch.cat([support.ids for support in wide]),
        "distinct": torch.cat([support.distinct for support in wide]),
        "teacher": torch.cat([support.logprobs for support in wide]),
    }


def _widen(support: Support, width: int) -> Support:
    """Fill up to `width` entries: repetitions of the realised id, which are not distinct."""
    entries = support.ids.shape[1]
    filler = support.ids[:, :1].expand(-1, width - entries)
    nothing = support.logprobs.new_full(filler.shape, FLOOR)
    of_entries, of_tails = support.logprobs[:, :entries], support.logprobs[:, entries:]
    return Support(
        torch.cat([support.ids, filler], 1),
        torch.cat([support.distinct, torch.zeros_like(filler, dtype=torch.bool)], 1),
        torch.cat([of_entries, nothing, of_tails], 1),
    )
