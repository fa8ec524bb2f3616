"""The tables of the report, and how their cells are written. No markup, no I/O."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from mpd.reporting.compare import MEASURES, Student, is_significant
from mpd.reporting.difficulty import BINS
from mpd.reporting.funnel import STAGES
from mpd.reporting.page.charts import held_out

HEADER = [
    *("method", "round", "seed", "benchmark", "problems", "samples"),
    *("accuracy", "tokens", "truncated", "no answer"),
]
SEEDS_HEADER = ["method", "round", "seeds", "benchmark", "accuracy", "tokens"]


class Cell(NamedTuple):
    """Text, and the name of its class in the style sheet: empty, text (on the left) or another."""

    text: str
    kind: str = ""


class Grid(NamedTuple):
    """The cells of a table, whose header is one row."""

    header: list[Cell]
    rows: list[list[Cell]]


class Split(NamedTuple):
    """What is shown of the benchmarks, and of the development split; None where that is all."""

    benchmarks: Any
    development: Any


def grid(
    header: Sequence[str | Cell],
    rows: Iterable[Sequence[str | Cell]],
    text: Sequence[int] = (0,),
) -> Grid:
    """The cells of a table. `text`: columns on the left."""

    def line(cells: Sequence[str | Cell]) -> list[Cell]:
        whole = (cell if isinstance(cell, Cell) else Cell(cell) for cell in cells)
        return [
            cell._replace(kind="text") if column in text else cell
            for column, cell in enumerate(whole)
        ]

    return Grid(line(header), [line(cells) for cells in rows])


def by_split(rows: pl.DataFrame, cells: Callable[[pl.DataFrame], Any]) -> Split:
    """What `cells` makes of the held-out benchmarks, and of the development split."""
    benchmarks = held_out(rows)
    if len(benchmarks) == len(rows):
        return Split(cells(rows), None)
    return Split(cells(benchmarks), cells(rows.filter(benchmark="dev")))


def printable(summary: pl.DataFrame) -> list[list[str]]:
    """The cells of the table of every seed."""
    return [
        [
            row["method"],
            str(row["round"]),
            str(row["seed"]),
            row["benchmark"],
            str(row["num_problems"]),
            str(row["num_samples"]),
            f"{row['accuracy']:.3f} ± {row['accuracy_se']:.3f}",
            f"{row['mean_tokens']:.1f} ± {row['mean_tokens_se']:.1f}",
            f"{row['truncation_rate']:.1%}",
            f"{row['no_answer_rate']:.1%}",
        ]
        for row in summary.iter_rows(named=True)
    ]


def measures_table(summary: pl.DataFrame) -> Grid:
    """The measures of every seed that the table of `printable` has no room for."""
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


def over_seeds(summary: pl.DataFrame) -> list[list[str]]:
    """The cells of a table with a row for each student and benchmark: means and ranges."""

    def cell(values: pl.Series, digits: int) -> str:
        found = values.to_list()
        ends = sum(found) / len(found), min(found), max(found)
        mean, low, high = (f"{value:.{digits}f}" for value in ends)
        return f"{mean} ({low} to {high})"

    groups = summary.group_by("method", "benchmark", "round", maintain_order=True)
    return [
        [
            *(method, str(number), str(len(rows)), benchmark),
            *(cell(rows["accuracy"], 3), cell(rows["mean_tokens"], 1)),
        ]
        for (method, benchmark, number), rows in groups
    ]


def shipping_lines(choice: pl.DataFrame) -> list[str]:
    """One sentence for each branch."""
    return [
        f"{method}, seed {seed}: "
        + (f"round {number}" if number else "none; stay with the base student")
        for method, seed, number in choice.select("method", "seed", "round").iter_rows()
    ]


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


def interval(row: Mapping[str, Any], measure: str, digits: int, sign: str = "") -> str:
    """Value and interval as text; a dash where there is none."""
    if row[f"{measure}_low"] is None:
        return "–"
    ends = (row[measure], row[f"{measure}_low"], row[f"{measure}_high"])
    value, low, high = (with_minus(f"{number:{sign},.{digits}f}") for number in ends)
    return f"{value} [{low}, {high}]"


def with_minus(number: str) -> str:
    """A number as text, with the sign that is as wide as a plus."""
    return number.replace("-", "−")


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


def difference(row: Mapping[str, Any], measure: str) -> Cell:
    """A difference as a cell, marked where its interval excludes zero."""
    shown = interval(row, measure, {"accuracy": 3, "aes": 2}.get(measure, 1), "+")
    if is_significant(row, measure):
        return Cell(f"{shown} *", "clear")
    return Cell(shown, "unclear")


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


def whole_number(value: float | None) -> str:
    """Without decimals; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


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
    return grid(["method", "round", "scorer sees", "share kept", *columns.values()], rows)


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
