"""The layout of the logit cache: supports of varying size in flat lists, and back.

N positions, K support entries, C control ids, B tail buckets. A position's support is its
realised id, the control ids, and the entries of its slice of the flat lists, which never repeat
those two. The columns stand in mpd/store/schema/cache.py.

Log-probabilities are float32 rounded to few significant bits: plain numbers for every reader,
whose low bytes are zero and cost nothing once the bytes of a column are split and compressed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch

from mpd.scoring.divergence import FLOOR

# Bits behind the leading one: the fewest that cost less fidelity than as many bytes of entries
# would bring (benchmarks/fidelity.py).
ENTRY_BITS, TAIL_BITS, POSITION_BITS = 6, 4, 7


@dataclass(frozen=True)
class Support:
    """Supports of N positions: `ids` int32 and `distinct` [N, K], `logprobs` [N, K + B].

    Column 0 is the realised id, then the control ids, then the rest. An entry that repeats
    another, or only fills up the rectangle, names the realised id and is not `distinct`.
    The last columns of `logprobs` are the tail buckets.
    """

    ids: torch.Tensor
    distinct: torch.Tensor
    logprobs: torch.Tensor


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Float32 values rounded to the nearest of `bits` mantissa bits."""
    raw = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    dropped = 23 - bits
    half, low = np.uint32(1 << (dropped - 1)), np.uint32((1 << dropped) - 1)
    return ((raw + half) & ~low).view(np.float32)


def lists(name: str, values: np.ndarray, lengths: Sequence[int] | np.ndarray) -> pl.Series:
    """A list column of flat values, cut into rows of the given lengths."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    made = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
    return pl.Series(name, made)


def encode(scores: Mapping[str, torch.Tensor], lengths: Sequence[int]) -> list[pl.Series]:
    """The columns of mpd.scoring.support.score for trajectories of the given lengths, in order.

    What a scorer did not find has no column.
    """
    found = {name: values.numpy() for name, values in scores.items()}
    columns = [
        lists(name, rounded(found[name], POSITION_BITS), lengths)
        for name in ("realised_logprob", "student_logprob", "divergence", "teacher_entropy")
        if name in found
    ]
    control = found["control_logprobs"]
    widths = [length * control.shape[1] for length in lengths]
    columns.append(lists("control_logprobs", rounded(control.ravel(), POSITION_BITS), widths))
    if "teacher_hidden" in found:
        states = found["teacher_hidden"]
        widths = [length * states.shape[1] for length in lengths]
        return [*columns, lists("teacher_hidden", states.ravel(), widths)]
    kept, tails = found["kept"], found["tail_logprobs"]
    sizes = kept.sum(1).astype(np.int32)
    starts = np.cumsum(lengths) - np.asarray(lengths)
    entries = np.add.reduceat(sizes, starts)
    widths = [length * tails.shape[1] for length in lengths]
    return [
        *columns,
        lists("support_size", sizes, lengths),
        lists("support_ids", found["candidates"][kept].astype(np.int32), entries),
        lists("support_logprobs", rounded(found["logprobs"][kept], ENTRY_BITS), entries),
        lists("tail_logprobs", rounded(tails.ravel(), TAIL_BITS), widths),
        *(
            pl.Series(name, np.add.reduceat(found[name].astype(np.float64), starts) / lengths)
            for name in ("overlap", "teacher_mass", "student_mass")
            if name in found
        ),
    ]


class Rows:
    """Decoded rows of a cache: flat arrays over all their positions and entries.

    Entries, fixed ids and tail of each position sum to one: rounding has been undone by a
    common factor, without which the divergence of equal distributions would not be zero.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        """Raises ValueError where the lists of a row do not fit together."""
        self.frame = frame.select("prompt_ids", "completion_ids", "num_tokens", "think_end")
        self.has_hidden = frame["teacher_hidden"].null_count() < max(len(frame), 1)
        if self.has_hidden:
            values, starts = _flat(frame, "teacher_hidden")
            self.states, self.state_starts = torch.tensor(values), starts
        else:
            self._decode_supports(frame)

    def _decode_supports(self, frame: pl.DataFrame) -> None:
        flat = {name: _flat(frame, name) for name in _LISTS}
        self.realised = flat["completion_ids"][0]
        self.starts = flat["completion_ids"][1]
        count, num_rows = len(self.realised), len(frame)
        self.control = np.asarray(frame["control_ids"][0].to_list() if num_rows else [], np.int32)
        _require_fit(frame, flat, len(self.control))
        self.entry_ids = flat["support_ids"][0]
        sizes = flat["support_size"][0]
        self.entry_starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        controls = flat["control_logprobs"][0].reshape(count, len(self.control))
        # A control id that is the realised one stands in the realised column already.
        self.repeats = self.control[None] == self.realised[:, None]
        self.fixed = np.concatenate(
            [flat["realised_logprob"][0][:, None], np.where(self.repeats, FLOOR, controls)], 1
        )
        self.tails = flat["tail_logprobs"][0].reshape(count, -1)
        entries = flat["support_logprobs"][0]
        sums = np.concatenate([[0.0], np.cumsum(np.exp(entries), dtype=np.float64)])
        total = sums[self.entry_starts[1:]] - sums[self.entry_starts[:-1]]
        total += np.exp(self.fixed).sum(1) + np.exp(self.tails).sum(1)
        self.normaliser = np.log(total).astype(np.float32)
        self.entries = entries - np.repeat(self.normaliser, sizes)

    def hidden(self, row: int) -> torch.Tensor:
        """Inputs of the teacher's output head [N, H] of one trajectory."""
        part = self.states[self.state_starts[row] : self.state_starts[row + 1]]
        return part.view(self.frame["num_tokens"][row], -1)

    def support(self, row: int) -> Support:
        """The supports of one trajectory."""
        part = slice(self.starts[row], self.starts[row + 1])
        bounds = self.entry_starts[part.start : part.stop + 1]
        sizes = np.diff(bounds)
        realised, count = self.realised[part], part.stop - part.start
        num_fixed = 1 + len(self.control)
        width = num_fixed + int(sizes.max(initial=0))
        ids = np.repeat(realised[:, None], width, axis=1)
        distinct = np.zeros(ids.shape, dtype=bool)
        logprobs = np.full((count, width + self.tails.shape[1]), FLOOR, dtype=np.float32)
        distinct[:, 0] = True
        ids[:, 1:num_fixed] = self.control
        distinct[:, 1:num_fixed] = ~self.repeats[part]
        shift = self.normaliser[part, None]
        logprobs[:, :num_fixed] = self.fixed[part] - shift
        filled = np.arange(width - num_fixed)[None] < sizes[:, None]
        entries = slice(bounds[0], bounds[-1])
        ids[:, num_fixed:][filled] = self.entry_ids[entries]
        distinct[:, num_fixed:] = filled
        logprobs[:, num_fixed:width][filled] = self.entries[entries]
        logprobs[:, width:] = self.tails[part] - shift
        np.maximum(logprobs, FLOOR, out=logprobs)
        return Support(*(torch.from_numpy(values) for values in (ids, distinct, logprobs)))


