"""Bootstrap intervals over seeds and problems. No I/O.

Shapes: Q quantities of which an interval is wanted, S seeds, P problems, D draws.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

NUM_DRAWS = 4000
DRAWS_AT_ONCE = 200
TAIL = 0.025  # probability outside each end of an interval

Entry = tuple[dict[str, Any], np.ndarray]  # the columns that name it, and its values [Q, S, P]


def draws(values: np.ndarray, num_draws: int = NUM_DRAWS) -> np.ndarray:
    """Means of each quantity [1 + D, Q]: the first over all values, the others of each draw.

    `values` [Q, S, P] are NaN where a pair of seed and problem does not count. A mean over nothing
    is NaN. Seeds are the outer level: a draw takes S seeds with replacement, and P problems with
    replacement. It takes the same problems for all of its seeds, since a problem that is hard for
    one seed is hard for the others: drawn separately for each seed, they would count as S · P
    problems. All quantities see the same draws, and every call uses the same random numbers.
    """
    num_quantities, num_seeds, num_problems = values.shape
    counts = ~np.isnan(values)
    sums_and_counts = np.concatenate([np.where(counts, values, 0.0), counts])
    columns = sums_and_counts.reshape(2 * num_quantities, num_seeds * num_problems).T
    rng = np.random.default_rng(0)
    totals = [columns.sum(axis=0, keepdims=True)]
    for start in range(0, num_draws, DRAWS_AT_ONCE):
        size = min(DRAWS_AT_ONCE, num_draws - start)
        seeds = rng.integers(num_seeds, size=(size, num_seeds, 1))
        problems = rng.integers(num_problems, size=(size, 1, num_problems))
        # How often each draw takes each pair of seed and problem: [size, S · P].
        pairs = (seeds * num_problems + problems).reshape(size, -1)
        pairs += np.arange(size)[:, None] * len(columns)
        weights = np.bincount(pairs.ravel(), minlength=size * len(columns)).reshape(size, -1)
        totals.append(weights @ columns)
    sums = np.concatenate(totals)
    with np.errstate(invalid="ignore"):  # 0 / 0 where nothing that counts was drawn
        return sums[:, :num_quantities] / sums[:, num_quantities:]


def percentile_interval(drawn: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of draws, without those that are NaN; NaN where all are."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, [TAIL, 1 - TAIL])
    return low, high


def interval_columns(name: str, drawn: np.ndarray) -> dict[str, float | None]:
    """The columns `name`, `name_low` and `name_high` of a quantity; None in place of NaN.

    `drawn` [1 + D] is a column of `draws`: the mean, then that of each draw.
    """
    values = (drawn[0], *percentile_interval(drawn[1:]))
    pairs = zip((name, f"{name}_low", f"{name}_high"), values, strict=True)
    return {name: None if np.isnan(value) else float(value) for name, value in pairs}


def pooled(entries: Iterable[Entry]) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    """Each entry's columns with `num_seeds`, its values, and its `draws` as [Q, 1 + D].

    P must be the same in all entries. Entries with equally many seeds share their draws.
    """
    by_seeds: dict[int, list[Entry]] = {}
    for place, values in entries:
        by_seeds.setdefault(values.shape[1], []).append((place, values))
    for num_seeds, group in by_seeds.items():
        drawn = draws(np.concatenate([values for _, values in group])).T
        starts = np.cumsum([len(values) for _, values in group])[:-1]
        for (place, values), entry_draws in zip(group, np.split(drawn, starts), strict=True):
            yield {**place, "num_seeds": num_seeds}, values, entry_draws
