"""Which trajectories make a step, a micro-batch and its tensors. B, T, N, K as in mpd/train.py.

A step is a fixed set of trajectories, the same for any number of processes and any micro-batch
size. Each position carries its weight in the mean over the whole step, so that no process needs
to know what the others hold.
"""

import math
from collections.abc import Sequence
from typing import Any

import polars as pl
import torch

from mpd import cache
from mpd.divergence import FLOOR
from mpd.forward import pad


def plan_steps(num_rows: int, batch_size: int, epochs: float, seed: int) -> list[list[int]]:
    """The rows of every optimiser step: shuffled epochs, one after another, in full batches."""
    batch_size = min(batch_size, num_rows)
    num_steps = max(1, round(num_rows * epochs / batch_size))
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while len(order) < num_steps * batch_size:
        order += torch.randperm(num_rows, generator=generator).tolist()
    return [order[step * batch_size : (step + 1) * batch_size] for step in range(num_steps)]


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


class Trajectories(torch.utils.data.Dataset):
    """Cached trajectories; an item is a row and its share in its step."""

    def __init__(self, frame: pl.DataFrame, steps: list[list[int]], loss: str) -> None:
        self.frame, self.steps, self.loss = frame, steps, loss
        self.lengths = frame["completion_ids"].list.len().to_list()
        self.step_tokens = [sum(self.lengths[row] for row in step) for step in steps]
        self.step_rows = [len(step) for step in steps]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        step, number = key
        row = self.frame.row(number, named=True)
        length = len(row["completion_ids"])
        share = {
            "token_mean": 1 / self.step_tokens[step],
            "sequence_mean": 1 / (length * self.step_rows[step]),
        }[self.loss]
        return {
            "prompt": row["prompt_ids"],
            "completion": row["completion_ids"],
            "support": cache.decode(row),
            "weight": [share] * length,
            "sequence_weight": [1 / (length * self.step_rows[step])] * length,
        }

    def plan(self, micro_batch_size: int, num_processes: int) -> list[list[list[tuple[int, int]]]]:
        """For every step its micro-batches; each names its items as (step, row)."""
        return [
            [
                [(number, row) for row in part]
                for part in split_step(step, self.lengths, micro_batch_size, num_processes)
            ]
            for number, step in enumerate(self.steps)
        ]


def collate(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A micro-batch: padded sequences, and the supports of all positions as one rectangle."""
    ids, mask, predicts = pad(
        [item["prompt"] for item in items], [item["completion"] for item in items]
    )
    supports = [item["support"] for item in items]
    width = max(support.ids.shape[1] for support in supports)
    wide = [_widen(support, width) for support in supports]
    return {
        "ids": ids,
        "mask": mask,
        "predicts": predicts,
        "support_ids": torch.cat([support.ids for support in wide]),
        "distinct": torch.cat([support.distinct for support in wide]),
        "teacher": torch.cat([support.logprobs for support in wide]),
        "weight": torch.tensor([value for item in items for value in item["weight"]]),
        "sequence_weight": torch.tensor(
            [value for item in items for value in item["sequence_weight"]]
        ),
    }


def _widen(support: cache.Support, width: int) -> cache.Support:
    """Fill up to `width` entries: repetitions of the realised id, which are not distinct."""
    missing = width - support.ids.shape[1]
    filler = support.ids[:, :1].expand(-1, missing)
    nothing = support.logprobs.new_full((len(filler), missing), FLOOR)
    return cache.Support(
        torch.cat([support.ids, filler], 1),
        torch.cat([support.distinct, torch.zeros_like(filler, dtype=torch.bool)], 1),
        torch.cat([support.logprobs[:, :-1], nothing, support.logprobs[:, -1:]], 1),
    )
