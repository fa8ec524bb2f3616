"""The layout of the logit cache: supports of varying size in flat lists, and back.

N positions, K support entries, C control ids. A position's support is its realised id, the
control ids, and the entries of its slice of the flat lists, which never repeat those two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Support:
    """Supports of N positions as rectangles: `ids` and `distinct` [N, K], `logprobs` [N, K + 1].

    Column 0 is the realised id, then the control ids, then the rest. An entry that repeats
    another, or only fills up the rectangle, names the realised id and is not `distinct`.
    The last column of `logprobs` is the tail.
    """

    ids: torch.Tensor
    distinct: torch.Tensor
    logprobs: torch.Tensor


def encode(
    top_ids: torch.Tensor, top_logprobs: torch.Tensor, taken: torch.Tensor
) -> tuple[list[int], list[int], list[float]]:
    """Sizes, flat ids and flat log-probabilities of the entries [N, K] that are not `taken`."""
    free = ~taken
    return (free.sum(-1).tolist(), top_ids[free].tolist(), top_logprobs[free].tolist())


def decode(row: Mapping[str, Any]) -> Support:
    """The supports of one cached trajectory.

    Raises ValueError where its lists do not fit together.
    """
    from mpd.divergence import FLOOR, renormalise

    realised = np.asarray(row["completion_ids"], dtype=np.int64)
    sizes = np.asarray(row["support_size"], dtype=np.int64)
    control = np.asarray(row["control_ids"], dtype=np.int64)
    count, fixed = len(realised), 1 + len(control)
    lengths = {
        "support_size": count,
        "support_ids": sizes.sum(),
        "support_logprobs": sizes.sum(),
        "realised_logprob": count,
        "control_logprobs": count * len(control),
        "tail_logprob": count,
    }
    if any(len(row[name]) != length for name, length in lengths.items()):
        raise ValueError(f"cached row {row['sample_id']}: its lists do not fit together")
    ids = np.repeat(realised[:, None], fixed + int(sizes.max(initial=0)), axis=1)
    distinct = np.zeros(ids.shape, dtype=bool)
    logprobs = np.full((count, ids.shape[1] + 1), FLOOR, dtype=np.float32)
    distinct[:, 0] = True
    logprobs[:, 0] = row["realised_logprob"]
    ids[:, 1:fixed] = control
    # A control id that is the realised one stands in column 0 already.
    distinct[:, 1:fixed] = control[None] != realised[:, None]
    control_logprobs = np.asarray(row["control_logprobs"], dtype=np.float32).reshape(count, -1)
    logprobs[:, 1:fixed] = np.where(distinct[:, 1:fixed], control_logprobs, FLOOR)
    filled = np.arange(ids.shape[1] - fixed)[None] < sizes[:, None]
    ids[:, fixed:][filled] = row["support_ids"]
    distinct[:, fixed:] = filled
    logprobs[:, fixed:-1][filled] = row["support_logprobs"]
    logprobs[:, -1] = row["tail_logprob"]
    return Support(
        torch.from_numpy(ids),
        torch.from_numpy(distinct),
        renormalise(torch.from_numpy(logprobs)),
    )
