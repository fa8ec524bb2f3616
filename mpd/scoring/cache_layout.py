"""The layout of a cached position, for those who write the cache, train on it and show it.

The support of a position is its realised id, the control ids, and its slice of the flat lists,
which repeats neither. The artifact LOGITS of the schema describes the columns.

Log-probabilities are float32 rounded to few significant bits: plain numbers for every reader,
whose low bytes are zero and cost nothing once the bytes of a column are split and compressed.
"""

import numpy as np
import polars as pl

# The mantissa bits that are stored: the fewest that cost less fidelity than as many bytes of
# entries would bring (benchmarks/fidelity.py).
ENTRY_BITS, TAIL_BITS, POSITION_BITS = 6, 4, 7

FIXED_COLUMNS = ("realised_logprob", "control_logprobs")  # entries that every support has
SUPPORT_COLUMNS = ("support_size", "support_ids", "support_logprobs", "tail_logprobs")


def round_to_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Float32 values rounded to the nearest with `bits` mantissa bits."""
    raw = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    num_dropped = 23 - bits
    half, low = np.uint32(1 << (num_dropped - 1)), np.uint32((1 << num_dropped) - 1)
    return ((raw + half) & ~low).view(np.float32)


def mean_overlap(rows: pl.DataFrame) -> float | None:
    """The mean over all positions of the `overlap` of cached rows; None where it is not known."""
    known = rows.drop_nulls("overlap")
    tokens = pl.col("num_tokens").cast(pl.Float64)
    mean = known.select((pl.col("overlap") * tokens).sum() / tokens.sum()).item()
    return mean if len(known) else None


def fixed_entries(
    realised: np.ndarray,
    control: np.ndarray,
    realised_logprobs: np.ndarray,
    control_logprobs: np.ndarray,
    absent: float,
) -> np.ndarray:
    """Log-probabilities [N, 1 + C] of the realised ids [N] and the control ids [C].

    A control id that is the realised one counts in the first column alone: its own is `absent`.
    """
    controls = control_logprobs.reshape(len(realised), len(control))
    controls = np.where(control == realised[:, None], absent, controls)
    return np.concatenate([realised_logprobs[:, None], controls], 1)


def support_arrays(
    realised: np.ndarray,
    control: np.ndarray,
    fixed: np.ndarray,
    sizes: np.ndarray,
    entries: tuple[np.ndarray, np.ndarray],
    tails: np.ndarray,
    absent: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Supports as rectangles: ids and `distinct` [N, K], log-probabilities [N, K + B].

    `fixed` [N, 1 + C] are `fixed_entries`, `sizes` [N] says how many of the flat `entries` (ids
    and log-probabilities) belong to each position, `tails` are [N, B]. Control ids that repeat the
    realised id, and what only fills the rectangle, are not `distinct`; the log-probability of the
    latter is `absent`.
    """
    num_fixed = fixed.shape[1]
    width = num_fixed + int(sizes.max(initial=0))
    ids = np.repeat(realised[:, None], width, axis=1)
    distinct = np.zeros(ids.shape, dtype=bool)
    logprobs = np.full((len(ids), width + tails.shape[1]), absent, dtype=fixed.dtype)
    distinct[:, 0] = True
    ids[:, 1:num_fixed] = control
    distinct[:, 1:num_fixed] = control != realised[:, None]
    logprobs[:, :num_fixed] = fixed
    filled = np.arange(width - num_fixed)[None] < sizes[:, None]
    ids[:, num_fixed:][filled], logprobs[:, num_fixed:width][filled] = entries
    distinct[:, num_fixed:] = filled
    logprobs[:, width:] = tails
    return ids, distinct, logprobs
