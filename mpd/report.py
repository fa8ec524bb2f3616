"""report: the summary table, one page to read, and the round to ship.

    python -m mpd.report --settings JSON --evaluations .../evaluate/*.parquet \\
        --problems ... --sample ... --compress ... --filter ... \\
        --output results/tiny/report.html

Writes summary.parquet beside report.html and prints the table.
"""

import html
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from mpd import command, schema, table
from mpd.store import Parts

PLACE = re.compile(r"/(?P<method>[^/]+)/seed_(?P<seed>\d+)/round_(?P<round>\d+)/evaluate/")
NUM_EXAMPLES = 3


def summarise(place: Mapping[str, Any], answered: pl.DataFrame) -> dict[str, Any]:
    """The summary row of one student on one benchmark.

    Means are over problems of the mean over a problem's samples; a standard error is that of
    the mean over problems, so samples of one problem do not count as independent. A sample whose
    prompt did not fit has no tokens and counts for accuracy alone: an answer that never was is
    not a short one. Raises ValueError where that is so of every sample.
    """
    sampled = pl.col("finish_reason") != "too_long"
    problems = answered.group_by("problem_id", maintain_order=True).agg(
        pl.col("correct").mean(), pl.col("num_tokens").filter(sampled).mean()
    )
    if problems["num_tokens"].is_null().all():
        raise ValueError(
            f"benchmark {place['benchmark']}: {place['method']}, seed {place['seed']}, round "
            f"{place['round']} answered nothing, since no prompt leaves room for max_new_tokens in "
            "the student's context; lower evaluate.max_new_tokens, or that of the benchmark"
        )

    def error(column: str) -> float:
        values = problems[column].drop_nulls().to_list()
        return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0

    return {
        **place,
        "num_problems": len(problems),
        "num_samples": len(answered) // len(problems),
        "accuracy": problems["correct"].mean(),
        "accuracy_se": error("correct"),
        "mean_tokens": problems["num_tokens"].mean(),
        "mean_tokens_se": error("num_tokens"),
        "truncation_rate": (answered["finish_reason"] == "length").mean(),
        "no_answer_rate": answered["answer"].is_null().mean(),
    }


def place_of(path: Path) -> dict[str, Any]:
    """Method, round, seed and benchmark that an evaluation's path names."""
    match = PLACE.search(path.as_posix())
    if not match:
        raise ValueError(f"{path}: not .../<method>/seed_<n>/round_<n>/evaluate/<benchmark>")
    return {
        "method": match["method"],
        "round": int(match["round"]),
        "seed": int(match["seed"]),
        "benchmark": path.stem,
    }


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
    trained = dev.filter(pl.col("method") != "base").join(base, on="seed", validate="m:1")
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


def examples_of(
    problems: pl.DataFrame, samples: pl.DataFrame, candidates: pl.DataFrame, verdicts: pl.DataFrame
) -> pl.DataFrame:
    """Kept rewrites beside their trajectories: those nearest to the median ratio."""
    kept = verdicts.filter("keep")
    middle = kept["ratio"].median()
    return (
        kept.with_columns(distance=(pl.col("ratio") - middle).abs())
        .sort("distance", "sample_id")
        .head(NUM_EXAMPLES)
        .join(
            candidates.select("sample_id", "candidate", "text"),
            on=["sample_id", "candidate"],
            maintain_order="left",
        )
        .join(
            samples.select("sample_id", sample_text="text"), on="sample_id", maintain_order="left"
        )
        .join(problems.select("problem_id", "question"), on="problem_id", maintain_order="left")
        .select("question", "gold", "sample_text", "sample_tokens", "text", "num_tokens")
    )


def chart(summary: pl.DataFrame) -> str:
    """Accuracy against mean tokens, a line through the rounds of each branch, as SVG text."""
    import altair as alt
    import vl_convert

    held_out = summary.filter(pl.col("benchmark") != "dev")
    trained = held_out.filter(pl.col("method") != "base")
    base = held_out.filter(pl.col("method") == "base").drop("method")
    lines = pl.concat(
        [
            trained,
            *(base.with_columns(method=pl.lit(name)) for name in trained["method"].unique().sort()),
        ],
        how="diagonal",
    ).with_columns(
        branch=pl.format("{}, seed {}", "method", "seed"),
        low=pl.col("accuracy") - pl.col("accuracy_se"),
        high=pl.col("accuracy") + pl.col("accuracy_se"),
    )
    tokens = alt.X("mean_tokens:Q").title("mean tokens per answer").scale(zero=True)
    encoded = alt.Chart().encode(x=tokens, color=alt.Color("branch:N").title(None))
    accuracy = alt.Y("accuracy:Q").title("accuracy (± standard error)").scale(zero=False)
    order = alt.Order("round:O")
    layers = alt.layer(
        encoded.mark_rule().encode(y=alt.Y("low:Q").title(""), y2="high:Q"),
        encoded.mark_line(strokeDash=[4, 3]).encode(y=accuracy, order=order),
        encoded.mark_point(filled=True, size=70).encode(y=accuracy),
        encoded.mark_text(dy=-12).encode(y=accuracy, text="round:O"),
    ).properties(width=340, height=260)
    # Altair hashes the data into the chart; rows go in as plain values.
    figure = alt.FacetChart(
        data=alt.Data(values=lines.to_dicts()),
        spec=layers,
        facet=alt.Facet("benchmark:N").title(None),
        columns=2,
    )
    return vl_convert.vegalite_to_svg(figure.to_json())


