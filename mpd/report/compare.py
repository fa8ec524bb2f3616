"""Students compared: means and paired differences, with bootstrap intervals. No I/O.

A student is a method and a round; it has one set of answers for each seed. Shapes: C columns
(quantities of which an interval is wanted), S seeds, P problems.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from mpd.report.efficiency import aes
from mpd.store import schema, table

MEASURES = ("accuracy", "tokens", "solved_tokens")
REFERENCE = "mpd"  # methods are compared with the base student, and with this one
NUM_DRAWS = 4000
DRAWS_AT_ONCE = 200
TAIL = 0.025  # outside each end of an interval

SAMPLED = pl.col("finish_reason") != "too_long"  # else the prompt did not fit

Student = tuple[str, int]  # method and round
Answers = dict[Student, dict[int, np.ndarray]]  # by seed: C × P


def per_problem(answered: pl.DataFrame, **further: pl.Expr) -> pl.DataFrame:
    """Rows of `evaluate` as one row per problem: problem_id and MEASURES, means over its samples.

    `solved_tokens` are those of the correct samples; null where there is none. A sample whose
    prompt did not fit has no tokens and counts for accuracy alone. `further` columns may be added.
    """
    tokens = pl.col("num_tokens")
    return answered.group_by("problem_id", maintain_order=True).agg(
        accuracy=pl.col("correct").mean(),
        tokens=tokens.filter(SAMPLED).mean(),
        solved_tokens=tokens.filter(pl.col("correct")).mean(),
        **further,
    )


def draws(values: np.ndarray, num_draws: int = NUM_DRAWS) -> np.ndarray:
    """Means of each column over all that counts, then those of each draw: (1 + draws) × C.

    `values`: C × S × P, NaN where a pair of seed and problem does not count. Seeds are the outer
    level: each draw takes S seeds with replacement, and P problems with replacement, the same for
    all of its seeds: they were asked the same ones, and what is hard for one is hard for the
    others. Drawn anew for each seed, problems would count as S times as many as there are. Every
    column sees the same draws, and every call the same random numbers. NaN where nothing counts.
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
        problems = rng.integers(num_problems, size=(size, 1, num_problems))
        # How often each pair of seed and problem was taken: draws × (S · P).
        taken = (seeds * num_problems + problems).reshape(size, -1)
        taken += np.arange(size)[:, None] * len(both)
        weights = np.bincount(taken.ravel(), minlength=size * len(both)).reshape(size, -1)
        drawn.append(weights @ both)
    sums = np.concatenate([both.sum(axis=0, keepdims=True), *drawn])
    with np.errstate(invalid="ignore"):  # 0 / 0 where nothing that counts was drawn
        return sums[:, :num_columns] / sums[:, num_columns:]


def ends(drawn: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of draws, of those that are not NaN."""
    found = drawn[~np.isnan(drawn)]
    if not len(found):
        return np.nan, np.nan
    low, high = np.quantile(found, [TAIL, 1 - TAIL])
    return low, high


def interval_columns(name: str, drawn: np.ndarray) -> dict[str, float | None]:
    """The three columns of a quantity: mean and ends of its interval, from a column of `draws`."""
    values = (drawn[0], *ends(drawn[1:]))
    pairs = zip((name, f"{name}_low", f"{name}_high"), values, strict=True)
    return {name: None if np.isnan(value) else float(value) for name, value in pairs}


def pooled(
    entries: Iterable[tuple[dict[str, Any], np.ndarray]],
) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    """Each entry with the `draws` of its columns, as C × (1 + draws).

    An entry is what names it and an array of C × S × P, with one P for all. Those of equally many
    seeds share their draws.
    """
    by_seeds: dict[int, list[tuple[dict[str, Any], np.ndarray]]] = {}
    for place, values in entries:
        by_seeds.setdefault(values.shape[1], []).append((place, values))
    for num_seeds, group in by_seeds.items():
        drawn = draws(np.concatenate([values for _, values in group])).T
        starts = np.cumsum([len(values) for _, values in group])[:-1]
        for (place, values), own in zip(group, np.split(drawn, starts), strict=True):
            yield {**place, "num_seeds": num_seeds}, values, own


def answers_of(problems: pl.DataFrame, columns: Sequence[str] = MEASURES) -> dict[str, Answers]:
    """Per benchmark the students' columns as arrays, problems in the order of their ids.

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
                "problems than the students before it; run answers and evaluate again"
            )
        arrays = found.setdefault(benchmark, {}).setdefault((method, number), {})
        arrays[seed] = rows.select(columns).cast(pl.Float64).fill_null(np.nan).to_numpy().T
    return found


