"""report: compare the students, add up what they cost, and write one page to read.

    python -m mpd.report --settings JSON --num-shards 1 --benchmarks dev sampled \\
        --rounds results/tiny/base/seed_0/round_0 results/tiny/mpd/seed_0/round_1 \\
        --problems .../shard_0.parquet --student .../student_seed_0/manifest.json \\
        --output results/tiny/report.html

Writes summary, comparison, budgets, difficulty, costs and speed.parquet beside report.html, and
prints the summary and the round to ship. Round 0 trains nothing, so that only its answers and their
evaluations are read.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.report import ReportSettings
from mpd.job import command
from mpd.job.inputs import require_sound
from mpd.job.layout import Round, table_in
from mpd.report.belonging import require_answers, require_training
from mpd.report.budgets import budget_frame
from mpd.report.compare import comparison_frame
from mpd.report.costs import cost_frame
from mpd.report.difficulty import by_difficulty
from mpd.report.findings import findings_of
from mpd.report.page.page import page
from mpd.report.run import Run
from mpd.report.shipping import shipped
from mpd.report.speed import speed_frame
from mpd.report.summary import summary_frame
from mpd.report.terminal import overlap_lines, print_table
from mpd.store import schema, table
from mpd.store.outputs import FileOutput, Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.store.publishing import Store

REPORT_TABLES = {
    artifact.name: artifact
    for artifact in (
        *(schema.SUMMARY, schema.COMPARISON, schema.BUDGETS),
        *(schema.DIFFICULTY, schema.COSTS, schema.SPEED),
    )
}


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


def tables_of(run: Run) -> Iterator[TableOutput]:
    """The tables of the report, beside it."""
    settings, evaluations, answered = run.settings, run.evaluations, run.evaluation_digests
    timed = {**answered, **run.round_digests, "spent": run.spent_digest}
    limits = settings.model_dump(include={"max_new_tokens"})
    payers = settings.model_dump(include={"samplers", "given"})
    tables: list[tuple[schema.Artifact, Mapping[str, Any], Mapping[str, str], Any]] = [
        (schema.SUMMARY, {}, answered, lambda: summary_frame(evaluations)),
        (schema.COMPARISON, {}, answered, lambda: comparison_frame(run.per_problem)),
        (schema.BUDGETS, limits, answered, lambda: budget_frame(evaluations, **limits)),
        (schema.DIFFICULTY, {}, answered, lambda: by_difficulty(run.per_problem)),
        (
            *(schema.COSTS, payers, run.round_digests),
            lambda: cost_frame(run.trained, run.seconds, settings),
        ),
        (
            *(schema.SPEED, settings.model_dump(include={"given"}), timed),
            lambda: speed_frame(run.trained, run.spent, run.benchmarks, settings.given),
        ),
    ]
    for artifact, meaning, inputs, frame in tables:
        path = table_in(run.output.parent, artifact.name)
        yield TableOutput(artifact, path, meaning, inputs, partial(_write, frame))


def _write(frame: Callable[[], pl.DataFrame], parts: Parts) -> None:
    parts.write(frame())


def page_of(run: Run, paths: Mapping[str, Path]) -> FileOutput:
    """The page. All that it shows is in its fingerprint. `paths` are those of its tables."""
    shown = {name: table.content_digest(path, REPORT_TABLES[name]) for name, path in paths.items()}

    def write(path: Path) -> None:
        tables = {name: table.read(paths[name], REPORT_TABLES[name]) for name in paths}
        choice = shipped(tables["summary"], run.settings.max_accuracy_drop)
        path.write_text(page(findings_of(run, tables, choice)), encoding="utf-8")

    return FileOutput(
        "report",
        schema.REPORT_VERSION,
        run.output,
        {**run.settings.meaning(), **run.origin},
        {**run.evaluation_digests, **run.round_digests, **shown, **run.page_digests},
        write,
    )


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    parser = command.parser(__doc__, "report", ReportSettings)
    parser.add_argument(
        "--rounds", type=Path, nargs="+", required=True, help="folders of the rounds"
    )
    parser.add_argument(
        "--benchmarks", nargs="+", required=True, help="names of the benchmarks, with dev"
    )
    parser.add_argument("--num-shards", type=int, required=True, help="number of shards of a round")
    parser.add_argument(
        "--problems", type=Path, nargs="+", required=True, help="shards of the training problems"
    )
    parser.add_argument(
        "--student", type=Path, required=True, help="manifest of a student, for its tokenizer"
    )
    return parser


def outputs(arguments: Namespace) -> Outputs:
    """The tables of the report and its page.

    Raises ValueError where a file of a round came from the store and was changed since, or does not
    belong to the others.
    """
    run, store = run_of(arguments), Store(arguments.store)
    trained = chain(*(chain(*files.values()) for files in run.trained.values()))
    for path in chain(run.evaluations, run.answers, trained):
        require_sound(store, path)
    for round in run.rounds:
        require_answers(round, run.benchmarks)
    for round, files in run.trained.items():
        require_training(round, files, run.settings.samplers.get(round.method))
    paths: dict[str, Path] = {}
    for output in tables_of(run):
        readable = yield output
        if readable is not None:
            paths[output.kind] = readable
    if len(paths) == len(REPORT_TABLES):
        yield page_of(run, paths)


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    arguments = command.publish(command_line(), outputs, argv)
    if arguments.mode != "explain":
        summary = table.read(table_in(arguments.output.parent, schema.SUMMARY.name), schema.SUMMARY)
        choice = shipped(summary, arguments.settings.max_accuracy_drop)
        costs = table.read(table_in(arguments.output.parent, schema.COSTS.name), schema.COSTS)
        overlaps = overlap_lines(costs, arguments.settings.samplers)
        print_table(summary, choice, arguments.output, overlaps)


if __name__ == "__main__":
    command.run(main, "report")
