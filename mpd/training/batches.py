"""The tensors of a micro-batch, from the rows of the cache.

Each position carries its weight in the mean over the whole step, so that no process needs to know
what the others hold. No more than HELD_BYTES of the cache are in memory.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.compute as pc
import torch

from mpd.config.distill import DistillSettings
from mpd.config.methods import WITHOUT_SCORES
from mpd.scoring.cache import DecodedRows, Support
from mpd.scoring.cache_layout import FIXED_COLUMNS, SUPPORT_COLUMNS
from mpd.scoring.divergence import LOGPROB_FLOOR
from mpd.scoring.forward import Packed, pack
from mpd.store.row_groups import RowGroups
from mpd.training.steps import Limits, split_step

TRAINING_COLUMNS = [
    *("sample_id", "prompt_ids", "completion_ids", "num_tokens", "think_end", "control_ids"),
    *FIXED_COLUMNS,
    *SUPPORT_COLUMNS,
    "teacher_hidden",
]
REALISED_COLUMNS = [*TRAINING_COLUMNS, "student_logprob"]  # for a policy gradient
# Bytes of the row groups in memory. A window of short rows fits. Where rows are too long for that,
# a row group has few of them, and decoding it again takes little time beside training on one.
HELD_BYTES = 512 << 20


class CachedRows:
    """The rows of all cache shards by number, read one row group at a time.

    `held` has the decoded row groups that were used last: one, or as many as have HELD_BYTES.
    """

    def __init__(self, paths: Sequence[Path], columns: Sequence[str] = TRAINING_COLUMNS) -> None:
        """`columns` are TRAINING_COLUMNS, or REALISED_COLUMNS for a policy gradient."""
        self.columns = list(columns)
        files = [RowGroups(path) for path in paths]
        self.groups = [(file, group) for file in files for group in range(file.num_groups)]
        self.group_sizes = [file.sizes[group] for file, group in self.groups]
        self.group_bytes = [file.bytes[group] for file, group in self.groups]
        self.starts = list(accumulate(self.group_sizes, initial=0))
        self.held: OrderedDict[int, DecodedRows] = OrderedDict()
        self.lengths: list[int] = []
        self.sizes: list[int] = []  # of whole sequences, prompts included
        for file, group in self.groups:
            rows = file.read(group, ["num_tokens", "prompt_ids"])
            sizes = pc.add(rows["num_tokens"], pc.list_value_length(rows["prompt_ids"]))
            self.lengths += rows["num_tokens"].to_pylist()
            self.sizes += sizes.to_pylist()

    def decoded(self, number: int) -> DecodedRows:
        """A row group, which is decoded unless it is held; those used longest ago make room."""
        if number not in self.held:
            held_bytes = self.group_bytes[number] + sum(self.group_bytes[one] for one in self.held)
            while self.held and held_bytes > HELD_BYTES:
                oldest, _ = self.held.popitem(last=False)
                held_bytes -= self.group_bytes[oldest]
            self.held[number] = self._decode(number)
        self.held.move_to_end(number)
        return self.held[number]

    def _decode(self, number: int) -> DecodedRows:
        file, group = self.groups[number]
        frame = pl.from_arrow(file.read(group, self.columns))
        assert isinstance(frame, pl.DataFrame)
        return DecodedRows(frame)

    def place(self, row: int) -> tuple[DecodedRows, int]:
        """The decoded row group of a row, and its place in it."""
        group = bisect_right(self.starts, row) - 1
        return self.decoded(group), row - self.starts[group]


@dataclass(frozen=True)
class MicroBatch:
    """Packed sequences, and tensors whose first dimension is their N completion positions.

    `keys` are the step and the row of each sequence.
    """

    packed: Packed
    places: dict[str, torch.Tensor]
    keys: Sequence[tuple[int, int]] = ()

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on a device; copies from pinned memory are not waited for."""
        places = {
            name: values.to(device, non_blocking=True) for name, values in self.places.items()
        }
        return MicroBatch(self.packed.to(device), places, self.keys)

    def pin_memory(self) -> "MicroBatch":
        """The same in pinned memory."""
        places = {name: values.pin_memory() for name, values in self.places.items()}
        return MicroBatch(self.packed.pin_memory(), places, self.keys)


