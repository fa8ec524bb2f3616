"""report: compare the students, add up what they cost, and write one page to read.

    python -m mpd.report --settings JSON --num-shards 1 --benchmarks dev sampled \\
        --rounds results/tiny/base/seed_0/round_0 results/tiny/mpd/seed_0/round_1 \\
        --problems .../shard_0.parquet --student .../student_seed_0/manifest.json \\
        --output results/tiny/report.html

Writes summary, comparison, budgets, difficulty and costs.parquet beside report.html, and prints
the summary and the round to ship. Round 0 trains nothing, so that only its evaluations are read.
The answers of a round are not read, only counted.
"""

from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.report import ReportSettings
from mpd.job import command
from mpd.job.layout import Round
from mpd.report.budgets import budget_frame
from mpd.report.compare import differences
from mpd.report.costs import cost_frame
from mpd.report.difficulty import by_difficulty
from mpd.report.findings import findings_of
from mpd.report.page.page import page
from mpd.report.run import Run
from mpd.report.shipping import shipped
from mpd.report.summary import summary_frame
from mpd.report.terminal import print_table
from mpd.store import schema, table
from mpd.store.parts import Parts
from mpd.store.publishing import Store


def published(
    store: Store,
    folder: Path,
    artifact: schema.Artifact,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    frame: Callable[[], pl.DataFrame],
) -> pl.DataFrame:
    """The rows of a table of the report; `frame` makes them if they are new."""

    def compute(parts: Parts) -> None:
        rows = frame()
        parts.map(rows, max(len(rows), 1), lambda: lambda part: part)

    path = folder / f"{artifact.name}.parquet"
    store.publish_table(artifact, path, settings, inputs, compute)
    return table.read(path, artifact)


def run_of(arguments: Namespace) -> Run:
    """The run that the command line names."""
    return Run(
        settings=arguments.settings,
        output=arguments.output,
        rounds=[Round.at(folder) for folder in arguments.rounds],
        benchmarks=arguments.benchmarks,
        num_shards=arguments.num_shards,
        problems=arguments.problems,
        student=arguments.student,
    )


def tables_of(run: Run, store: Store) -> dict[str, pl.DataFrame]:
    """The tables of the report by name, published beside it."""
    publish = partial(published, store, run.output.parent)
    settings, evaluations, answered = run.settings, run.evaluations, run.evaluation_digests
    limits = settings.model_dump(include={"max_new_tokens"})
    payers = settings.model_dump(include={"samplers", "given"})
    tables: list[tuple[schema.Artifact, Mapping[str, Any], Mapping[str, str], Any]] = [
        (schema.SUMMARY, {}, answered, lambda: summary_frame(evaluations)),
        (schema.COMPARISON, {}, answered, lambda: differences(run.per_problem)),
        (schema.BUDGETS, limits, answered, lambda: budget_frame(evaluations, **limits)),
        (schema.DIFFICULTY, {}, answered, lambda: by_difficulty(run.per_problem)),
        (
            *(schema.COSTS, payers, run.round_digests),
            lambda: cost_frame(run.trained, run.seconds, settings),
        ),
    ]
    return {artifact.name: publish(artifact, *how) for artifact, *how in tables}


def write_report(
    run: Run, tables: Mapping[str, pl.DataFrame], choice: pl.DataFrame, store: Store
) -> None:
    """Publish the page. All that it shows is in its fingerprint."""
    folder = run.output.parent
    artifacts = {artifact.name: artifact for artifact in schema.ARTIFACTS}
    shown = {
        name: table.content_digest(folder / f"{name}.parquet", artifacts[name]) for name in tables
    }

    def write(path: Path) -> None:
        path.write_text(page(findings_of(run, tables, choice)), encoding="utf-8")

    store.publish_file(
        "report",
        schema.REPORT_VERSION,
        run.output,
        {**run.settings.meaning(), **run.origin},
        {**run.evaluation_digests, **run.round_digests, **shown, **run.page_digests},
        write,
    )


def main(argv: list[str] | None = None) -> None:
    parser = command.parser(__doc__, "report", ReportSettings)
    parser.add_argument("--rounds", type=Path, nargs="+", required=True, help="their folders")
    parser.add_argument("--benchmarks", nargs="+", required=True, help="names; dev is one")
    parser.add_argument("--num-shards", type=int, required=True, help="shards of a round")
    parser.add_argument("--problems", type=Path, nargs="+", required=True, help="their shards")
    parser.add_argument("--student", type=Path, required=True, help="manifest, for its tokenizer")
    arguments = parser.parse_args(argv)
    run, store = run_of(arguments), command.store_of(arguments)
    for path in chain(run.evaluations, *(chain(*files.values()) for files in run.trained.values())):
        store.require_unchanged(path)
    tables = tables_of(run, store)
    choice = shipped(tables["summary"], run.settings.max_accuracy_drop)
    write_report(run, tables, choice, store)
    print_table(tables["summary"], choice, run.output)


if __name__ == "__main__":
    command.run(main, "report")
