"""A row of the cache token by token, as the terminal and the page show it.

Log-probabilities are whole thousandths of a nat with their sign turned: 1250 is -1.25 nat. That is
finer than the rounding of the cache, except for very small ones.

Training decodes many rows at once, in float32; here it is one row, in float64 and without torch:
the report is made without it.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from mpd.scoring.cache_layout import FIXED_COLUMNS, fixed_entries, support_arrays

NUM_CANDIDATES = 5
LEAST_PROBABILITY = 0.0005  # of a candidate: less is shown as 0.0 %
LEAST_TAIL_MASS = 1e-12  # less is shown as this


def token_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """The tokens of a row of `logits`, with the candidates of each where it has supports.

    Lists over tokens: `ids`, the log-probabilities `teacher` and `student`, and `divergence` (its
    sign as it is). None stands for what the cache does not have: vLLM gives no student, hidden
    states no support.
    """

    def shown(name: str, sign: int) -> list[int] | None:
        if row[name] is None:
            return None
        return thousandths(sign * np.asarray(row[name], np.float32)).tolist()

    no_support = {"candidates": None, "tail": None}
    return {
        "ids": row["completion_ids"],
        "teacher": shown("realised_logprob", -1),
        "student": shown("student_logprob", -1),
        "divergence": shown("divergence", 1),
        **(no_support if row["support_size"] is None else candidates(row)),
    }


def ids_of(records: Iterable[Mapping[str, Any]]) -> list[int]:
    """All ids in token records, sorted."""
    all_ids: set[int] = set()
    for record in records:
        all_ids.update(record["ids"])
        for pairs in record["candidates"] or []:
            all_ids.update(pairs[::2])
    return sorted(all_ids)


def decode(row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids and log-probabilities [N, K] of the supports of a row, and the masses outside them [N].

    Where an entry is not distinct, its log-probability is minus infinity. Each position sums to
    one: rounding has been undone by a common factor.
    """
    realised = np.asarray(row["completion_ids"])
    control = np.asarray(row["control_ids"], realised.dtype)
    realised_logprobs, control_logprobs = (np.asarray(row[name]) for name in FIXED_COLUMNS)
    ids, _, logprobs = support_arrays(
        realised,
        control,
        fixed_entries(realised, control, realised_logprobs, control_logprobs, -np.inf),
        np.asarray(row["support_size"]),
        (np.asarray(row["support_ids"]), np.asarray(row["support_logprobs"])),
        np.asarray(row["tail_logprobs"]).reshape(len(realised), -1),
        -np.inf,
    )
    entries, tails = np.split(logprobs, [ids.shape[1]], axis=1)
    tail_masses = np.exp(tails).sum(1)
    total = np.exp(entries).sum(1) + tail_masses
    return ids, entries - np.log(total)[:, None], tail_masses / total


def candidates(row: Mapping[str, Any]) -> dict[str, Any]:
    """The teacher's most probable ids at each position, and its mass outside the support.

    `candidates` has for each position up to five ids of the support, most probable first, as flat
    pairs of id and log-probability; improbable ones are left out. `tail` is the log of the mass.
    """
    ids, logprobs, tail_masses = decode(row)
    order = np.argsort(-logprobs, axis=1, kind="stable")[:, :NUM_CANDIDATES]
    positions = np.arange(len(ids))[:, None]
    best_logprobs, best_ids = logprobs[positions, order], ids[positions, order]
    shown = best_logprobs > np.log(LEAST_PROBABILITY)
    pairs = np.stack([best_ids, thousandths(-np.where(shown, best_logprobs, 0))], 2)
    flat = pairs[shown].ravel().tolist()
    ends = (2 * shown.sum(1)).cumsum().tolist()
    return {
        "candidates": [flat[start:end] for start, end in pairwise([0, *ends])],
        "tail": thousandths(-np.log(np.maximum(tail_masses, LEAST_TAIL_MASS))).tolist(),
    }


def thousandths(values: np.ndarray) -> np.ndarray:
    """Values rounded to whole thousandths, as integers."""
    return np.rint(values * 1000.0).astype(np.int64)