class TrajectoryDataset(torch.utils.data.Dataset):
    """Cached trajectories; the key of an item is its step and its row."""

    def __init__(
        self, cached: CachedRows, steps: list[list[int]], settings: DistillSettings
    ) -> None:
        self.cached, self.steps, self.loss = cached, steps, settings.loss
        self.takes_scores = settings.divergence not in WITHOUT_SCORES
        lengths = cached.lengths
        self.step_tokens = [sum(lengths[row] for row in step) for step in steps]
        self.sizes = cached.sizes

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Ids and teacher of a row, and the weights of each of its positions in the step."""
        step, number = key
        decoded, place = self.cached.place(number)
        row = decoded.frame.row(place, named=True)
        sequence_weight = 1 / (row["num_tokens"] * len(self.steps[step]))
        token_weight = 1 / self.step_tokens[step]
        scores: dict[str, Any] = {}
        if self.takes_scores and decoded.has_hidden:
            scores["hidden"] = decoded.hidden(place)
        elif self.takes_scores and decoded.has_support:
            scores["support"] = decoded.support(place)
        elif self.takes_scores:
            scores["realised"] = decoded.logprobs_of(place)
        return {
            "key": key,
            "prompt": row["prompt_ids"],
            "completion": row["completion_ids"],
            "think_end": row["think_end"],
            "weight": token_weight if self.loss == "token_mean" else sequence_weight,
            "sequence_weight": sequence_weight,
            **scores,
        }

    def plan(self, limits: Limits, num_processes: int) -> list[list[list[tuple[int, int]]]]:
        """The micro-batches of every step; each names its items as (step, row)."""
        return [
            [
                [(number, row) for row in part]
                for part in split_step(step, self.sizes, limits, num_processes)
            ]
            for number, step in enumerate(self.steps)
        ]


def collate(items: list[dict[str, Any]]) -> MicroBatch:
    """A micro-batch: `packed` sequences, and what is known of their N completion positions.

    `closes` [N] marks where thinking ends, `stops` [N] the last ids. The teacher is in
    `support_ids`, `distinct` [N, K] and `teacher` [N, K + B], or in `teacher_hidden` [N, H], or in
    `teacher_logprob` [N], with `old_logprob` [N] of the student; some objectives need none.
    """
    completions = [item["completion"] for item in items]
    lengths = torch.tensor([len(completion) for completion in completions])
    packed = pack([item["prompt"] for item in items], completions)
    ends = lengths.cumsum(0)
    closes = torch.zeros(len(packed.predicts), dtype=torch.bool)
    for item, end, length in zip(items, ends.tolist(), lengths.tolist(), strict=True):
        if item["think_end"] is not None:
            closes[end - length + item["think_end"]] = True
    stops = torch.zeros_like(closes)
    stops[ends - 1] = True
    places = {
        "realised": torch.tensor([token for completion in completions for token in completion]),
        "closes": closes,
        "stops": stops,
        **{
            name: torch.tensor([item[name] for item in items]).repeat_interleave(lengths)
            for name in ("weight", "sequence_weight")
        },
    }
    if "hidden" in items[0]:
        places["teacher_hidden"] = torch.cat([item["hidden"] for item in items])
    elif "support" in items[0]:
        places |= _join([item["support"] for item in items])
    elif "realised" in items[0]:
        realised = [item["realised"] for item in items]
        names = set.intersection(*(set(scores) for scores in realised))
        places |= {name: torch.cat([scores[name] for scores in realised]) for name in sorted(names)}
    return MicroBatch(packed, places, [item["key"] for item in items])


def _join(supports: list[Support]) -> dict[str, torch.Tensor]:
    """The supports of several trajectories, one after another, as wide as the widest."""
    width = max(support.ids.shape[1] for support in supports)
    wide = [_widen(support, width) for support in supports]
    return {
        "support_ids": torch.cat([support.ids for support in wide]),
        "distinct": torch.cat([support.distinct for support in wide]),
        "teacher": torch.cat([support.logprobs for support in wide]),
    }


def _widen(support: Support, width: int) -> Support:
    """Fill up to `width` entries: repetitions of the realised id, which are not distinct."""
    num_entries = support.ids.shape[1]
    filler = support.ids[:, :1].expand(-1, width - num_entries)
    no_mass = support.logprobs.new_full(filler.shape, LOGPROB_FLOOR)
    entries, tails = support.logprobs[:, :num_entries], support.logprobs[:, num_entries:]
    return Support(
        torch.cat([support.ids, filler], 1),
        torch.cat([support.distinct, torch.zeros_like(filler, dtype=torch.bool)], 1),
        torch.cat([entries, no_mass, tails], 1),
    )
