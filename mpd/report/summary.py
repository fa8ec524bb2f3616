"""The numbers of each student on each benchmark: the rows of `summary`."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mpd.report.compare import SAMPLED, per_problem
from mpd.report.efficiency import aes
from mpd.store import schema, table

COLUMNS = ["problem_id", "finish_reason", "num_tokens", "thinking_tokens", "answer", "correct"]

Evaluations = Mapping[Path, Mapping[str, Any]]  # file to place: method, round, seed, benchmark


def summarise(place: Mapping[str, Any], answered: pl.DataFrame) -> dict[str, Any]:
    """The summary row of one student on one benchmark, without `aes`, which takes two students.

    Means are over problems of the mean over a problem's samples; a standard error is that of
    the mean over problems, so samples of one problem do not count as independent. A sample whose
    prompt did not fit has no tokens and counts for accuracy alone: an answer that never was is
    not a short one. Raises ValueError where that is so of every sample.
    """
    problems = per_problem(
        answered,
        solved=pl.col("correct").any(),
        thinking_tokens=pl.col("thinking_tokens").filter(SAMPLED).mean(),
    )
    if problems["tokens"].is_null().all():
        raise ValueError(
            f"benchmark {place['benchmark']}: {place['method']}, seed {place['seed']}, round "
            f"{place['round']} answered nothing, since no prompt leaves room for max_new_tokens in "
            "the student's context; lower evaluate.max_new_tokens, or that of the benchmark"
        )

    def error(column: str) -> float:
        values = problems[column].drop_nulls().to_list()
        return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0

    num_tokens, num_correct = int(answered["num_tokens"].sum()), int(answered["correct"].sum())
    tokens, thinking = problems["tokens"], problems["thinking_tokens"]
    return {
        **place,
        "num_problems": len(problems),
        "num_samples": len(answered) // len(problems),
        "accuracy": problems["accuracy"].mean(),
        "accuracy_se": error("accuracy"),
        "pass_at_k": problems["solved"].mean(),
        "mean_tokens": tokens.mean(),
        "mean_tokens_se": error("tokens"),
        "thinking_tokens": thinking.mean(),
        "answer_tokens": (tokens - thinking).mean(),
        "solved_tokens": problems["solved_tokens"].mean(),
        "tokens_per_correct": num_tokens / num_correct if num_correct else None,
        "truncation_rate": (answered["finish_reason"] == "length").mean(),
        "no_answer_rate": answered["answer"].is_null().mean(),
    }


def summary_frame(evaluations: Evaluations) -> pl.DataFrame:
    """Rows of `summary`, the base student first."""
    rows = [
        summarise(place, table.read_columns(path, COLUMNS)) for path, place in evaluations.items()
    ]
    is_base = pl.col("method") == "base"
    frame = table.frame_of(with_efficiency(rows), schema.SUMMARY)
    return frame.sort(~is_base, "method", "seed", "benchmark", "round")


def with_efficiency(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Summary rows with `aes` against the base student of the same seed and benchmark.

    None for the base student itself, and where there is none.
    """
    bases = {(row["seed"], row["benchmark"]): row for row in rows if row["method"] == "base"}

    def score(row: dict[str, Any]) -> float | None:
        base = bases.get((row["seed"], row["benchmark"]))
        if base is None or row is base:
            return None
        levels = [of[name] for of in (row, base) for name in ("accuracy", "mean_tokens")]
        value = float(aes(*np.array(levels)))
        return None if np.isnan(value) else value

    return [{**row, "aes": score(row)} for row in rows]
