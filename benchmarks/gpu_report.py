"""Tables of what benchmarks/gpu.py measured."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Results = dict[str, Any]

TITLES = {
    "distill-short": "reverse KL, completions of 1,024 to 2,048 tokens",
    "sft-short": "cross-entropy, the same loop and tokens",
    "distill-long": "reverse KL, completions of 4,096 to 8,192 tokens",
    "distill-32768": "reverse KL, one completion of 32,768 tokens",
    "score": "scoring, teacher beside student, to a file",
    "kernels-none": "reverse KL, short, `kernels: none`",
    "recomputation": "reverse KL, short, all layers recomputed",
    "no-recomputation": "reverse KL, short, no layer recomputed",
    "tf32": "reverse KL, short, products in TF32",
    "float32": "reverse KL, short, float32",
    "trl": "TRL with a live teacher, its defaults, short",
}


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def line(name: str, result: dict[str, Any]) -> str:
    """One measurement on one line, as soon as it is there."""
    shown = {key: value for key, value in result.items() if key not in ("log", "profile", "name")}
    return f"{name}: {json.dumps(shown)}"


def write(out: Path, about: dict[str, str], results: Results) -> None:
    """Write OUT.json and OUT.md. A figure that the tables miss costs the tables alone."""
    every = json.dumps({"about": about, "results": results}, indent=1)
    out.with_suffix(".json").write_text(every, encoding="utf-8")
    try:
        text = document(about, results)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        text = f"No tables, since {error!r}; all figures are in {out.with_suffix('.json')}.\n"
    out.with_suffix(".md").write_text(text, encoding="utf-8")


def document(about: dict[str, str], results: Results) -> str:
    """All tables."""
    good = {name: result for name, result in results.items() if "failed" not in result}
    parts = [headline(about, good.get("card", {}))]
    steps = {name: good[name] for name in TITLES if name in good}
    if steps:
        parts.append(step_table(steps))
    aims = aim_table(good)
    if aims:
        parts.append(aims)
    for make in (start_table, equality_table, profile_table, failure_table):
        parts += filter(None, [make(results if make is failure_table else good)])
    return "\n\n".join(parts) + "\n"


def headline(about: dict[str, str], card: dict[str, Any]) -> str:
    """The card, what ran on it, and its speeds."""
    commit = f"commit {about['commit']}, {about['date']} UTC, shape {about['shape']}"
    if not card:
        return f"Unknown card, {commit}."
    taken = f", {about['seconds']} s in all" if "seconds" in about else ""
    return (
        f"{card['card']} ({card['memory_gb']} GB, driver {card['driver'] or 'none'}), "
        f"torch {card['torch']}, transformers {card['transformers']}; {commit}{taken}. "
        f"Matrix product {card['matrix_tflops']:,} TFLOP/s, copy {card['copy_tbs']} TB/s.\n\n"
        f"`{about['command']}`"
    )


def step_table(steps: Results) -> str:
    """Steps of training, and scoring."""
    header = ("measured", "s (fastest to slowest)", "completion tokens/s", "MFU", "peak GB")
    rows = [
        (
            TITLES[name],
            f"{median(one):.3f} ({min(one['seconds']):.3f} to {max(one['seconds']):.3f})",
            f"{speed(one):,.0f}",
            f"{one['mfu']:.3f}" if "mfu" in one else "",
            f"{one['peak_gb']:.1f}"
            + (f" (reserved {one['reserved_gb']:.1f})" if "reserved_gb" in one else ""),
            f"{one['loss']:.5g}, {one['gradient_norm']:.4g}" if "loss" in one else "",
        )
        for name, one in steps.items()
    ]
    return markdown((*header, "loss and gradient norm of the first step"), rows)


def median(result: dict[str, Any]) -> float:
    """The median seconds."""
    return statistics.median(result["seconds"])


def speed(result: dict[str, Any]) -> float:
    """Completion tokens per second."""
    return result["tokens"] / median(result)


def first_step(result: dict[str, Any]) -> float:
    """Seconds until a job took its first step, once its files are in memory."""
    return min(start["step"] for start in result["starts"])


# What is aimed at: a name, the measurements it needs, how it is computed, and its bound.
AIMS: tuple[tuple[str, str, Callable[..., float], str, float], ...] = (
    ("distill, short: MFU", "distill-short", lambda x: x["mfu"], "≥", 0.5),
    ("distill, long: MFU", "distill-long", lambda x: x["mfu"], "≥", 0.45),
    ("distill, short: peak GB", "distill-short", lambda x: x["peak_gb"], "<", 75),
    ("distill, long: peak GB", "distill-long", lambda x: x["peak_gb"], "<", 75),
    ("distill, 32,768 tokens: peak GB", "distill-32768", lambda x: x["peak_gb"], "<", 75),
    (
        *("distill against supervised fine-tuning: speed", "distill-short sft-short"),
        *(lambda x, y: speed(x) / speed(y), "≥", 0.97),
    ),
    ("scoring: MFU", "score", lambda x: x["mfu"], "≥", 0.5),
    ("start of training: s to the first step", "start-training", first_step, "<", 6),
    ("start of scoring: s to the first step", "start-scoring", first_step, "<", 6),
    (
        *("distill against TRL: speed", "distill-short trl"),
        *(lambda x, y: speed(x) / speed(y), "≥", 3),
    ),
    (
        *("distill against TRL: peak memory", "distill-short trl"),
        *(lambda x, y: x["peak_gb"] / y["peak_gb"], "≤", 0.6),
    ),
    (
        *("loss with and without kernels: difference as a share", "distill-short kernels-none"),
        *(lambda x, y: abs(x["loss"] / y["loss"] - 1), "≤", 0.01),
    ),
)


def aim_table(good: Results) -> str:
    """What was aimed at, and what was measured."""
    rows = []
    for name, needed, value_of, relation, bound in AIMS:
        if all(part in good for part in needed.split()):
            value = value_of(*(good[part] for part in needed.split()))
            met = value >= bound if relation == "≥" else value <= bound
            rows.append((name, f"{relation} {bound}", f"{value:.3g}", "yes" if met else "no"))
    return markdown(("aim", "bound", "measured", "met"), rows) if rows else ""


def start_table(good: Results) -> str:
    """How long jobs take to start, the first time and the next."""
    rows = [
        (
            result["name"],
            ", ".join(
                f"{start['imported']} + {start['ready'] - start['imported']:.2f}"
                for start in result["starts"]
            ),
            ", ".join(str(start["step"]) for start in result["starts"]),
        )
        for name, result in good.items()
        if name.startswith("start-")
    ]
    header = ("job", "s until models are loaded, each run", "s until the first step is taken")
    return markdown(header, rows) if rows else ""


def equality_table(good: Results) -> str:
    """Errors against plain transformers in float32, one sequence at a time."""
    rows = [
        (
            one["check"],
            f"{one['error']:.2g}",
            f"{one['limit']:.2g}",
            "yes" if one["within"] else "no",
        )
        for one in good.get("equal", {}).get("checks", [])
    ]
    return (
        markdown(("against plain transformers", "error", "limit", "within"), rows) if rows else ""
    )


def profile_table(good: Results) -> str:
    """Shares of the time by kinds of kernels, and without any."""
    profiles = {name: one["profile"] for name, one in good.items() if "profile" in one}
    if not profiles:
        return ""
    kinds = list(dict.fromkeys(kind for one in profiles.values() for kind in one["kinds"]))
    rows = [
        (
            name,
            f"{one['seconds']:.2f}",
            f"{one['idle_share']:.1%}",
            *(f"{one['kinds'].get(kind, 0) / one['seconds']:.1%}" for kind in kinds),
        )
        for name, one in profiles.items()
    ]
    return markdown(("profile of", "s", "GPU idle", *kinds), rows)


def failure_table(results: Results) -> str:
    """Measurements that gave nothing, and why."""
    rows = [
        (name, one["failed"].replace("|", "/")) for name, one in results.items() if "failed" in one
    ]
    return markdown(("failed", "why"), rows) if rows else ""
