"""The tables of the page, as cells. No markup, no I/O."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from mpd.config.base import BASE
from mpd.report.compare import MEASURES
from mpd.report.difficulty import BINS
from mpd.report.funnel import STEPS
from mpd.report.page.cells import (
    DASH,
    QUANTILES_TITLE,
    Cell,
    Grid,
    difference,
    grid,
    interval,
    number,
    percentages,
    quantiles,
)
from mpd.report.students import REFERENCE, Student
from mpd.report.terminal import HEADER, printable


def summary_table(summary: pl.DataFrame) -> Grid:
    """Every seed of every student."""
    return grid(HEADER, printable(summary), text=(0, 3))


def measures_table(summary: pl.DataFrame) -> Grid:
    """The measures of every seed that `summary_table` has no room for."""
    columns = {
        "pass_at_k": ("pass@k", 3),
        "tokens_p10": ("tokens, p10", 1),
        "tokens_median": ("median", 1),
        "tokens_p90": ("p90", 1),
        "tokens_max": ("longest", 0),
        "thinking_tokens": ("thinking tokens", 1),
        "answer_tokens": ("answer tokens", 1),
        "solved_tokens": ("tokens, solved", 1),
        "tokens_per_correct": ("tokens per correct answer", 1),
        "timeout_rate": ("checker timeouts", 3),
        "aes": ("AES", 2),
    }
    place = ("method", "round", "seed", "benchmark")
    rows = [
        [str(row[name]) for name in (*place, "num_samples")]
        + [number(row[name], f",.{digits}f") for name, (_, digits) in columns.items()]
        for row in summary.iter_rows(named=True)
    ]
    header = [*place, "samples, k", *(title for title, _ in columns.values())]
    return grid(header, rows, text=(0, 3))


def shipping_table(choice: pl.DataFrame) -> Grid:
    """The round to ship by method and seed."""
    seeds = choice["seed"].unique().sort().to_list()
    rounds = {(method, seed): chosen for method, seed, chosen in choice.iter_rows()}
    rows = [
        [
            method,
            *(
                f"round {chosen}" if (chosen := rounds.get((method, seed))) else BASE
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
            "With one seed, intervals come from a bootstrap over problems: they do not show how "
            "much another seed would differ."
        )
    # Percentile bootstrap of S values: it cannot leave their range, and all S lie on one side
    # of the truth with probability 2 / 2^S.
    return (
        f"Intervals come from a bootstrap over the {num_seeds} seeds, and then over problems, the "
        "same ones for all seeds. With so few seeds they are too narrow: if seeds alone differed, "
        f"they would contain the true value at most {1 - 2 ** (1 - num_seeds):.0%} of the time."
    )


def means_table(means: pl.DataFrame) -> Grid:
    """Accuracy and tokens of every student, over all its seeds."""
    header = ["benchmark", "method", "round", "seeds", "accuracy", "tokens", QUANTILES_TITLE]
    rows = [
        [
            *(row["benchmark"], row["method"], str(row["round"]), str(row["num_seeds"])),
            *(interval(row, "accuracy", 3), interval(row, "tokens", 1), quantiles(row)),
        ]
        for row in means.iter_rows(named=True)
    ]
    return grid(header, rows, text=(0, 1))


def difference_tables(comparison: pl.DataFrame) -> dict[str, Grid]:
    """A table by title for each student that is subtracted; AES is against the base student."""
    header = ["benchmark", "method", "round"]
    header += ["accuracy", "tokens", "tokens, both solve"]
    further = [QUANTILES_TITLE, "longer", "both solve"]
    titles = {
        BASE: "Against the base student",
        REFERENCE: "Against mpd of the same round (its last round for untrained methods)",
    }
    tables = {}
    for against, title in titles.items():
        scores = ["aes"] if against == BASE else []
        rows = [
            [row["benchmark"], row["method"], str(row["round"])]
            + [difference(row, measure) for measure in (*MEASURES, *scores)]
            + [quantiles(row, "+"), percentages(row, "longer"), number(row["num_solved"])]
            for row in comparison.filter(against=against).iter_rows(named=True)
        ]
        if rows:
            tables[title] = grid([*header, *("AES" for _ in scores), *further], rows, text=(0, 1))
    return tables


def difficulty_table(bins: pl.DataFrame) -> Grid:
    """Every student in every bin, the hardest problems first."""
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


def diagnostics_table(costs: pl.DataFrame, contexts: Mapping[str, str]) -> Grid:
    """The teacher's scores of the trained completions of each round, over all seeds."""
    columns = {
        "mean_teacher_logprob": ("log p, all tokens", ".2g"),
        "stop_logprob": ("log p, last token", ".2g"),
        "think_close_logprob": ("log p, end of thinking", ".2g"),
        "think_close_mass": ("p, end of thinking", ".1%"),
        "divergence": ("divergence before training", ".2g"),
        "overlap": ("top ids shared", ".1%"),
    }
    rows = [
        [row["method"], str(row["round"]), contexts[row["method"]], f"{row['share_kept']:.1%}"]
        + [number(row[name], form) for name, (_, form) in columns.items()]
        for row in costs.iter_rows(named=True)
    ]
    header = ["method", "round", "scorer sees", "share kept"]
    return grid([*header, *(title for title, _ in columns.values())], rows, text=(0, 2))


def funnel_table(funnels: Mapping[Student, Mapping[str, Any]]) -> Grid:
    """The funnel of each round; why trajectories were not kept in a column of its own."""
    header: list[str | Cell] = ["method", "round", *STEPS, "tokens before", "tokens after"]
    header.append("checker timeouts")
    header.append(Cell("why the others were not kept", "reasons"))
    rows: list[list[str | Cell]] = []
    for (method, round), row in funnels.items():
        reasons = ", ".join(f"{number(count)} {reason}" for reason, count in row["reasons"].items())
        counts = [number(row[name]) for name in STEPS]
        lengths = [number(row[name], ".1f") for name in ("sample_tokens", "num_tokens")]
        lengths.append(number(row["timeouts"]))
        rows.append([method, str(round), *counts, *lengths, Cell(reasons or DASH, "reasons")])
    return grid(header, rows)


def versions_table(versions: Mapping[str, str]) -> Grid:
    """The packages that wrote the page."""
    return grid(["package", "version"], versions.items(), text=(0, 1))


def models_table(models: Mapping[str, Mapping[str, Any]]) -> Grid:
    """The digests of the models that the run started from."""
    rows = [
        [role, *(manifest[name][:16] for name in ("digest", "weights", "token_map"))]
        for role, manifest in models.items()
    ]
    return grid(["model", "digest", "weights", "token map"], rows, text=(0, 1, 2, 3))
