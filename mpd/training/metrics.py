"""What a training run measures: rows of metrics.parquet, one for each optimiser step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mpd.training.objective import MEANS, SUMS


class StepMeasures(NamedTuple):
    """The measures of one optimiser step.

    `sums` are those of SUMS, over all processes. `seconds` and `flops` are of one process: its time
    by the clock, and the operations that its forward and backward passes need.
    """

    sums: list[float]
    learning_rate: float
    gradient_norm: float
    seconds: float
    flops: int


def metrics_row(
    measures: StepMeasures, before: Sequence[dict[str, Any]], loss: str
) -> dict[str, Any]:
    """The row of a step; `before` are the rows of the steps before it, `loss` the setting."""
    named = dict(zip(SUMS, measures.sums, strict=True))
    means = {name: named[name] / named["positions"] for name in MEANS}
    token_mean, sequence_mean = means.pop("divergence"), named["sequence_mean"]
    num_closes, num_tokens = named["closes"], int(named["positions"])
    return {
        "step": len(before) + 1,
        "learning_rate": measures.learning_rate,
        "loss": token_mean if loss == "token_mean" else sequence_mean,
        "loss_token_mean": token_mean,
        "loss_sequence_mean": sequence_mean,
        **means,
        "think_close_mass": named["think_close_mass"] / num_closes if num_closes else None,
        "stop_mass": named["stop_mass"] / named["stops"],
        "gradient_norm": measures.gradient_norm,
        "padding_share": 0.0,  # sequences are packed in one row
        "num_tokens": num_tokens,
        "tokens_seen": (before[-1]["tokens_seen"] if before else 0) + num_tokens,
    }
