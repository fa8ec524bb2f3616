"""The logit cache, encoded from scores and decoded to supports: see mpd/scoring/cache_layout.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import polars as pl
import pyarrow as pa
import torch

from mpd.scoring.cache_layout import (
    ENTRY_BITS,
    FIXED_COLUMNS,
    POSITION_BITS,
    SUPPORT_COLUMNS,
    TAIL_BITS,
    fixed_entries,
    round_to_bits,
    support_arrays,
)
from mpd.scoring.divergence import LOGPROB_FLOOR
from mpd.store import schema, table

_LISTS = ("completion_ids", *SUPPORT_COLUMNS, *FIXED_COLUMNS)


@dataclass(frozen=True)
class Support:
    """Supports of N positions: `ids` int32 and `distinct` [N, K], `logprobs` [N, K + B].

    Column 0 is the realised id, then the control ids, then the rest. An entry that repeats
    another, or only fills the rectangle, is not `distinct` and has no mass. The last B columns of
    `logprobs` are the tail buckets.
    """

    ids: torch.Tensor
    distinct: torch.Tensor
    logprobs: torch.Tensor


def list_column(name: str, values: np.ndarray, lengths: Sequence[int] | np.ndarray) -> pl.Series:
    """A list column of flat values, cut into rows of the given lengths."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    # pyarrow's own conversion imports pandas.
    arrays = (pl.Series(flat).to_arrow() for flat in (offsets, values))
    return pl.Series(name, pa.LargeListArray.from_arrays(*arrays))


def encode(scores: Mapping[str, torch.Tensor], lengths: Sequence[int]) -> list[pl.Series]:
    """The columns of what mpd.scoring.support.score gives, for trajectories of these lengths.

    Scores that are missing have no column. `teacher_hidden` may be of any precision. Without a
    support or hidden states, log-probabilities of the realised ids are all that training has, and
    are not rounded.
    """
    arrays = {
        name: (values.float() if values.is_floating_point() else values).numpy()
        for name, values in scores.items()
    }
    is_realised = "kept" not in arrays and "teacher_hidden" not in arrays
    exact = ("realised_logprob", "student_logprob") if is_realised else ()
    columns = [
        list_column(
            name,
            arrays[name] if name in exact else round_to_bits(arrays[name], POSITION_BITS),
            lengths,
        )
        for name in ("realised_logprob", "student_logprob", "divergence", "teacher_entropy")
        if name in arrays
    ]
    control = arrays["control_logprobs"]
    widths = [length * control.shape[1] for length in lengths]
    control = round_to_bits(control.ravel(), POSITION_BITS)
    columns.append(list_column("control_logprobs", control, widths))
    if "teacher_hidden" in arrays:
        states = arrays["teacher_hidden"]
        widths = [length * states.shape[1] for length in lengths]
        return [*columns, list_column("teacher_hidden", states.ravel(), widths)]
    starts = np.cumsum(lengths) - np.asarray(lengths)
    means = [
        pl.Series(name, np.add.reduceat(arrays[name].astype(np.float64), starts) / lengths)
        for name in ("overlap", "teacher_mass", "student_mass")
        if name in arrays
    ]
    if is_realised:
        return [*columns, *means]
    kept, tails = arrays["kept"], arrays["tail_logprobs"]
    sizes = kept.sum(1).astype(np.int32)
    num_entries = np.add.reduceat(sizes, starts)
    widths = [length * tails.shape[1] for length in lengths]
    places = np.flatnonzero(kept)  # faster than two selections by a mask
    ids, logprobs = (np.ravel(arrays[name])[places] for name in ("candidates", "logprobs"))
    return [
        *columns,
        list_column("support_size", sizes, lengths),
        list_column("support_ids", ids.astype(np.int32, copy=False), num_entries),
        list_column("support_logprobs", round_to_bits(logprobs, ENTRY_BITS), num_entries),
        list_column("tail_logprobs", round_to_bits(tails.ravel(), TAIL_BITS), widths),
        *means,
    ]


