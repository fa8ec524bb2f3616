"""report: students compared, what they cost, one page to read, and the round to ship.

    python -m mpd.report --settings JSON --num-shards 1 --benchmarks dev sampled \\
        --rounds results/tiny/base/seed_0/round_0 results/tiny/mpd/seed_0/round_1 \\
        --problems .../shard_0.parquet --student .../student_seed_0/manifest.json \\
        --output results/tiny/report.html

Writes summary, comparison, budgets, difficulty and costs.parquet beside report.html and prints
the summary. A round of 0 trained nothing: of its folder only the evaluations are read.
"""

import hashlib
import re
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl

from mpd import command, schema, table
from mpd.model_folder import read_manifest
from mpd.reporting import budgets, compare, costs, difficulty, findings
from mpd.reporting.browser_section import Section, section
from mpd.reporting.page.page import Findings, page
from mpd.reporting.page.page_tables import (
    HEADER,
    SEEDS_HEADER,
    over_seeds,
    printable,
    shipping_lines,
)
from mpd.reporting.shipping import shipped
from mpd.reporting.summary import Evaluations, summary_frame
from mpd.store import Parts, Store

TABLES = {
    artifact.name: artifact
    for artifact in (
        *(schema.SUMMARY, schema.COMPARISON, schema.BUDGETS),
        *(schema.DIFFICULTY, schema.COSTS),
    )
}
PLACE = re.compile(r"(?P<method>[^/]+)/seed_(?P<seed>\d+)/round_(?P<round>\d+)$")
BRANCH = "{method}/seed_{seed}/round_{round}"
PLACE_TYPES = {"method": pl.String, "round": pl.Int32, "seed": pl.Int32, "benchmark": pl.String}
ANSWER_COLUMNS = ["problem_id", "finish_reason", "num_tokens", "correct"]
NUM_CHOICES = 12  # that are printed
BUDGET_COLUMNS = ["problem_id", "correct_budgets"]


Trained = Mapping[Path, Mapping[str, list[Path]]]  # folder of a round to its files by kind


@dataclass(frozen=True)
class Run:
    """What the report is of. `places` give method, round and seed of the folder of each round.

    `seconds` are the wall seconds by stage of each trained round, `problems` the shards of the
    training problems, `student` the manifest of a model that has the tokenizer.
    """

    settings: Mapping[str, Any]
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


def placed(
    evaluations: Evaluations,
    columns: Sequence[str],
    per_problem: Callable[[pl.DataFrame], pl.DataFrame],
) -> pl.DataFrame:
    """What `compare` asks for: one row per problem of each evaluation, and where it is from."""
    return pl.concat(
        per_problem(table.read_columns(path, columns)).with_columns(
            pl.lit(place[name], dtype).alias(name) for name, dtype in PLACE_TYPES.items()
        )
        for path, place in evaluations.items()
    )


def problem_frame(evaluations: Evaluations) -> pl.DataFrame:
    """The measures of `comparison` of every problem of each evaluation."""
    return placed(evaluations, ANSWER_COLUMNS, compare.per_problem)


def budget_frame(evaluations: Evaluations, max_new_tokens: Mapping[str, int]) -> pl.DataFrame:
    """Rows of `budgets`. `max_new_tokens`: of each benchmark, which decides its budgets."""

    def of(benchmark: str) -> pl.DataFrame:
        own = {path: at for path, at in evaluations.items() if at["benchmark"] == benchmark}
        ladder = budgets.ladder(max_new_tokens[benchmark])
        return placed(own, BUDGET_COLUMNS, partial(budgets.accuracies, budgets=ladder))

    benchmarks = dict.fromkeys(place["benchmark"] for place in evaluations.values())
    return budgets.curves(map(of, benchmarks))


def cost_frame(
    trained: Trained,
    seconds: Mapping[Path, Mapping[str, float]],
    settings: Mapping[str, Any],
) -> pl.DataFrame:
    """Rows of `costs` from the files of each trained round and its wall seconds by stage."""
    rounds: dict[tuple[str, int], list[dict[str, pl.DataFrame]]] = {}
    times: dict[tuple[str, int], list[Mapping[str, float | None]]] = {}
    for folder, files in trained.items():
        place = place_of(folder)
        student = place["method"], place["round"]
        rounds.setdefault(student, []).append(costs.read_round(files))
        times.setdefault(student, []).append(costs.seconds_of(seconds[folder]))
    return costs.costs(rounds, times, settings["samplers"], settings["given"])


def place_of(folder: Path) -> dict[str, Any]:
    """Method, round and seed that the folder of a round names."""
    match = PLACE.search(folder.as_posix())
    if not match:
        raise ValueError(f"{folder}: not .../<method>/seed_<n>/round_<n>")
    return {
        "method": match["method"],
        "round": int(match["round"]),
        "seed": int(match["seed"]),
    }


def print_table(summary: pl.DataFrame, choice: pl.DataFrame, path: Path) -> None:
    """Print accuracy and tokens, the choice and the path of the report: one line for a student.

    That is for each of its benchmarks; of several seeds the means and their range.
    """
    from rich.console import Console
    from rich.table import Table

    alone = summary["seed"].n_unique() == 1
    rows = printable(summary) if alone else over_seeds(summary)
    title = "± standard error over problems" if alone else "means over seeds, lowest to highest"
    shown = Table(title=f"accuracy and tokens, {title}")
    for number, name in enumerate(HEADER if alone else SEEDS_HEADER):
        shown.add_column(name, justify="left" if number < 4 else "right", no_wrap=True)
    for cells in rows:
        shown.add_row(*cells)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(shown)
    lines = shipping_lines(choice)
    for line in lines[:NUM_CHOICES]:
        console.print(f"ship {line}", highlight=False)
    if len(lines) > NUM_CHOICES:
        console.print(f"and {len(lines) - NUM_CHOICES} more, in the report", highlight=False)
    console.print(f"report: {path}", highlight=False)


