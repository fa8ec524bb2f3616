"""The rows behind the figures of the report. Pure functions on frames."""

from typing import Any

import polars as pl

from mpd.config.base import BASE
from mpd.report.students import IS_BASE, held_out, last_rounds

BINS_PER_DOUBLING = 4  # of a histogram
MAX_POINTS = 60  # of one curve; longer ones are means over neighbouring steps
CURVES = {
    "loss_token_mean": "loss per token, nats",
    "gradient_norm": "gradient norm",
    "student_entropy": "student entropy, nats",
    "student_tail_mass": "student mass off the support",
    "teacher_tail_mass": "teacher mass off the support",
    "think_close_mass": "student probability of ending the thinking where it ends",
}


def chart_rows(
    summary: pl.DataFrame, means: pl.DataFrame, num_colours: int
) -> list[dict[str, Any]]:
    """Accuracy against tokens: a row for each student (kind mean or base) and each of its seeds.

    The base student has a row of its own, and one more (kind start) for each method, where the
    line of the method starts. `label` is the round, with the method where there are more than
    `num_colours`. Students that stand in one place share the label of the first one.
    """
    shown = held_out(means)
    base = shown.filter(IS_BASE)
    methods = shown.filter(~IS_BASE)["method"].unique().sort()
    label = pl.col("round").cast(pl.String)
    if len(methods) > num_colours:
        label = pl.format("{} {}", "method", "round")
    # About as far from each other as a label is high and wide.
    spot = ["benchmark", "method", pl.col("accuracy").round(2), pl.col("tokens").log(2).round(1)]
    first = pl.int_range(pl.len()).over(spot) == 0
    trained = shown.filter(~IS_BASE).sort("round").with_columns(label=label)
    together = pl.col("label").str.join(", ").over(spot)
    rows = [
        base.with_columns(kind=pl.lit(BASE)),
        trained.with_columns(
            kind=pl.lit("mean"), label=pl.when(first).then(together).otherwise(pl.lit(""))
        ),
        *(base.with_columns(kind=pl.lit("start"), method=pl.lit(name)) for name in methods),
        held_out(summary).select(
            "method", "round", "benchmark", "accuracy", tokens="mean_tokens", kind=pl.lit("seed")
        ),
    ]
    return pl.concat(rows, how="diagonal").sort("kind", "benchmark", "method", "round").to_dicts()


def histogram_rows(lengths: pl.DataFrame) -> pl.DataFrame:
    """Shares of the answers in bins of equal width on a logarithmic axis.

    `lengths` has a row for each answer: method, round, benchmark, num_tokens. Counted are the last
    round of each method and, once beside each method, the base student. Columns: method,
    benchmark, student (base or last round), low, high (tokens), share.
    """
    shown = last_rounds(held_out(lengths.filter(pl.col("num_tokens") > 0)))
    last = shown.filter(~IS_BASE)
    methods = last["method"].unique().sort()
    answers = pl.concat(
        [
            last.with_columns(student=pl.lit("last round")),
            *(
                shown.filter(IS_BASE).with_columns(method=pl.lit(name), student=pl.lit(BASE))
                for name in methods
            ),
        ]
    )
    histogram = ["method", "benchmark", "student"]
    number = (pl.col("num_tokens").log(2) * BINS_PER_DOUBLING).floor()
    counts = answers.group_by(*histogram, bin=number).len()
    return (
        counts.with_columns(
            low=2 ** (pl.col("bin") / BINS_PER_DOUBLING),
            high=2 ** ((pl.col("bin") + 1) / BINS_PER_DOUBLING),
            share=pl.col("len") / pl.col("len").sum().over(histogram),
        )
        .select(*histogram, "low", "high", "share")
        .sort(*histogram, "low")
    )


def curve_rows(metrics: pl.DataFrame) -> pl.DataFrame:
    """Training curves, long: method, round, seed, measure, tokens (seen so far), value.

    `metrics`: rows of `metrics` with method, round and seed. A curve has at most MAX_POINTS.
    """
    run = ["method", "round", "seed"]
    width = (pl.len().over(run) / MAX_POINTS).ceil()
    piece = ((pl.col("step") - 1) // width).alias("piece")
    long = metrics.with_columns(piece).unpivot(
        list(CURVES), index=[*run, "piece", "tokens_seen"], variable_name="measure"
    )
    return (
        long.drop_nulls("value")
        .group_by(*run, "measure", "piece")
        .agg(tokens=pl.col("tokens_seen").max(), value=pl.col("value").mean())
        .sort(*run, "measure", "piece")
        .drop("piece")
    )
