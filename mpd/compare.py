"""Students compared: means and paired differences, with bootstrap intervals. No I/O.

A student is a method and a round; it has one set of answers for each seed. Shapes: C columns
(quantities of which an interval is wanted), S seeds, P problems.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from mpd import schema, table

MEASURES = ("accuracy", "tokens", "solved_tokens")
REFERENCE = "mpd"  # methods are compared with the base student, and with this one
NUM_DRAWS = 4000
DRAWS_AT_ONCE = 200
LEVEL = 0.95

Student = tuple[str, int]
Answers = dict[Student, dict[int, np.ndarray]]  # by seed: MEASURES × P


def per_problem(answered: pl.DataFrame) -> pl.DataFrame:
    """Rows of `evaluate` as one row per problem: problem_id and MEASURES, means over its samples.

    `solved_tokens` are those of the correct samples; null where there is none. A sample whose
    prompt did not fit has no tokens and counts for accuracy alone.
    """
    tokens, sampled = pl.col("num_tokens"), pl.col("finish_reason") != "too_long"
    return answered.group_by("problem_id", maintain_order=True).agg(
        accuracy=pl.col("correct").mean(),
        tokens=tokens.filter(sampled).mean(),
        solved_tokens=tokens.filter(pl.col("correct")).mean(),
    )


def bootstrap(values: np.ndarray, num_draws: int = NUM_DRAWS) -> tuple[np.ndarray, ...]:
    """Mean and 95 % percentile interval of each column; three arrays of C.

    `values`: C × S × P, NaN where a pair of seed and problem does not count. The mean is over all
    that count. Seeds are the outer level: each draw takes S seeds with replacement, and in each
    of them, anew, P problems with replacement. Every column sees the same draws, and every call
    the same random numbers. NaN where nothing counts.
    """
    num_columns, num_seeds, num_problems = values.shape
    counts = ~np.isnan(values)
    both = np.concatenate([np.where(counts, values, 0.0), counts])
    both = both.reshape(2 * num_columns, num_seeds * num_problems).T
    rng = np.random.default_rng(0)
    drawn = []
    for start in range(0, num_draws, DRAWS_AT_ONCE):
        size = min(DRAWS_AT_ONCE, num_draws - start)
        seeds = rng.integers(num_seeds, size=(size, num_seeds, 1))
        problems = rng.integers(num_problems, size=(size, num_seeds, num_problems))
        # How often each pair of seed and problem was taken: draws × (S · P).
        taken = (seeds * num_problems + problems).reshape(size, -1)
        taken += np.arange(size)[:, None] * len(both)
        weights = np.bincount(taken.ravel(), minlength=size * len(both)).reshape(size, -1)
        drawn.append(weights @ both)
    sums = np.concatenate([both.sum(axis=0, keepdims=True), *drawn])
    with np.errstate(invalid="ignore"):  # 0 / 0 where nothing that counts was drawn
        means = sums[:, :num_columns] / sums[:, num_columns:]
    ends = np.full((2, num_columns), np.nan)
    for column in range(num_columns):
        found = means[1:, column]
        found = found[~np.isnan(found)]
        if len(found):
            ends[:, column] = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return means[0], ends[0], ends[1]


def answers_of(problems: pl.DataFrame) -> dict[str, Answers]:
    """Per benchmark the students' measures as arrays, problems in one order.

    `problems`: rows of `per_problem` with method, round, seed and benchmark. Raises ValueError
    where two students were asked different problems.
    """
    found: dict[str, Answers] = {}
    asked: dict[str, pl.Series] = {}
    place = ["benchmark", "method", "round", "seed"]
    for key, rows in problems.sort(*place, "problem_id").group_by(place, maintain_order=True):
        benchmark, method, number, seed = key
        expected = asked.setdefault(benchmark, rows["problem_id"])
        if not rows["problem_id"].equals(expected):
            raise ValueError(
                f"benchmark {benchmark}: {method}, round {number}, seed {seed} answered other "
                "problems than the students before it; run evaluate again"
            )
        arrays = found.setdefault(benchmark, {}).setdefault((method, number), {})
        arrays[seed] = rows.select(MEASURES).cast(pl.Float64).fill_null(np.nan).to_numpy().T
    return found


def with_intervals(entries: Iterable[tuple[Mapping[str, Any], np.ndarray]]) -> list[dict[str, Any]]:
    """A row for each entry: what names it, and for each measure mean, low and high.

    An entry is a mapping and an array of MEASURES × S × P, with one P for all.
    """
    by_seeds: dict[int, list[tuple[Mapping[str, Any], np.ndarray]]] = {}
    for place, values in entries:
        by_seeds.setdefault(values.shape[1], []).append((place, values))
    rows = []
    for num_seeds, group in by_seeds.items():
        means, lows, highs = (
            [None if np.isnan(value) else float(value) for value in values]
            for values in bootstrap(np.concatenate([values for _, values in group]))
        )
        for number, (place, values) in enumerate(group):
            row = {**place, "num_seeds": num_seeds, "num_solved": int((~np.isnan(values[2])).sum())}
            for index, measure in enumerate(MEASURES, len(MEASURES) * number):
                row[measure] = means[index]
                row[f"{measure}_low"], row[f"{measure}_high"] = lows[index], highs[index]
            rows.append(row)
    return rows


def means(problems: pl.DataFrame) -> pl.DataFrame:
    """Each student's measures with intervals, over all its seeds: the columns of `comparison`.

    Nothing is subtracted, so there is no `against`, and `num_solved` are what it solves itself.
    """
    rows = []
    for benchmark, students in answers_of(problems).items():
        rows += with_intervals(
            (
                {"method": method, "round": number, "benchmark": benchmark, "against": ""},
                np.stack(list(seeds.values()), axis=1),
            )
            for (method, number), seeds in students.items()
        )
    is_base = pl.col("method") == "base"
    frame = table.frame_of(rows, schema.COMPARISON).drop("against")
    return frame.sort("benchmark", ~is_base, "method", "round")


def differences(problems: pl.DataFrame) -> pl.DataFrame:
    """Rows of `comparison`: each student less the base student, and less mpd of the same round.

    Paired: by problem, within a seed; seeds that only one of the two has are left out. Tokens of
    the solved are compared on the problems that both solve.
    """
    rows = []
    for benchmark, students in answers_of(problems).items():
        entries = []
        for (method, number), own in students.items():
            for against in (("base", 0), (REFERENCE, number)):
                other = students.get(against, {})
                seeds = [seed for seed in own if seed in other]
                if method == "base" or against == (method, number) or not seeds:
                    continue
                place = {"method": method, "round": number, "benchmark": benchmark}
                # NaN in either is NaN in the difference: what only one solved does not count.
                values = np.stack([own[seed] - other[seed] for seed in seeds], axis=1)
                entries.append(({**place, "against": against[0]}, values))
        rows += with_intervals(entries)
    frame = table.frame_of(rows, schema.COMPARISON)
    return frame.sort("against", "benchmark", "method", "round")


def is_significant(row: Mapping[str, Any], measure: str) -> bool:
    """Whether the interval of a measure excludes zero."""
    low, high = row[f"{measure}_low"], row[f"{measure}_high"]
    return low is not None and (low > 0 or high < 0)
