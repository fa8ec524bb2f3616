"""report: students compared, what they cost, one page to read, and the round to ship.

    python -m mpd.report --settings JSON --num-shards 1 --benchmarks dev sampled \\
        --rounds results/tiny/base/seed_0/round_0 results/tiny/mpd/seed_0/round_1 \\
        --problems .../shard_0.parquet --student .../student_seed_0/manifest.json \\
        --output results/tiny/report.html

Writes summary, comparison, budgets, difficulty and costs.parquet beside report.html and prints
the summary. A round of 0 trained nothing: of its folder only the evaluations are read. Of answers
nothing is read; how many were sampled and how many are links is counted.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.report import ReportSettings
from mpd.job import command
from mpd.report import compare, costs, difficulty, findings
from mpd.report.browser_section import Section, section
from mpd.report.page.page import Findings, page
from mpd.report.rounds import (
    Trained,
    answer_digests,
    budget_frame,
    cost_frame,
    place_of,
    problem_frame,
    round_digests,
)
from mpd.report.shipping import shipped
from mpd.report.summary import Evaluations, summary_frame
from mpd.report.terminal import print_table
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest
from mpd.store.outputs import FileOutput, Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.store.publishing import Store

TABLES = {
    artifact.name: artifact
    for artifact in (
        *(schema.SUMMARY, schema.COMPARISON, schema.BUDGETS),
        *(schema.DIFFICULTY, schema.COSTS),
    )
}


@dataclass(frozen=True)
class Run:
    """What the report is of. `places` give method, round and seed of the folder of each round.

    `seconds` are the wall seconds by stage of each trained round, `problems` the shards of the
    training problems, `student` the manifest of a model that has the tokenizer.
    """

    settings: ReportSettings
    output: Path
    places: Mapping[Path, Mapping[str, Any]]
    benchmarks: Sequence[str]
    evaluations: Evaluations
    trained: Trained
    seconds: Mapping[Path, Mapping[str, float]]
    problems: Sequence[Path]
    student: Path

    @cached_property
    def answered(self) -> dict[str, str]:
        """Content digests of the evaluations."""
        return answer_digests(self.evaluations)

    @cached_property
    def rounds(self) -> dict[str, str]:
        """Content digests of the trained rounds, and one of their times."""
        return round_digests(self.trained, self.seconds)

    @cached_property
    def compared(self) -> pl.DataFrame:
        """What `compare` asks for of every evaluation; read where something is to be computed."""
        return problem_frame(self.evaluations)


def artifact_files(evaluations: Evaluations, trained: Trained) -> dict[str, list[Path]]:
    """The files behind the report by kind, in the order of the stages."""
    kinds = {
        kind: [path for files in trained.values() for path in files[kind]]
        for kind in costs.ARTIFACTS
    }
    answers = [path.parents[1] / "answers" / path.name for path in evaluations]
    return {**kinds, "answers": answers, "evaluate": list(evaluations)}


def trajectories(
    experiment: str, trained: Trained, problems: Sequence[Path], tokenizer: Path
) -> Section:
    """The section of the page in which to read what was sampled and what was made of it."""
    from tokenizers import Tokenizer

    columns = ["problem_id", "question"]
    return section(
        experiment,
        [(place_of(folder), files) for folder, files in trained.items()],
        pl.concat(table.read_columns(path, columns) for path in problems),
        Tokenizer.from_file(str(tokenizer)),
    )


def whole_table(frame: Callable[[], pl.DataFrame], parts: Parts) -> None:
    """Write the table that `frame` computes as one part."""
    rows = frame()
    parts.map(rows, max(len(rows), 1), lambda: lambda part: part)


def run_of(arguments: Namespace) -> Run:
    """What the command line names."""
    output, places = arguments.output, {folder: place_of(folder) for folder in arguments.rounds}
    trained = {
        folder: costs.round_files(folder, arguments.num_shards)
        for folder, place in places.items()
        if place["round"] > 0
    }
    return Run(
        settings=arguments.settings,
        output=output,
        places=places,
        benchmarks=arguments.benchmarks,
        evaluations={
            folder / "evaluate" / f"{benchmark}.parquet": {**place, "benchmark": benchmark}
            for folder, place in places.items()
            for benchmark in arguments.benchmarks
        },
        trained=trained,
        seconds={
            folder: costs.seconds_by_stage(folder, arguments.num_shards, arguments.benchmarks)
            for folder in trained
        },
        problems=arguments.problems,
        student=arguments.student,
    )


def tables_of(run: Run) -> Iterator[TableOutput]:
    """The tables of the report, beside it."""
    settings, evaluations, answered = run.settings, run.evaluations, run.answered
    limits = settings.model_dump(include={"max_new_tokens"})
    payers = settings.model_dump(include={"samplers", "given"})

    frames: list[tuple[schema.Artifact, Mapping[str, Any], Mapping[str, str], Any]] = [
        (schema.SUMMARY, {}, answered, lambda: summary_frame(evaluations)),
        (schema.COMPARISON, {}, answered, lambda: compare.differences(run.compared)),
        (schema.BUDGETS, limits, answered, lambda: budget_frame(evaluations, **limits)),
        (schema.DIFFICULTY, {}, answered, lambda: difficulty.by_difficulty(run.compared)),
        (schema.COSTS, payers, run.rounds, lambda: cost_frame(run.trained, run.seconds, settings)),
    ]
    for artifact, meaning, inputs, frame in frames:
        path = run.output.with_name(f"{artifact.name}.parquet")
        yield TableOutput(artifact, path, meaning, inputs, partial(whole_table, frame))


def page_of(run: Run, paths: Mapping[str, Path]) -> FileOutput:
    """The page. Whatever it shows is in its fingerprint. `paths`: where its tables can be read."""
    folder = run.output.parent
    seeds = (place["seed"] for place in run.places.values())
    told: dict[str, Any] = {
        "experiment": folder.name,
        "artifacts": costs.count_artifacts(artifact_files(run.evaluations, run.trained)),
        "models": findings.model_manifests(folder / "models", seeds),
        "stages": findings.settings_of_stages(run.places, run.benchmarks),
        "versions": findings.versions(),
    }
    shown = {name: table.content_digest(path, TABLES[name]) for name, path in paths.items()}
    asked = {
        f"problems {number}": table.content_digest(path, schema.PROBLEMS)
        for number, path in enumerate(run.problems)
    }

    def write(path: Path) -> None:
        tokenizer = run.student.with_name("tokenizer.json")
        tables: dict[str, Any] = {
            name: table.read(path, TABLES[name]) for name, path in paths.items()
        }
        found = Findings(
            **tables,
            **told,
            means=compare.means(run.compared),
            choice=shipped(tables["summary"], run.settings.max_accuracy_drop),
            contexts=run.settings.contexts,
            browser=trajectories(folder.name, run.trained, run.problems, tokenizer),
            lengths=findings.lengths(run.evaluations),
            metrics=findings.training(run.trained, run.places),
            funnels=findings.funnels(run.trained, run.places),
            seconds=findings.stage_seconds(run.seconds, run.places),
        )
        path.write_text(page(found), encoding="utf-8")

    return FileOutput(
        "report",
        schema.REPORT_VERSION,
        run.output,
        {**run.settings.meaning(), **told},
        {
            **run.answered,
            **run.rounds,
            **asked,
            **shown,
            "token_map": read_manifest(run.student)["token_map"],
        },
        write,
    )


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    parser = command.parser(__doc__, "report", ReportSettings)
    parser.add_argument("--rounds", type=Path, nargs="+", required=True, help="their folders")
    parser.add_argument("--benchmarks", nargs="+", required=True, help="names; dev is one")
    parser.add_argument("--num-shards", type=int, required=True, help="shards of a round")
    parser.add_argument("--problems", type=Path, nargs="+", required=True, help="their shards")
    parser.add_argument("--student", type=Path, required=True, help="manifest, for its tokenizer")
    return parser


def outputs(arguments: Namespace) -> Outputs:
    """The tables of the report and its page.

    Raises ValueError where a file of a round came from the store and was changed since.
    """
    run, store = run_of(arguments), Store(arguments.store)
    for path in chain(run.evaluations, *(chain(*files.values()) for files in run.trained.values())):
        store.require_unchanged(path)
    paths: dict[str, Path] = {}
    for output in tables_of(run):
        readable = yield output
        if readable is not None:
            paths[output.kind] = readable
    if len(paths) == len(TABLES):
        yield page_of(run, paths)


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    arguments = command.publish(command_line(), outputs, argv)
    if arguments.mode != "explain":
        summary = table.read(arguments.output.with_name("summary.parquet"), schema.SUMMARY)
        choice = shipped(summary, arguments.settings.max_accuracy_drop)
        print_table(summary, choice, arguments.output)


if __name__ == "__main__":
    command.run(main, "report")