def complete_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of the artifact, in their order; those that `frame` lacks are null."""
    dtypes = table.frame_of([], schema.LOGITS).schema
    missing = {name: pl.lit(None, dtypes[name]) for name in dtypes if name not in frame.columns}
    return frame.with_columns(**missing).select(schema.LOGITS.names)


class DecodedRows:
    """Rows of a cache as flat arrays over all their positions and entries.

    Entries, fixed ids and tails of each position sum to one: rounding has been undone by a
    common factor, without which the divergence of equal distributions would not be zero.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        """Raises ValueError where the lists of a row do not fit together."""
        self.frame = frame.select("prompt_ids", "completion_ids", "num_tokens", "think_end")
        self.has_hidden = frame["teacher_hidden"].null_count() < max(len(frame), 1)
        has_sizes = frame["support_size"].null_count() < len(frame) or frame.is_empty()
        self.has_support = has_sizes and not self.has_hidden
        if self.has_hidden:
            values, starts = _flat(frame, "teacher_hidden")
            self.states, self.state_starts = torch.tensor(values), starts
        elif self.has_support:
            self._decode_supports(frame)
        else:
            self._take_realised(frame)

    def _take_realised(self, frame: pl.DataFrame) -> None:
        """Take the log-probabilities of the realised ids, which are all that such a cache has."""
        names = {"realised_logprob": "teacher_logprob", "student_logprob": "old_logprob"}
        self.logprobs = {new: frame[name] for name, new in names.items() if name in frame.columns}
        for values in self.logprobs.values():
            unfit = frame.filter((values.list.len() != frame["num_tokens"]).fill_null(False))
            for sample_id in unfit["sample_id"][:1]:
                _refuse(sample_id)

    def _decode_supports(self, frame: pl.DataFrame) -> None:
        flat = {name: _flat(frame, name) for name in _LISTS}
        self.realised, self.starts = flat["completion_ids"]
        control = frame["control_ids"][0].to_list() if len(frame) else []
        self.control = np.asarray(control, np.int32)
        _require_fit(frame, flat, len(self.control))
        self.entry_ids, _ = flat["support_ids"]
        sizes, _ = flat["support_size"]
        self.entry_starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        realised, controls = (flat[name][0] for name in FIXED_COLUMNS)
        self.fixed = fixed_entries(self.realised, self.control, realised, controls, LOGPROB_FLOOR)
        self.tails = flat["tail_logprobs"][0].reshape(len(self.realised), -1)
        entries, _ = flat["support_logprobs"]
        sums = np.concatenate([[0.0], np.cumsum(np.exp(entries), dtype=np.float64)])
        total = sums[self.entry_starts[1:]] - sums[self.entry_starts[:-1]]
        total += np.exp(self.fixed).sum(1) + np.exp(self.tails).sum(1)
        self.normaliser = np.log(total).astype(np.float32)
        self.entries = entries - np.repeat(self.normaliser, sizes)

    def hidden(self, row: int) -> torch.Tensor:
        """Inputs [N, H] of the teacher's output head for one trajectory."""
        part = self.states[self.state_starts[row] : self.state_starts[row + 1]]
        return part.view(self.frame["num_tokens"][row], -1)

    def logprobs_of(self, row: int) -> dict[str, torch.Tensor]:
        """Log-probabilities [N] of the realised ids of one trajectory, where there is no support.

        `teacher_logprob`, and `old_logprob` of the student before training where it is known.
        """
        rows = {name: values[row] for name, values in self.logprobs.items()}
        return {
            name: torch.tensor(values.to_numpy())
            for name, values in rows.items()
            if values is not None
        }

    def support(self, row: int) -> Support:
        """The supports of one trajectory."""
        part = slice(self.starts[row], self.starts[row + 1])
        bounds = self.entry_starts[part.start : part.stop + 1]
        entries = slice(bounds[0], bounds[-1])
        shift = self.normaliser[part, None]
        ids, distinct, logprobs = support_arrays(
            self.realised[part],
            self.control,
            self.fixed[part] - shift,
            np.diff(bounds),
            (self.entry_ids[entries], self.entries[entries]),
            self.tails[part] - shift,
            LOGPROB_FLOOR,
        )
        np.maximum(logprobs, LOGPROB_FLOOR, out=logprobs)
        return Support(*(torch.from_numpy(values) for values in (ids, distinct, logprobs)))


def _flat(frame: pl.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The values of a list column one after another, and where each row starts."""
    array = frame[name].rechunk().to_arrow()
    offsets = np.from_dlpack(array.offsets)
    values = np.from_dlpack(array.values)[offsets[0] : offsets[-1]]
    return values, offsets - offsets[0]


def _require_fit(frame: pl.DataFrame, flat: Mapping[str, Any], num_control: int) -> None:
    """Raise ValueError where the lists of a row contradict each other."""
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
        _refuse(frame["sample_id"][int(np.flatnonzero(~fits)[0])])


def _refuse(sample_id: str) -> NoReturn:
    raise ValueError(
        f"cached row {sample_id}: its lists do not fit together; run its logits stage again"
    )
