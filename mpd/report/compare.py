"""Students compared: means and paired differences, with bootstrap intervals. No I/O.

A student has one set of answers for each seed. Shapes: Q quantities, S seeds, P problems.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from mpd.config.base import BASE
from mpd.report.bootstrap import TAIL, Entry, interval_columns, pooled
from mpd.report.efficiency import aes
from mpd.report.lengths import Lengths
from mpd.report.students import BASE_STUDENT, IS_BASE, REFERENCE, Student
from mpd.store import schema, table

MEASURE_INPUTS = ["problem_id", "finish_reason", "num_tokens", "correct"]
MEASURES = ("accuracy", "tokens", "solved_tokens")
COMPARED = (*MEASURES, "longer")  # of two students; longer: share of problems with more tokens

SAMPLED = pl.col("finish_reason") != "too_long"  # else the prompt did not fit

Answers = dict[int, np.ndarray]  # the quantities [Q, P] of one student, by seed


def per_problem(rows: pl.DataFrame, **further: pl.Expr) -> pl.DataFrame:
    """Rows of `evaluate` as one row per problem: problem_id and MEASURES, means over its samples.

    `solved_tokens` is the mean over the correct samples, null where there is none. `lengths` has
    the tokens of each sample. A sample whose prompt did not fit has no tokens and counts for
    accuracy alone. `further` are more columns.
    """
    tokens = pl.col("num_tokens")
    return rows.group_by("problem_id", maintain_order=True).agg(
        accuracy=pl.col("correct").mean(),
        tokens=tokens.filter(SAMPLED).mean(),
        solved_tokens=tokens.filter(pl.col("correct")).mean(),
        lengths=tokens.filter(SAMPLED),
        **further,
    )


def answers_of(
    problems: pl.DataFrame, columns: Sequence[str] = MEASURES
) -> dict[str, dict[Student, Answers]]:
    """The columns of each student on each benchmark as arrays, with problems ordered by id.

    `problems` are rows of `per_problem` with method, round, seed and benchmark. Raises ValueError
    where two students were asked different problems.
    """
    benchmarks: dict[str, dict[Student, Answers]] = {}
    problem_ids: dict[str, pl.Series] = {}
    place = ["benchmark", "method", "round", "seed"]
    for key, rows in problems.sort(*place, "problem_id").group_by(place, maintain_order=True):
        benchmark, method, number, seed = key
        if not rows["problem_id"].equals(problem_ids.setdefault(benchmark, rows["problem_id"])):
            raise ValueError(
                f"benchmark {benchmark}: {method}, round {number}, seed {seed} answered other "
                "problems than the students before it; run answers and evaluate again"
            )
        answers = benchmarks.setdefault(benchmark, {}).setdefault((method, number), {})
        answers[seed] = rows.select(columns).cast(pl.Float64).fill_null(np.nan).to_numpy().T
    return benchmarks


def stacked(answers: Answers, seeds: Iterable[int] | None = None) -> np.ndarray:
    """A student's quantities on these seeds, or on all that it has: [Q, S, P]."""
    return np.stack([answers[seed] for seed in (answers if seeds is None else seeds)], axis=1)


def paired(answers: Answers, other: Answers) -> tuple[np.ndarray, np.ndarray] | None:
    """The quantities of two students on the seeds that both have, each [Q, S, P].

    None where they have no seed in common.
    """
    seeds = [seed for seed in answers if seed in other]
    return (stacked(answers, seeds), stacked(other, seeds)) if seeds else None


def student_columns(student: Student, benchmark: str) -> dict[str, Any]:
    """The columns that name a student on a benchmark, its seeds pooled."""
    method, number = student
    return {"method": method, "round": number, "benchmark": benchmark}


def with_intervals(
    entries: Iterable[Entry], measures: Sequence[str] = MEASURES
) -> list[dict[str, Any]]:
    """A row for each entry: its columns, and each measure and AES with its interval.

    The first quantities of an entry are `measures`, which begin with MEASURES. Those of `levels`
    may follow; AES is computed from them, and is None without them.
    """
    rows = []
    for place, values, drawn in pooled(entries):
        row = {**place, "num_solved": int((~np.isnan(values[2])).sum())}
        for measure, measure_draws in zip(measures, drawn[: len(measures)], strict=True):
            row |= interval_columns(measure, measure_draws)
        rows.append(row | interval_columns("aes", efficiency(drawn[len(measures) :])))
    return rows


