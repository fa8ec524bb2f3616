"""What became of a round's trajectories, from sampled to kept. No I/O."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

FUNNEL_INPUTS = {
    "sample": ["sample_id", "finish_reason"],
    "filter": [
        *("sample_id", "candidate", "format", "sample_verdict", "verdict", "keep", "reason"),
        *("sample_tokens", "num_tokens"),
    ],
}
STEPS = ("sampled", "complete", "rewritten", "correct", "kept")


def funnel_of(samples: pl.DataFrame, verdicts: pl.DataFrame) -> dict[str, Any]:
    """Counts of trajectories, by STEPS, of one or more shards and seeds.

    A trajectory is complete if it was not cut, rewritten if one of its candidates is a whole
    rewrite, correct if one of these has the right answer, and kept if it is trained on. `reasons`
    count those that are not kept, by what their first candidate failed, the most frequent first.
    `timeouts` are those on which the answer checker gave up, on the sample or a candidate.
    `sample_tokens` and `num_tokens` are means over the kept; None where there is none.
    """
    trajectories = verdicts.group_by("sample_id", maintain_order=True).agg(
        rewritten=pl.col("format").any(),
        correct=(pl.col("format") & (pl.col("verdict") == "correct")).any(),
        kept=pl.col("keep").any(),
        reason=pl.col("reason").sort_by("candidate").first(),
        timeout=pl.any_horizontal(pl.col("sample_verdict", "verdict").eq_missing("timeout")).any(),
    )
    reasons = trajectories.filter(~pl.col("kept"))["reason"].value_counts()
    kept = verdicts.filter("keep")
    return {
        "sampled": len(samples),
        "complete": int((samples["finish_reason"] == "stop").sum()),
        **{name: int(trajectories[name].sum()) for name in STEPS[2:]},
        "reasons": dict(reasons.sort("count", "reason", descending=[True, False]).iter_rows()),
        "timeouts": int(trajectories["timeout"].sum()),
        "sample_tokens": kept["sample_tokens"].mean(),
        "num_tokens": kept["num_tokens"].mean(),
    }


def summed(funnels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The funnels of several seeds as one; means are over all trajectories that were kept."""
    counts = {name: sum(funnel[name] for funnel in funnels) for name in STEPS}
    reasons: dict[str, int] = {}
    for funnel in funnels:
        for reason, count in funnel["reasons"].items():
            reasons[reason] = reasons.get(reason, 0) + count
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))

    def mean(name: str) -> float | None:
        total = sum(funnel[name] * funnel["kept"] for funnel in funnels if funnel["kept"])
        return total / counts["kept"] if counts["kept"] else None

    return {
        **counts,
        "reasons": dict(ordered),
        "timeouts": sum(funnel["timeouts"] for funnel in funnels),
        "sample_tokens": mean("sample_tokens"),
        "num_tokens": mean("num_tokens"),
    }
