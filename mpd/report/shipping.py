"""Which round to ship, chosen on the development split alone. No I/O."""

import polars as pl

from mpd.config.base import DEV
from mpd.report.students import with_base


def shipped(summary: pl.DataFrame, max_accuracy_drop: float) -> pl.DataFrame:
    """The round to ship of each method and seed, as columns method, seed and round.

    Candidates are the rounds that are shorter than the base student and at most `max_accuracy_drop`
    less accurate. The shortest of them is chosen; where others are as short within its standard
    error, the most accurate of these. Round 0, the base student itself, where there is none.
    """
    dev = with_base(summary.filter(pl.col("benchmark") == DEV))
    trained = dev.filter(pl.col("round") > 0, pl.col("base_tokens").is_not_null())
    # Room for rounding: 0.4 - 0.1 is more than 0.3 in floating point.
    drop = pl.col("base_accuracy") - pl.col("accuracy")
    shorter = pl.col("mean_tokens") < pl.col("base_tokens")
    candidates = trained.filter(shorter & (drop <= max_accuracy_drop + 1e-9))
    branch = ["method", "seed"]
    shortest = candidates.sort("mean_tokens", "round").group_by(branch).first()
    limits = shortest.select(*branch, limit=pl.col("mean_tokens") + pl.col("mean_tokens_se"))
    best = (
        candidates.join(limits, on=branch)
        .filter(pl.col("mean_tokens") <= pl.col("limit"))
        .sort("accuracy", "mean_tokens", "round", descending=[True, False, False])
        .group_by(branch, maintain_order=True)
        .agg(pl.first("round"))
    )
    return (
        trained.select(branch)
        .unique()
        .join(best, on=branch, how="left")
        .with_columns(pl.col("round").fill_null(0))
        .sort(branch)
    )


def in_words(number: int) -> str:
    """A choice in words: round 2, or to stay with the base student where it is 0."""
    return f"round {number}" if number else "none, stay with the base student"
