"""Tables in Markdown, and a figure, of an experiment: what docs/comparison.md shows.

python benchmarks/tables.py results/compare
python benchmarks/tables.py results/ablations --only 'mpd|forward.*' --figure forward.svg
"""

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mpd.report.compare import is_significant
from mpd.report.students import Student, held_out

QUANTILES = ("tokens_p10", "tokens_median", "tokens_p90")


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def difference(row: Mapping[str, Any] | None, measure: str, digits: int) -> str:
    """A difference with its interval, starred where it excludes zero; empty where there is none."""
    if row is None or row[f"{measure}_low"] is None:
        return ""
    value, low, high = (row[f"{measure}{end}"] for end in ("", "_low", "_high"))
    star = "*" if is_significant(row, measure) else ""
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]{star}"


def students_of(summary: pl.DataFrame) -> list[Student]:
    """Every method and round, the base student first, others as the config lists them."""
    found = summary.select("method", "round").unique(maintain_order=True).rows()
    return sorted(found, key=lambda student: student[0] != "base")


def students_table(summary: pl.DataFrame, comparison: pl.DataFrame, quantiles: bool = False) -> str:
    """A row for each student: every seed, and the paired differences.

    With `quantiles`, also those of the lengths of its answers, means over its seeds.
    """
    named = {
        (row["method"], row["round"], row["against"]): row
        for row in comparison.iter_rows(named=True)
    }
    header = ["method", "round", "accuracy by seed", "tokens by seed"]
    header += ["p10, median, p90"] * quantiles
    header += ["accuracy less base", "tokens less base", "AES", "accuracy less mpd"]
    rows = []
    for method, number in students_of(summary):
        own = summary.filter(method=method, round=number).sort("seed")
        base, mpd = (named.get((method, number, against)) for against in ("base", "mpd"))
        rows.append(
            [
                f"`{method}`",
                str(number),
                " ".join(f"{value:.3f}".removeprefix("0") for value in own["accuracy"]),
                " ".join(f"{value:.1f}" for value in own["mean_tokens"]),
                *([", ".join(f"{own[name].mean():.0f}" for name in QUANTILES)] * quantiles),
                difference(base, "accuracy", 3),
                difference(base, "tokens", 1),
                difference(base, "aes", 2),
                difference(mpd, "accuracy", 3),
            ]
        )
    return markdown(header, rows)


def costs_table(costs: pl.DataFrame) -> str:
    header = ["method", "round", "student tokens", "teacher tokens", "scored", "trained", "steps"]
    header += ["kept", "teacher log-prob", "mass on end of thinking"]
    counts = ("student_tokens", "teacher_tokens", "scored_tokens", "trained_tokens", "num_steps")
    rows = [
        [
            *(f"`{row['method']}`", str(row["round"])),
            *(f"{row[name]:,}" for name in counts),
            f"{row['share_kept']:.2f}",
            *(
                "" if row[name] is None else f"{row[name]:.3f}"
                for name in ("mean_teacher_logprob", "think_close_mass")
            ),
        ]
        for row in costs.iter_rows(named=True)
    ]
    return markdown(header, rows)


def figure(summary: pl.DataFrame) -> str:
    """Accuracy and tokens of every student as SVG: a dot for each seed, a tick for their mean."""
    import altair as alt
    import vl_convert

    several = summary["round"].max() != 1

    def named(method: str, number: int) -> str:
        return f"{method}, round {number}" if number and several else method

    order = [named(*student) for student in students_of(summary)]
    students = map(named, summary["method"], summary["round"])
    rows = summary.with_columns(student=pl.Series(list(students)))
    data = alt.Data(
        values=rows.select("student", "benchmark", "accuracy", "mean_tokens").to_dicts()
    )

    def panel(field: str, title: str, first: bool) -> alt.LayerChart:
        rows_axis = alt.Axis(labels=first, ticks=first, title=None, labelLimit=240)
        base = alt.Chart(data).encode(
            y=alt.Y("student:N", sort=order, axis=rows_axis),
            color=alt.Color("benchmark:N").title(None),
            yOffset="benchmark:N",
        )
        across = alt.X(f"{field}:Q", scale=alt.Scale(zero=field != "accuracy")).title(title)
        means = alt.X(f"mean({field}):Q").title(title)
        return alt.layer(
            base.mark_point(filled=True, size=18, opacity=0.6).encode(x=across),
            base.mark_tick(thickness=2, size=9).encode(x=means),
        ).properties(width=330, height={"step": 9})

    both = (
        alt.hconcat(
            panel("accuracy", "accuracy", True),
            panel("mean_tokens", "mean tokens per answer", False),
        )
        .configure_view(stroke="#ddd")
        .configure(background="white")
    )
    return vl_convert.vegalite_to_svg(both.to_json())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("results", type=Path, help="results/<experiment>, with a report")
    parser.add_argument("--only", default=".*", help="methods: a regular expression for the whole")
    parser.add_argument("--benchmarks", nargs="*", help="default: all but dev, or dev alone")
    parser.add_argument("--figure", type=Path, help="SVG to write")
    parser.add_argument("--quantiles", action="store_true", help="of lengths, beside their means")
    arguments = parser.parse_args()

    def read(name: str) -> pl.DataFrame:
        frame = pl.read_parquet(arguments.results / f"{name}.parquet", glob=False)
        wanted = re.compile(arguments.only)
        names = [name for name in frame["method"].unique() if wanted.fullmatch(name)]
        return frame.filter(pl.col("method").is_in([*names, "base"]))

    summary, comparison, costs = read("summary"), read("comparison"), read("costs")
    known = held_out(summary)["benchmark"].unique(maintain_order=True).to_list()
    benchmarks = arguments.benchmarks or known
    for benchmark in benchmarks:
        print(f"### {benchmark}\n")
        of = pl.col("benchmark") == benchmark
        table = students_table(summary.filter(of), comparison.filter(of), arguments.quantiles)
        print(f"{table}\n")
    print(f"### costs\n\n{costs_table(costs)}")
    if arguments.figure:
        text = figure(summary.filter(pl.col("benchmark").is_in(benchmarks)))
        arguments.figure.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
