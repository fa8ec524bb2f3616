"""The rounds that the report is of: whose they are, what of them is counted, and their digests.

The folder of a round ends in <method>/seed_<n>/round_<n>; round 0 trained nothing.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.report import ReportSettings
from mpd.report import budgets, compare, costs
from mpd.report.summary import Evaluations
from mpd.store import schema, table
from mpd.text.grading import token_budgets

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
        ladder = token_budgets.ladder(max_new_tokens[benchmark])
        return placed(own, BUDGET_COLUMNS, partial(budgets.accuracies, budgets=ladder))

    benchmarks = dict.fromkeys(place["benchmark"] for place in evaluations.values())
    return budgets.curves(map(of, benchmarks))


def cost_frame(
    trained: Trained,
    seconds: Mapping[Path, Mapping[str, float]],
    settings: ReportSettings,
) -> pl.DataFrame:
    """Rows of `costs` from the files of each trained round and its wall seconds by stage."""
    rounds: dict[tuple[str, int], list[dict[str, pl.DataFrame]]] = {}
    times: dict[tuple[str, int], list[Mapping[str, float | None]]] = {}
    for folder, files in trained.items():
        place = place_of(folder)
        student = place["method"], place["round"]
        rounds.setdefault(student, []).append(costs.read_round(files))
        times.setdefault(student, []).append(costs.seconds_of(seconds[folder]))
    return costs.costs(rounds, times, settings.samplers, settings.given)


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


def answer_digests(evaluations: Evaluations) -> dict[str, str]:
    """Content digests of the evaluations by place."""
    return {
        " ".join(str(part) for part in place.values()): table.content_digest(path, schema.EVALUATE)
        for path, place in evaluations.items()
    }


def round_digests(trained: Trained, seconds: Mapping[Path, Mapping[str, float]]) -> dict[str, str]:
    """Content digests of the trained rounds' files, and one of what computing them took."""
    named = {folder: BRANCH.format(**place_of(folder)) for folder in trained}
    digests = {
        f"{named[folder]} {kind} {number}": table.content_digest(path, costs.ARTIFACTS[kind])
        for folder, files in trained.items()
        for kind, paths in files.items()
        for number, path in enumerate(paths)
    }
    times = repr([(named[folder], stages) for folder, stages in seconds.items()])
    return {**digests, "seconds": hashlib.sha256(times.encode()).hexdigest()[:32]}