_LISTS = (
    *("completion_ids", "support_size", "support_ids", "support_logprobs", "tail_logprobs"),
    *("realised_logprob", "control_logprobs"),
)


def _flat(frame: pl.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The values of a list column one after another, and where each row starts."""
    array = frame[name].rechunk().to_arrow()
    offsets = array.offsets.to_numpy()
    values = array.values.to_numpy()[offsets[0] : offsets[-1]]
    return values, offsets - offsets[0]


def _require_fit(frame: pl.DataFrame, flat: Mapping[str, Any], num_control: int) -> None:
    lengths = {name: np.diff(starts) for name, (_, starts) in flat.items()}
    positions = lengths["completion_ids"]
    sizes, starts = flat["support_size"]
    sums = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    tails = flat["tail_logprobs"][0]
    num_buckets = max(len(tails) // max(len(flat["completion_ids"][0]), 1), 1)
    fits = lengths["support_size"] == positions
    fits &= lengths["realised_logprob"] == positions
    fits &= frame["control_ids"].list.len().to_numpy() == num_control
    fits &= lengths["control_logprobs"] == positions * num_control
    fits &= lengths["tail_logprobs"] == positions * num_buckets
    if fits.all():
        entries = sums[starts[1:]] - sums[starts[:-1]]
        fits &= (lengths["support_ids"] == entries) & (lengths["support_logprobs"] == entries)
    if not fits.all():
        sample_id = frame["sample_id"][int(np.flatnonzero(~fits)[0])]
        raise ValueError(
            f"cached row {sample_id}: its lists do not fit together; run its logits stage again"
        )
