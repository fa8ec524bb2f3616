"""What a student cost, and after how many answers its training has paid for itself. No I/O.

One second of any device counts the same. Serving is assumed to cost, for each token, what the
evaluation of the base student cost.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from mpd.config.base import BASE
from mpd.job.layout import BENCHMARK_STAGES
from mpd.report.speed import ratio
from mpd.report.students import IS_BASE

FORMULA = (
    "training device-seconds / (seconds for each token × tokens saved for each answer), where the "
    "seconds for each token are those that the base student's answers to all benchmarks took"
)
REUSED_STAGES = ("sample", "compress", "logits")  # of rounds after the first, where base samples
COLUMNS = {
    "method": pl.String,
    "round": pl.Int32,
    "benchmark": pl.String,
    "training_seconds": pl.Float64,
    "training_joules": pl.Float64,
    "saved_share": pl.Float64,
    "seconds_per_percent": pl.Float64,
    "joules_per_percent": pl.Float64,
    "seconds_per_answer": pl.Float64,
    "seconds_per_correct": pl.Float64,
    "joules_per_correct": pl.Float64,
    "answers_to_pay_back": pl.Float64,
}


def payback(
    speed: pl.DataFrame, summary: pl.DataFrame, samplers: Mapping[str, str]
) -> pl.DataFrame:
    """A row of COLUMNS for each student on each benchmark, with no training in round 0.

    `speed` and `summary` are tables of the report, `samplers` say who samples for each method.
    `training_seconds` are device-seconds of all stages but evaluation, of the student's round and
    those before it, for one seed (the mean). `saved_share` is the share of the base student's
    tokens, and a percent of it is what `…_per_percent` are of. Seconds and energy of a correct
    answer are those of as many answers as it takes, on average, to get one: the tokens of an answer
    over the accuracy. None where notes have no times or energy, and where nothing is saved.
    """
    measures = (
        summary.group_by("method", "round", "benchmark")
        .agg(pl.col("accuracy", "mean_tokens").mean(), seeds=pl.len())
        .sort("benchmark", ~IS_BASE, "method", "round")
    )
    base_tokens = dict(measures.filter(IS_BASE).select("benchmark", "mean_tokens").iter_rows())
    rates = {name: rate(speed, name) for name in ("device_seconds", "joules")}
    rows = []
    for row in measures.iter_rows(named=True):
        method, number = row["method"], row["round"]
        training = {
            name: _per_seed(
                training_of(speed, method, number, name, samplers.get(method)), row["seeds"]
            )
            for name in rates
        }
        rows.append(_row(row, base_tokens.get(row["benchmark"]), training, rates))
    return pl.DataFrame(rows, schema=COLUMNS)


def rate(speed: pl.DataFrame, name: str) -> float | None:
    """The device_seconds or joules of a token of the base student's answers."""
    answers = speed.filter(IS_BASE, stage="answers").to_dicts()
    return ratio(answers[0][name], answers[0]["tokens"]) if answers else None


def training_of(
    speed: pl.DataFrame, method: str, number: int, name: str, sampler: str | None
) -> float | None:
    """The device_seconds or joules behind the student of a round, over all its seeds.

    None where nothing was trained, or a stage does not have them. Joules are those of the stages
    that ran on a GPU.
    """
    rows = speed.filter(
        pl.col("method") == method,
        pl.col("round").is_between(1, number),
        ~pl.col("stage").is_in(BENCHMARK_STAGES),
    )
    if sampler == "base":
        rows = rows.filter((pl.col("round") == 1) | ~pl.col("stage").is_in(REUSED_STAGES))
    if name == "joules":
        rows = rows.filter(pl.col("device").ne_missing("cpu"))
    values = rows[name].to_list()
    return None if None in values or not values else float(sum(values))


def _row(
    measures: Mapping[str, Any],
    base_tokens: float | None,
    training: Mapping[str, float | None],
    rates: Mapping[str, float | None],
) -> dict[str, Any]:
    """A row of COLUMNS, from the measures of a student on a benchmark."""
    tokens, accuracy = measures["mean_tokens"], measures["accuracy"]
    saved = base_tokens - tokens if base_tokens else None
    share = ratio(saved, base_tokens)
    percent = 100 * share if share and share > 0 else None
    seconds, joules = rates["device_seconds"], rates["joules"]
    saved_seconds = None if percent is None or seconds is None or saved is None else seconds * saved
    return {
        **{name: measures[name] for name in ("method", "round", "benchmark")},
        "training_seconds": training["device_seconds"],
        "training_joules": training["joules"],
        "saved_share": None if measures["method"] == BASE else share,
        "seconds_per_percent": ratio(training["device_seconds"], percent),
        "joules_per_percent": ratio(training["joules"], percent),
        "seconds_per_answer": None if seconds is None else seconds * tokens,
        "seconds_per_correct": None if seconds is None else ratio(seconds * tokens, accuracy),
        "joules_per_correct": None if joules is None else ratio(joules * tokens, accuracy),
        "answers_to_pay_back": ratio(training["device_seconds"], saved_seconds),
    }


def _per_seed(total: float | None, seeds: int) -> float | None:
    return None if total is None else total / seeds