def stacked(answers: Mapping[int, np.ndarray], seeds: Iterable[int]) -> np.ndarray:
    """A student's columns on some of its seeds: C × S × P."""
    return np.stack([answers[seed] for seed in seeds], axis=1)


def with_intervals(entries: Iterable[tuple[dict[str, Any], np.ndarray]]) -> list[dict[str, Any]]:
    """A row for each entry of `pooled`: what names it, and each measure and AES with its interval.

    The first columns of an entry are MEASURES; the `levels` of two students may follow, which AES
    is computed from.
    """
    rows = []
    for place, values, drawn in pooled(entries):
        row = {**place, "num_solved": int((~np.isnan(values[2])).sum())}
        for measure, own in zip(MEASURES, drawn[: len(MEASURES)], strict=True):
            row |= interval_columns(measure, own)
        rows.append(row | interval_columns("aes", efficiency(drawn[len(MEASURES) :])))
    return rows


def levels(own: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Accuracy and tokens of a student and of the base student, paired: 4 × S × P.

    Both are MEASURES × S × P. Tokens that one of the two lacks count for neither.
    """
    unpaired = np.isnan(own[1]) | np.isnan(base[1])
    tokens, base_tokens = (np.where(unpaired, np.nan, values[1]) for values in (own, base))
    return np.stack([own[0], tokens, base[0], base_tokens])


def efficiency(drawn: np.ndarray) -> np.ndarray:
    """AES of the pooled means, first over all, then of each draw, from those of `levels`.

    Where more draws have no score (the base student solves nothing) than the tail of an interval
    holds, its end might lie among them: then no draw counts. NaN too where nothing is given.
    """
    if not len(drawn):
        return np.array([np.nan])
    scores = aes(*drawn)
    if np.isnan(scores[1:]).mean() > TAIL:
        scores[1:] = np.nan
    return scores


def means(problems: pl.DataFrame) -> pl.DataFrame:
    """Each student's measures with intervals, over all its seeds: the columns of `comparison`.

    Nothing is subtracted, so there is no `against` and no AES, and `num_solved` are what it solves
    itself.
    """
    rows = []
    for benchmark, students in answers_of(problems).items():
        rows += with_intervals(
            (
                {"method": method, "round": number, "benchmark": benchmark, "against": ""},
                stacked(seeds, seeds),
            )
            for (method, number), seeds in students.items()
        )
    is_base = pl.col("method") == "base"
    frame = table.frame_of(rows, schema.COMPARISON).drop("against", pl.selectors.starts_with("aes"))
    return frame.sort("benchmark", ~is_base, "method", "round")


def differences(problems: pl.DataFrame) -> pl.DataFrame:
    """Rows of `comparison`: each student less the base student, and less mpd of the same round.

    Paired: by problem, within a seed; seeds that only one of the two has are left out. Tokens of
    the solved are compared on the problems that both solve. AES is against the base student alone.
    """
    rows = []
    for benchmark, students in answers_of(problems).items():
        entries = []
        last = max((number for method, number in students if method == REFERENCE), default=0)
        for (method, number), own in students.items():
            # What is not trained stands beside the last round.
            for against in (("base", 0), (REFERENCE, number or last)):
                other = students.get(against, {})
                seeds = [seed for seed in own if seed in other]
                if method == "base" or against == (method, number) or not seeds:
                    continue
                place = {"method": method, "round": number, "benchmark": benchmark}
                mine, theirs = stacked(own, seeds), stacked(other, seeds)
                # NaN in either is NaN in the difference: what only one solved does not count.
                columns = [mine - theirs]
                if against[0] == "base":
                    columns.append(levels(mine, theirs))
                entries.append(({**place, "against": against[0]}, np.concatenate(columns)))
        rows += with_intervals(entries)
    frame = table.frame_of(rows, schema.COMPARISON)
    return frame.sort("against", "benchmark", "method", "round")


def is_significant(row: Mapping[str, Any], measure: str) -> bool:
    """Whether the interval of a measure excludes zero."""
    low, high = row[f"{measure}_low"], row[f"{measure}_high"]
    return low is not None and (low > 0 or high < 0)
