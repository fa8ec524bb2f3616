"""The tables of the report, and how their cells are written. No I/O."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from mpd.compare import MEASURES, is_significant
from mpd.difficulty import BINS

HEADER = [
    *("method", "round", "seed", "benchmark", "problems", "samples"),
    *("accuracy", "tokens", "truncated", "no answer"),
]
SEEDS_HEADER = ["method", "round", "seeds", "benchmark", "accuracy", "tokens"]


def html_table(
    header: Sequence[str | tuple[str, str]],
    rows: Iterable[Sequence[str | tuple[str, str]]],
    text: Sequence[int] = (0,),
) -> str:
    """A table of cells: text, or text and the name of a class. `text`: columns on the left."""

    def cell(tag: str, column: int, content: str | tuple[str, str]) -> str:
        shown, name = content if isinstance(content, tuple) else (content, "")
        name = "text" if column in text else name
        return f"<{tag}{f' class={name}' if name else ''}>{html.escape(shown)}</{tag}>"

    def line(tag: str, cells: Sequence[str | tuple[str, str]]) -> str:
        return f"<tr>{''.join(cell(tag, *numbered) for numbered in enumerate(cells))}</tr>"

    body = "".join(line("td", cells) for cells in rows)
    return f"<div class=wide><table>{line('th', header)}{body}</table></div>"


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


def measures_table(summary: pl.DataFrame) -> str:
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
    return html_table(header, rows, text=(0, 3))


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


def shipping_table(choice: pl.DataFrame) -> str:
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
    return html_table(["method", *(f"seed {seed}" for seed in seeds)], rows)


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


def means_table(means: pl.DataFrame) -> str:
    header = ["benchmark", "method", "round", "seeds", "accuracy", "tokens"]
    rows = [
        [
            *(row["benchmark"], row["method"], str(row["round"]), str(row["num_seeds"])),
            *(interval(row, "accuracy", 3), interval(row, "tokens", 1)),
        ]
        for row in means.iter_rows(named=True)
    ]
    return html_table(header, rows, text=(0, 1))


def difference_tables(comparison: pl.DataFrame) -> str:
    """A table for each of what is subtracted; the score is one against the base student alone."""
    header = ["benchmark", "method", "round"]
    header += ["accuracy", "tokens", "tokens, both solve"]
    titles = {
        "base": "to the base student",
        "mpd": "to mpd of the same round, or of its last where nothing is trained",
    }
    shown = ""
    for against, title in titles.items():
        scores = ["aes"] if against == "base" else []
        rows = [
            [row["benchmark"], row["method"], str(row["round"])]
            + [difference(row, measure) for measure in (*MEASURES, *scores)]
            + [f"{row['num_solved']:,}"]
            for row in comparison.filter(against=against).iter_rows(named=True)
        ]
        if rows:
            own = html_table([*header, *("AES" for _ in scores), "both solve"], rows, (0, 1))
            shown += f"<h3>{title}</h3>{own}"
    return shown or "<p>Only the base student was evaluated.</p>"


def difference(row: Mapping[str, Any], measure: str) -> tuple[str, str]:
    """A difference as a cell, marked where its interval excludes zero."""
    shown = interval(row, measure, {"accuracy": 3, "aes": 2}.get(measure, 1), "+")
    return (f"{shown} *", "clear") if is_significant(row, measure) else (shown, "unclear")


def difficulty_table(bins: pl.DataFrame) -> str:
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
    return html_table(header, rows, text=(0, 1, 3))


def whole_number(value: float | None) -> str:
    """Without decimals; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def costs_table(costs: pl.DataFrame) -> str:
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
    return html_table(["method", "round", *columns.values()], rows)


def diagnostics_table(costs: pl.DataFrame, contexts: Mapping[str, str]) -> str:
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
    return html_table(["method", "round", "scorer sees", "share kept", *columns.values()], rows)


def artifacts_table(artifacts: Sequence[Mapping[str, Any]]) -> str:
    counts = ("files", "computed", "linked")
    whole = {"kind": "all", **{name: sum(row[name] for row in artifacts) for name in counts}}
    rows = [[row["kind"], *(str(row[name]) for name in counts)] for row in (*artifacts, whole)]
    return html_table(["kind", *counts], rows)


def seconds_table(seconds: Mapping[tuple[str, int], Mapping[str, float]]) -> str:
    stages = list(dict.fromkeys(stage for own in seconds.values() for stage in own))
    rows = [
        [method, str(number), *(whole_number(own.get(stage)) for stage in stages)]
        for (method, number), own in seconds.items()
    ]
    return html_table(["method", "round", *stages], rows)
