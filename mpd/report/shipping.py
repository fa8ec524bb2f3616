"""Which round to ship, chosen on the development split alone. No I/O."""

import polars as pl


def shipped(summary: pl.DataFrame, max_accuracy_drop: float) -> pl.DataFrame:
    """Per method and seed the round to ship, chosen on the development split alone.

    Of the rounds that are shorter than the base student and at most `max_accuracy_drop` less
    accurate, the shortest; where others are as short within its standard error, the most accurate
    of them. Round 0, the base student itself, where there is none.
    Columns: method, seed, round.
    """
    dev = summary.filter(pl.col("benchmark") == "dev")
    base = dev.filter(pl.col("method") == "base").select(
        "seed", base_accuracy="accuracy", base_tokens="mean_tokens"
    )
    trained = dev.filter(pl.col("round") > 0).join(base, on="seed", validate="m:1")
    # Room for rounding: 0.4 - 0.1 is more than 0.3 in floating point.
    drop = pl.col("base_accuracy") - pl.col("accuracy")
    shorter = pl.col("mean_tokens") < pl.col("base_tokens")
    good = trained.filter(shorter & (drop <= max_accuracy_drop + 1e-9))
    branch = ["method", "seed"]
    least = good.sort("mean_tokens", "round").group_by(branch).first()
    within = least.select(*branch, limit=pl.col("mean_tokens") + pl.col("mean_tokens_se"))
    best = (
        good.join(within, on=branch)
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
