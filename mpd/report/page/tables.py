"""The tables of the page, as cells. No markup, no I/O."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from mpd.report.compare import MEASURES, Student
from mpd.report.difficulty import BINS
from mpd.report.funnel import STAGES
from mpd.report.page.cells import (
    Cell,
    Grid,
    difference,
    grid,
    interval,
    whole_number,
    with_minus,
)
from mpd.report.terminal import HEADER, printable


def summary_table(summary: pl.DataFrame) -> Grid:
    """Every seed."""
    return grid(HEADER, printable(summary), text=(0, 3))


def measures_table(summary: pl.DataFrame) -> Grid:
    """The measures of every seed that `summary_table` has no room for."""
    columns = {
        "pass_at_k": ("pass@k", 3),
        "thinking_tokens": ("thinking tokens", 1),
        "answer_tokens": ("answer tokens", 1),
        "solved_tokens": ("tokens, solved", 1),
        "tokens_per_correct": ("tokens per correct answer", 1),
        "aes": ("AES", 2),
    }
    place = ("method", "round", "seed", "benchmark")
    rows = [
        [str(row[name]) for name in (*place, "num_samples")]
        + [
            "–" if row[name] is None else with_minus(f"{row[name]:,.{digits}f}")
            for name, (_, digits) in columns.items()
        ]
        for row in summary.iter_rows(named=True)
    ]
    header = [*place, "samples, k", *(title for title, _ in columns.values())]
    return grid(header, rows, text=(0, 3))


def shipping_table(choice: pl.DataFrame) -> Grid:
    """The round to ship by method and seed."""
    seeds = choice["seed"].unique().sort().to_list()
    rounds = {(method, seed): number for method, seed, number in choice.iter_rows()}
    rows = [
        [
            method,
            *(
                f"round {number}" if (number := rounds.get((method, seed))) else "base"
                for seed in seeds
            ),
        ]
        for method in choice["method"].unique(maintain_order=True)
    ]
    return grid(["method", *(f"seed {seed}" for seed in seeds)], rows)


def intervals_note(num_seeds: int) -> str:
    """How far the intervals can be trusted, by the number of seeds."""
    if num_seeds == 1:
        return (
            "With one seed the intervals are by bootstrap over problems: they say nothing about "
            "how another seed would come out."
        )
    # Percentile bootstrap of S values: it cannot leave their range, and all S lie on one side
    # of the truth with probability 2 / 2^S.
    return (
        f"Intervals are by bootstrap, {num_seeds} seeds as the outer level, then problems, the "
        "same for all seeds. So "
        "few seeds make them narrow: for differences between seeds alone they hold the true "
        f"value at most {1 - 2 ** (1 - num_seeds):.0%} of the time."
    )


def means_table(means: pl.DataFrame) -> Grid:
    header = ["benchmark", "method", "round", "seeds", "accuracy", "tokens"]
    rows = [
        [
            *(row["benchmark"], row["method"], str(row["round"]), str(row["num_seeds"])),
            *(interval(row, "accuracy", 3), interval(row, "tokens", 1)),
        ]
        for row in means.iter_rows(named=True)
    ]
    return grid(header, rows, text=(0, 1))


def difference_tables(comparison: pl.DataFrame) -> dict[str, Grid]:
    """By title a table for each of what is subtracted; the score is against the base student."""
    header = ["benchmark", "method", "round"]
    header += ["accuracy", "tokens", "tokens, both solve"]
    titles = {
        "base": "to the base student",
        "mpd": "to mpd of the same round, or of its last where nothing is trained",
    }
    tables = {}
    for against, title in titles.items():
        scores = ["aes"] if against == "base" else []
        rows = [
            [row["benchmark"], row["method"], str(row["round"])]
            + [difference(row, measure) for measure in (*MEASURES, *scores)]
            + [f"{row['num_solved']:,}"]
            for row in comparison.filter(against=against).iter_rows(named=True)
        ]
        if rows:
            tables[title] = grid(
                [*header, *("AES" for _ in scores), "both solve"], rows, text=(0, 1)
            )
    return tables


def difficulty_table(bins: pl.DataFrame) -> Grid:
    header = ["benchmark", "solved by base", "problems", "method", "round"]
    header += ["accuracy", "tokens", "saved tokens"]
    order = pl.col("bin").replace_strict(BINS, range(len(BINS)))
    rows = [
        [
            *(row["benchmark"], row["bin"], str(row["num_problems"])),
            *(row["method"], str(row["round"])),
            *(interval(row, "accuracy", 3), interval(row, "tokens", 1)),
            interval(row, "saved_tokens", 1, "+"),
        ]
        for row in bins.sort("benchmark", order, maintain_order=True).iter_rows(named=True)
    ]
    return grid(header, rows, text=(0, 1, 3))


def costs_table(costs: pl.DataFrame) -> Grid:
    columns = {
        "num_seeds": "seeds",
        "num_samples": "samples",
        "student_tokens": "generated by student",
        "teacher_tokens": "generated by teacher",
        "scored_tokens": "scored",
        "kept_rows": "kept",
        "num_steps": "steps",
        "trained_tokens": "trained tokens",
        "wall_seconds": "seconds",
        "evaluation_seconds": "evaluation seconds",
    }
    rows = [
        [row["method"], str(row["round"]), *(whole_number(row[name]) for name in columns)]
        for row in costs.iter_rows(named=True)
    ]
    return grid(["method", "round", *columns.values()], rows)


def diagnostics_table(costs: pl.DataFrame, contexts: Mapping[str, str]) -> Grid:
    columns = {
        "mean_teacher_logprob": "log-probability, all ids",
        "stop_logprob": "last id",
        "think_close_logprob": "end of thinking",
        "think_close_mass": "mass on the end of thinking",
        "divergence": "divergence before training",
    }

    def shown(name: str, value: float | None) -> str:
        if value is None:
            return "–"
        return f"{value:.1%}" if name == "think_close_mass" else with_minus(f"{value:.2g}")

    rows = [
        [row["method"], str(row["round"]), contexts[row["method"]], f"{row['share_kept']:.1%}"]
        + [shown(name, row[name]) for name in columns]
        for row in costs.iter_rows(named=True)
    ]
    header = ["method", "round", "scorer sees", "share kept", *columns.values()]
    return grid(header, rows, text=(0, 2))


def funnel_table(funnels: Mapping[Student, Mapping[str, Any]]) -> Grid:
    """The funnel of each round; why trajectories were not kept in a column of its own."""
    header: list[str | Cell] = ["method", "round", *STAGES, "tokens before", "after"]
    header.append(Cell("why the others were not kept", "reasons"))
    rows: list[list[str | Cell]] = []
    for (method, number), row in funnels.items():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in row["reasons"].items())
        counts = [f"{row[name]:,}" for name in STAGES]
        lengths = [
            "–" if row[name] is None else f"{row[name]:.1f}"
            for name in ("sample_tokens", "num_tokens")
        ]
        rows.append([method, str(number), *counts, *lengths, Cell(reasons or "–", "reasons")])
    return grid(header, rows)


def versions_table(versions: Mapping[str, str]) -> Grid:
    return grid(["package", "version"], versions.items(), text=(0, 1))


def models_table(models: Mapping[str, Mapping[str, Any]]) -> Grid:
    """The digests of the models that the run started from."""
    rows = [
        [role, *(manifest[name][:16] for name in ("digest", "weights", "token_map"))]
        for role, manifest in models.items()
    ]
    return grid(["model", "digest", "weights", "token map"], rows, text=(0, 1, 2, 3))


def artifacts_table(artifacts: Sequence[Mapping[str, Any]]) -> Grid:
    counts = ("files", "computed", "linked")
    whole = {"kind": "all", **{name: sum(row[name] for row in artifacts) for name in counts}}
    rows = [[row["kind"], *(str(row[name]) for name in counts)] for row in (*artifacts, whole)]
    return grid(["kind", *counts], rows)


def seconds_table(seconds: Mapping[tuple[str, int], Mapping[str, float]]) -> Grid:
    stages = list(dict.fromkeys(stage for own in seconds.values() for stage in own))
    rows = [
        [method, str(number), *(whole_number(own.get(stage)) for stage in stages)]
        for (method, number), own in seconds.items()
    ]
    return grid(["method", "round", *stages], rows)
