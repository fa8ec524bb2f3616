"""The numbers of each student on each benchmark: the rows of `summary`."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from mpd.report.compare import SAMPLED, per_problem
from mpd.report.efficiency import aes
from mpd.report.lengths import quantiles
from mpd.report.rounds import Evaluations
from mpd.report.students import IS_BASE, with_base
from mpd.store import schema, table

SUMMARY_INPUTS = [
    "problem_id",
    "finish_reason",
    "num_tokens",
    "thinking_tokens",
    "answer",
    "verdict",
    "correct",
]


def summarise(place: Mapping[str, Any], rows: pl.DataFrame) -> dict[str, Any]:
    """The summary row of one student on one benchmark, without `aes`, which takes two students.

    `rows` are those of `evaluate`. Means are over problems of the mean over a problem's samples; a
    standard error is that of the mean over problems, so that samples of one problem do not count
    as independent. A sample whose prompt did not fit has no tokens and counts for accuracy alone.
    Raises ValueError where no prompt fits.
    """
    problems = per_problem(
        rows,
        solved=pl.col("correct").any(),
        thinking_tokens=pl.col("thinking_tokens").filter(SAMPLED).mean(),
    )
    if problems["tokens"].is_null().all():
        raise ValueError(
            f"benchmark {place['benchmark']}: {place['method']}, seed {place['seed']}, round "
            f"{place['round']} answered nothing, since no prompt leaves room for max_new_tokens in "
            "the student's context; lower evaluate.max_new_tokens, or that of the benchmark"
        )

    def standard_error(column: str) -> float:
        values = problems[column].drop_nulls().to_list()
        return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0

    num_tokens, num_correct = int(rows["num_tokens"].sum()), int(rows["correct"].sum())
    tokens, thinking = problems["tokens"], problems["thinking_tokens"]
    return {
        **place,
        "num_problems": len(problems),
        "num_samples": len(rows) // len(problems),
        "accuracy": problems["accuracy"].mean(),
        "accuracy_se": standard_error("accuracy"),
        "pass_at_k": problems["solved"].mean(),
        "mean_tokens": tokens.mean(),
        "mean_tokens_se": standard_error("tokens"),
        **quantiles(problems["lengths"].explode()),
        "thinking_tokens": thinking.mean(),
        "answer_tokens": (tokens - thinking).mean(),
        "solved_tokens": problems["solved_tokens"].mean(),
        "tokens_per_correct": num_tokens / num_correct if num_correct else None,
        "truncation_rate": (rows["finish_reason"] == "length").mean(),
        "no_answer_rate": rows["answer"].is_null().mean(),
        "timeout_rate": (rows["verdict"] == "timeout").mean(),
    }


def summary_frame(evaluations: Evaluations) -> pl.DataFrame:
    """Rows of `summary`, from the files of the evaluations."""
    return with_efficiency(
        summarise(place, table.read_columns(path, SUMMARY_INPUTS))
        for path, place in evaluations.items()
    )


def with_efficiency(rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows of `summarise` as `summary`, the base student first.

    `aes` is against the base student of the same seed and benchmark; null for the base student
    itself, and where there is none.
    """
    summary = table.frame_of([{**row, "aes": None} for row in rows], schema.SUMMARY)
    levels = ("accuracy", "mean_tokens", "base_accuracy", "base_tokens")
    scores = aes(*(with_base(summary)[name].to_numpy() for name in levels))
    known = pl.Series(scores).fill_nan(None)
    summary = summary.with_columns(aes=pl.when(~IS_BASE).then(known))
    return summary.sort(~IS_BASE, "method", "seed", "benchmark", "round")