def answer_digests(evaluations: Evaluations) -> dict[str, str]:
    """Content digests of the evaluations by place."""
    return {
        " ".join(str(part) for part in place.values()): table.content_digest(path, schema.EVALUATE)
        for path, place in evaluations.items()
    }


def round_digests(trained: Trained, seconds: Mapping[Path, Mapping[str, float]]) -> dict[str, str]:
    """Content digests of the trained rounds' files, and one of all wall times.

    The times are those of the last run: after another one, costs and report are others.
    """
    named = {folder: BRANCH.format(**place_of(folder)) for folder in trained}
    digests = {
        f"{named[folder]} {kind} {number}": table.content_digest(path, costs.ARTIFACTS[kind])
        for folder, files in trained.items()
        for kind, paths in files.items()
        for number, path in enumerate(paths)
    }
    times = repr([(named[folder], stages) for folder, stages in seconds.items()])
    return {**digests, "seconds": hashlib.sha256(times.encode()).hexdigest()[:32]}


def artifact_files(evaluations: Evaluations, trained: Trained) -> dict[str, list[Path]]:
    """The files behind the report by kind, in the order of the stages."""
    kinds = {
        kind: [path for files in trained.values() for path in files[kind]]
        for kind in costs.ARTIFACTS
    }
    return {**kinds, "evaluate": list(evaluations)}


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
            folder: costs.seconds_by_stage(
                output.parent / "benchmarks" / BRANCH.format(**places[folder]), arguments.num_shards
            )
            for folder in trained
        },
        problems=arguments.problems,
        student=arguments.student,
    )


def tables_of(run: Run, store: Store) -> dict[str, pl.DataFrame]:
    """The tables of the report by name, published beside it."""
    publish = partial(published, store, run.output.parent)
    settings, evaluations, answered = run.settings, run.evaluations, run.answered
    limits = {"max_new_tokens": settings["max_new_tokens"]}
    payers = {name: settings[name] for name in ("samplers", "given")}

    frames: list[tuple[schema.Artifact, Mapping[str, Any], Mapping[str, str], Any]] = [
        (schema.SUMMARY, {}, answered, lambda: summary_frame(evaluations)),
        (schema.COMPARISON, {}, answered, lambda: compare.differences(run.compared)),
        (schema.BUDGETS, limits, answered, lambda: budget_frame(evaluations, **limits)),
        (schema.DIFFICULTY, {}, answered, lambda: difficulty.by_difficulty(run.compared)),
        (schema.COSTS, payers, run.rounds, lambda: cost_frame(run.trained, run.seconds, settings)),
    ]
    return {artifact.name: publish(artifact, *of) for artifact, *of in frames}


def write_report(run: Run, tables: Mapping[str, Any], choice: pl.DataFrame, store: Store) -> None:
    """Publish the page. Whatever it shows is in its fingerprint."""
    folder = run.output.parent
    seeds = (place["seed"] for place in run.places.values())
    told: dict[str, Any] = {
        "experiment": folder.name,
        "artifacts": costs.count_artifacts(artifact_files(run.evaluations, run.trained)),
        "models": findings.model_manifests(folder / "models", seeds),
        "stages": findings.settings_of_stages(run.places, run.benchmarks),
        "versions": findings.versions(),
    }
    shown = {
        name: table.content_digest(folder / f"{name}.parquet", TABLES[name]) for name in tables
    }
    asked = {
        f"problems {number}": table.content_digest(path, schema.PROBLEMS)
        for number, path in enumerate(run.problems)
    }

    def write(path: Path) -> None:
        tokenizer = run.student.with_name("tokenizer.json")
        found = Findings(
            **tables,
            **told,
            means=compare.means(run.compared),
            choice=choice,
            contexts=run.settings["contexts"],
            browser=trajectories(folder.name, run.trained, run.problems, tokenizer),
            lengths=findings.lengths(run.evaluations),
            metrics=findings.training(run.trained, run.places),
            funnels=findings.funnels(run.trained, run.places),
            seconds=findings.stage_seconds(run.seconds, run.places),
        )
        path.write_text(page(found), encoding="utf-8")

    store.publish_file(
        "report",
        schema.REPORT_VERSION,
        run.output,
        {**run.settings, **told},
        {
            **run.answered,
            **run.rounds,
            **asked,
            **shown,
            "token_map": read_manifest(run.student)["token_map"],
        },
        write,
    )


def main(argv: list[str] | None = None) -> None:
    parser = command.parser(__doc__, "report")
    parser.add_argument("--rounds", type=Path, nargs="+", required=True, help="their folders")
    parser.add_argument("--benchmarks", nargs="+", required=True, help="names; dev is one")
    parser.add_argument("--num-shards", type=int, required=True, help="shards of a round")
    parser.add_argument("--problems", type=Path, nargs="+", required=True, help="their shards")
    parser.add_argument("--student", type=Path, required=True, help="manifest, for its tokenizer")
    arguments = parser.parse_args(argv)
    run, store = run_of(arguments), command.store_of(arguments)
    tables = tables_of(run, store)
    choice = shipped(tables["summary"], run.settings["max_accuracy_drop"])
    write_report(run, tables, choice, store)
    print_table(tables["summary"], choice, run.output)


if __name__ == "__main__":
    command.run(main, "report")
