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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from mpd import budgets, command, compare, costs, difficulty, findings, schema, table
from mpd.browser_section import Section, section
from mpd.model_folder import read_manifest
from mpd.page import Findings, page
from mpd.page_tables import HEADER, printable, shipping_lines
from mpd.store import Parts, Store
from mpd.summary import Evaluations, summary_frame

TABLES = (schema.SUMMARY, schema.COMPARISON, schema.BUDGETS, schema.DIFFICULTY, schema.COSTS)
PLACE = re.compile(r"(?P<method>[^/]+)/seed_(?P<seed>\d+)/round_(?P<round>\d+)$")
BRANCH = "{method}/seed_{seed}/round_{round}"
PLACE_TYPES = {"method": pl.String, "round": pl.Int32, "seed": pl.Int32, "benchmark": pl.String}
ANSWER_COLUMNS = ["problem_id", "finish_reason", "num_tokens", "correct"]
BUDGET_COLUMNS = ["problem_id", "correct_budgets"]


Trained = Mapping[Path, Mapping[str, list[Path]]]  # folder of a round to its files by kind


def placed(
    evaluations: Evaluations,
    columns: Sequence[str],
    per_problem: Callable[[pl.DataFrame], pl.DataFrame],
) -> pl.DataFrame:
    """What mpd.compare asks for: one row per problem of each evaluation, and where it is from."""
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
    seconds: Mapping[Path, Mapping[str, float | None]],
    settings: Mapping[str, Any],
) -> pl.DataFrame:
    """Rows of `costs` from the files of each trained round and its wall times."""
    rounds: dict[tuple[str, int], list[dict[str, pl.DataFrame]]] = {}
    times: dict[tuple[str, int], list[Mapping[str, float | None]]] = {}
    for folder, files in trained.items():
        place = place_of(folder)
        student = place["method"], place["round"]
        rounds.setdefault(student, []).append(costs.read_round(files))
        times.setdefault(student, []).append(seconds[folder])
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
    trained = dev.filter(pl.col("round") > 0).join(base, on="seed", validate="m:1")
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


def answer_digests(evaluations: Evaluations) -> dict[str, str]:
    """Content digests of the evaluations by place."""
    return {
        " ".join(str(part) for part in place.values()): table.content_digest(path, schema.EVALUATE)
        for path, place in evaluations.items()
    }


def round_digests(
    trained: Trained, seconds: Mapping[Path, Mapping[str, float | None]]
) -> dict[str, str]:
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
    times = repr([(named[folder], found) for folder, found in seconds.items()])
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


def main(argv: list[str] | None = None) -> None:
    parser = command.parser(__doc__, "report")
    parser.add_argument("--rounds", type=Path, nargs="+", required=True, help="their folders")
    parser.add_argument("--benchmarks", nargs="+", required=True, help="names; dev is one")
    parser.add_argument("--num-shards", type=int, required=True, help="shards of a round")
    parser.add_argument("--problems", type=Path, nargs="+", required=True, help="their shards")
    parser.add_argument("--student", type=Path, required=True, help="manifest, for its tokenizer")
    arguments = parser.parse_args(argv)
    settings, output = arguments.settings, arguments.output
    store = command.store_of(arguments)
    publish = partial(published, store, output.parent)

    places = {folder: place_of(folder) for folder in arguments.rounds}
    evaluations = {
        folder / "evaluate" / f"{benchmark}.parquet": {**place, "benchmark": benchmark}
        for folder, place in places.items()
        for benchmark in arguments.benchmarks
    }
    answered = answer_digests(evaluations)
    summary = publish(schema.SUMMARY, {}, answered, lambda: summary_frame(evaluations))
    compared = partial(problem_frame, evaluations)
    comparison = publish(schema.COMPARISON, {}, answered, lambda: compare.differences(compared()))
    limits = {"max_new_tokens": settings["max_new_tokens"]}
    cut = publish(schema.BUDGETS, limits, answered, lambda: budget_frame(evaluations, **limits))
    bins = publish(schema.DIFFICULTY, {}, answered, lambda: difficulty.by_difficulty(compared()))

    trained = {
        folder: costs.round_files(folder, arguments.num_shards)
        for folder, place in places.items()
        if place["round"] > 0
    }
    timed = {
        folder: output.parent / "benchmarks" / BRANCH.format(**places[folder]) for folder in trained
    }
    seconds = {folder: costs.seconds_of(path) for folder, path in timed.items()}
    rounds = round_digests(trained, seconds)
    spent = publish(
        schema.COSTS,
        {name: settings[name] for name in ("samplers", "given")},
        rounds,
        lambda: cost_frame(trained, seconds, settings),
    )

    choice = shipped(summary, settings["max_accuracy_drop"])
    artifacts = costs.count_artifacts(artifact_files(evaluations, trained))
    problems = {
        f"problems {number}": table.content_digest(path, schema.PROBLEMS)
        for number, path in enumerate(arguments.problems)
    }
    student = read_manifest(arguments.student)
    tables = {
        artifact.name: (output.with_name(f"{artifact.name}.parquet"), artifact)
        for artifact in TABLES
    }
    shown = {name: table.content_digest(*of) for name, of in tables.items()}
    experiment = output.parent.name
    models = findings.model_manifests(
        output.parent / "models", (place["seed"] for place in places.values())
    )
    stages = findings.settings_of_stages(arguments.rounds, places, arguments.benchmarks)
    versions = findings.versions()

    def write(path: Path) -> None:
        tokenizer = arguments.student.with_name("tokenizer.json")
        found = Findings(
            experiment=experiment,
            summary=summary,
            means=compare.means(compared()),
            comparison=comparison,
            budgets=cut,
            difficulty=bins,
            costs=spent,
            artifacts=artifacts,
            choice=choice,
            browser=trajectories(experiment, trained, arguments.problems, tokenizer),
            lengths=findings.lengths(evaluations),
            metrics=findings.training(trained, places),
            funnels=findings.funnels(trained, places),
            seconds=findings.stage_seconds(timed, places),
            settings=stages,
            models=models,
            versions=versions,
        )
        path.write_text(page(found), encoding="utf-8")

    store.publish_file(
        "report",
        schema.REPORT_VERSION,
        output,
        {
            **settings,
            "experiment": experiment,
            "artifacts": artifacts,
            "models": models,
            "stages": stages,
            "versions": versions,
        },
        {**answered, **rounds, **problems, **shown, "token_map": student["token_map"]},
        write,
    )
    print_table(summary, choice, output)


if __name__ == "__main__":
    command.run(main, "report")
