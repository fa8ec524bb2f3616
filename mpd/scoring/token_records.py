"""A row of the cache token by token, for all who look at one: the terminal and the page.

Log-probabilities are whole thousandths of a nat, their sign turned: 1250 is -1.25 nat. That is
finer than the cache rounds, but for the very small ones, and all who show one show the same.

The layout is that of mpd/scoring/cache.py, which decodes many rows at once, as tensors for
training. Here is no torch: the report is made without it.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

NUM_CANDIDATES = 5
LEAST_PROBABILITY = 0.0005  # of a candidate: less is shown as 0.0 %
LEAST_TAIL = 1e-12  # of the mass outside the support


def token_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """The tokens of a row of `logits`, with the candidates of each where it has supports.

    By token `ids`, log-probabilities `teacher` and `student`, and `divergence` (its sign as it is);
    None stands for what the cache does not have: vLLM gives no student, hidden states no support.
    """

    def shown(name: str, sign: int) -> list[int] | None:
        if row[name] is None:
            return None
        return thousandths(sign * np.asarray(row[name], np.float32)).tolist()

    without = {"candidates": None, "tail": None}
    return {
        "ids": row["completion_ids"],
        "teacher": shown("realised_logprob", -1),
        "student": shown("student_logprob", -1),
        "divergence": shown("divergence", 1),
        **(without if row["support_size"] is None else candidates(row)),
    }


def ids_of(records: Iterable[Mapping[str, Any]]) -> list[int]:
    """The ids that token records speak of, sorted."""
    all_ids: set[int] = set()
    for record in records:
        all_ids.update(record["ids"])
        for pairs in record["candidates"] or []:
            all_ids.update(pairs[::2])
    return sorted(all_ids)


def decoded(row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids and log-probabilities [N, K] of the support of each position, and the mass off it [N].

    Column 0 is the realised id, then the control ids, then the rest. Where an entry repeats
    another, or only fills up the rectangle, its log-probability is minus infinity. Each position
    sums to one: rounding has been undone by a common factor.
    """
    realised = np.asarray(row["completion_ids"])
    control = np.asarray(row["control_ids"], realised.dtype)
    sizes = np.asarray(row["support_size"])
    fixed = 1 + len(control)
    ids = np.full((len(realised), fixed + int(sizes.max(initial=0))), -1)
    logprobs = np.full(ids.shape, -np.inf)
    ids[:, 0], logprobs[:, 0] = realised, row["realised_logprob"]
    of_control = np.asarray(row["control_logprobs"]).reshape(len(realised), len(control))
    ids[:, 1:fixed] = control
    # A control id that is the realised one stands in the first column already.
    logprobs[:, 1:fixed] = np.where(control == realised[:, None], -np.inf, of_control)
    filled = np.arange(ids.shape[1] - fixed) < sizes[:, None]
    ids[:, fixed:][filled] = row["support_ids"]
    logprobs[:, fixed:][filled] = row["support_logprobs"]
    tails = np.exp(np.asarray(row["tail_logprobs"]).reshape(len(realised), -1)).sum(1)
    total = np.exp(logprobs).sum(1) + tails
    return ids, logprobs - np.log(total)[:, None], tails / total


def candidates(row: Mapping[str, Any]) -> dict[str, Any]:
    """The teacher's most probable ids of each position, and its mass outside the support.

    `candidates` has for each position up to five of the support, most probable first, as flat pairs
    of id and log-probability; improbable ones are left out. `tail` is the log of the mass.
    """
    ids, logprobs, tails = decoded(row)
    order = np.argsort(-logprobs, axis=1, kind="stable")[:, :NUM_CANDIDATES]
    rows = np.arange(len(ids))[:, None]
    best, which = logprobs[rows, order], ids[rows, order]
    shown = best > np.log(LEAST_PROBABILITY)
    pairs = np.stack([which, thousandths(-np.where(shown, best, 0))], 2)
    flat = pairs[shown].ravel().tolist()
    ends = (2 * shown.sum(1)).cumsum().tolist()
    return {
        "candidates": [flat[start:end] for start, end in pairwise([0, *ends])],
        "tail": thousandths(-np.log(np.maximum(tails, LEAST_TAIL))).tolist(),
    }


def thousandths(values: np.ndarray) -> np.ndarray:
    """Whole thousandths."""
    return np.rint(values * 1000.0).astype(np.int64)