def page(
    experiment: str, summary: pl.DataFrame, choice: pl.DataFrame, examples: pl.DataFrame
) -> str:
    """The whole report as one HTML text. Model output goes in escaped."""
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        for cells in printable(summary)
    )
    shipping = "".join(f"<li>{html.escape(line)}</li>" for line in shipping_lines(choice))
    pairs = "".join(
        f"<h3>{html.escape(row['question'])} <small>answer: {html.escape(row['gold'])}</small></h3>"
        f"<div class=pair><div><b>student, {row['sample_tokens']} tokens</b>"
        f"<pre>{html.escape(row['sample_text'])}</pre></div>"
        f"<div><b>teacher's rewrite, {row['num_tokens']} tokens</b>"
        f"<pre>{html.escape(row['text'])}</pre></div></div>"
        for row in examples.iter_rows(named=True)
    )
    header = "".join(f"<th>{name}</th>" for name in HEADER)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>MPD: {html.escape(experiment)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; font-size: .9rem }}
td, th {{ padding: .2rem .6rem; text-align: right; white-space: nowrap }}
td:nth-child(-n+4), th:nth-child(-n+4) {{ text-align: left }}
tr:nth-child(even) {{ background: #8881 }}
.chart svg {{ background: white; max-width: 100%; height: auto }}
.pair {{ display: grid; grid-template-columns: 3fr 2fr; gap: 1rem }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; padding: .7rem; background: #8882 }}
@media (max-width: 40rem) {{ .pair {{ grid-template-columns: 1fr }} }}
</style>
<h1>{html.escape(experiment)}</h1>
<h2>Accuracy against tokens</h2>
<p>Each point is a student; the number is its training round, 0 the base student.
Further left is shorter, further up is more often right.</p>
<div class=chart>{chart(summary)}</div>
<table><tr>{header}</tr>{rows}</table>
<h2>Which round to ship</h2>
<p>Chosen on the development split: the shortest of the students that are shorter than the base
student and no less accurate, but for the configured drop; among equally short ones, within the
standard error, the most accurate.</p><ul>{shipping}</ul>
<h2>What the student is trained on</h2>
<p>Round 1: the student's own trajectory, and the teacher's rewrite of it that was kept; those
with the most typical ratio of lengths.</p>
{pairs or "<p>No rewrite was kept in this shard.</p>"}
</html>
"""


HEADER = [
    *("method", "round", "seed", "benchmark", "problems", "samples"),
    *("accuracy", "tokens", "truncated", "no answer"),
]


def printable(summary: pl.DataFrame) -> list[list[str]]:
    """The cells of the printed table."""
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


def shipping_lines(choice: pl.DataFrame) -> list[str]:
    """One sentence for each branch."""
    return [
        f"{method}, seed {seed}: "
        + (f"round {number}" if number else "none; stay with the base student")
        for method, seed, number in choice.select("method", "seed", "round").iter_rows()
    ]


def print_table(summary: pl.DataFrame, choice: pl.DataFrame, path: Path) -> None:
    """Print the summary, the choice and the path of the report."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(title="accuracy and tokens, ± standard error over problems")
    for number, name in enumerate(HEADER):
        shown.add_column(name, justify="left" if number < 4 else "right", no_wrap=True)
    for cells in printable(summary):
        shown.add_row(*cells)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(shown)
    for line in shipping_lines(choice):
        console.print(f"ship {line}", highlight=False)
    console.print(f"report: {path}", highlight=False)


def main(argv: list[str] | None = None) -> None:
    parser = command.parser(__doc__, "report")
    parser.add_argument("--evaluations", type=Path, nargs="+", required=True)
    for name in ("problems", "sample", "compress", "filter"):
        parser.add_argument(f"--{name}", type=Path, required=True, help=f"{name}, for examples")
    arguments = parser.parse_args(argv)
    store = command.store_of(arguments)
    places = {path: place_of(path) for path in arguments.evaluations}
    contents = {
        " ".join(str(part) for part in place.values()): table.content_digest(path, schema.EVALUATE)
        for path, place in places.items()
    }

    def compute(parts: Parts) -> None:
        rows = [
            summarise(place, table.read(path, schema.EVALUATE)) for path, place in places.items()
        ]
        frame = table.frame_of(rows, schema.SUMMARY)
        is_base = pl.col("method") == "base"
        frame = frame.sort(~is_base, "method", "seed", "benchmark", "round")
        parts.map(frame, len(frame), lambda: lambda part: part)

    summary_path = arguments.output.with_name("summary.parquet")
    store.publish_table(schema.SUMMARY, summary_path, {}, contents, compute)
    summary = table.read(summary_path, schema.SUMMARY)
    choice = shipped(summary, arguments.settings["max_accuracy_drop"])
    sources: dict[str, Any] = {
        "problems": (arguments.problems, schema.PROBLEMS),
        "sample": (arguments.sample, schema.SAMPLE),
        "compress": (arguments.compress, schema.COMPRESS),
        "filter": (arguments.filter, schema.FILTER),
    }
    experiment = arguments.output.parent.name

    def write(path: Path) -> None:
        examples = examples_of(*(table.read(*of) for of in sources.values()))
        path.write_text(page(experiment, summary, choice, examples), encoding="utf-8")

    store.publish_file(
        "report",
        schema.REPORT_VERSION,
        arguments.output,
        {**arguments.settings, "experiment": experiment},
        {**contents, **{name: table.content_digest(*of) for name, of in sources.items()}},
        write,
    )
    print_table(summary, choice, arguments.output)


if __name__ == "__main__":
    command.run(main, "report")