def differences(student: np.ndarray, other: np.ndarray) -> np.ndarray:
    """COMPARED of two students whose MEASURES are [3, S, P]: [4, S, P].

    NaN in either is NaN in the difference: what only one solved or answered does not count.
    """
    less = student - other
    longer = np.where(np.isnan(less[1]), np.nan, less[1] > 0)
    return np.stack([*less, longer])


def levels(student: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Accuracy and tokens of a student, then of the base student: [4, S, P].

    Both are MEASURES [3, S, P]. Where one of the two has no tokens, neither has.
    """
    unpaired = np.isnan(student[1]) | np.isnan(base[1])
    tokens, base_tokens = (np.where(unpaired, np.nan, values[1]) for values in (student, base))
    return np.stack([student[0], tokens, base[0], base_tokens])


def efficiency(drawn: np.ndarray) -> np.ndarray:
    """AES of the pooled means and of each draw [1 + D], from the draws of `levels` [4, 1 + D].

    A draw in which the base student solves nothing has no score. Where these are more than the tail
    of an interval, its end might lie among them, so that no draw counts. NaN without `levels`.
    """
    if not len(drawn):
        return np.array([np.nan])
    scores = aes(*drawn)
    if np.isnan(scores[1:]).mean() > TAIL:
        scores[1:] = np.nan
    return scores


def means(problems: pl.DataFrame) -> pl.DataFrame:
    """The measures of each student with intervals, over all its seeds: columns of `comparison`.

    Nothing is subtracted, so that there is neither `against` nor AES, and `num_solved` counts the
    problems that the student itself solves.
    """
    rows = []
    of_two = {"against": "", **interval_columns("longer", np.array([np.nan]))}
    for benchmark, students in answers_of(problems).items():
        lengths = Lengths(problems, benchmark)
        rows += with_intervals(
            (
                student_columns(student, benchmark) | lengths.quantiles(student, answers) | of_two,
                stacked(answers),
            )
            for student, answers in students.items()
        )
    frame = table.frame_of(rows, schema.COMPARISON)
    frame = frame.drop("against", pl.selectors.starts_with("aes", "longer"))
    return frame.sort("benchmark", ~IS_BASE, "method", "round")


def comparison_frame(problems: pl.DataFrame) -> pl.DataFrame:
    """Rows of `comparison`: each student less the base student, and less mpd of the same round.

    An untrained method is compared with the last round of mpd. Differences are paired: by problem,
    within a seed that both students have. Tokens of the solved are compared on the problems that
    both solve. AES is against the base student alone.
    """
    rows = []
    for benchmark, students in answers_of(problems).items():
        entries, lengths = [], Lengths(problems, benchmark)
        last = max((number for method, number in students if method == REFERENCE), default=0)
        for student, answers in students.items():
            method, number = student
            for other in (BASE_STUDENT, (REFERENCE, number or last)):
                pair = paired(answers, students.get(other, {}))
                if method == BASE or other == student or pair is None:
                    continue
                quantities = [differences(*pair)]
                if other == BASE_STUDENT:
                    quantities.append(levels(*pair))
                seeds = [seed for seed in answers if seed in students[other]]
                place = {**student_columns(student, benchmark), "against": other[0]}
                place |= lengths.differences(student, other, seeds)
                entries.append((place, np.concatenate(quantities)))
        rows += with_intervals(entries, COMPARED)
    frame = table.frame_of(rows, schema.COMPARISON)
    return frame.sort("against", "benchmark", "method", "round")


def is_significant(row: Mapping[str, Any], measure: str) -> bool:
    """Whether the interval of a measure excludes zero."""
    low, high = row[f"{measure}_low"], row[f"{measure}_high"]
    return low is not None and (low > 0 or high < 0)
