"""The finished run that a report is about: what its command line names, and what it reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.report import ReportSettings
from mpd.job.layout import BENCHMARK_STAGES, Experiment, Round
from mpd.report import compare, costs, origin, rounds
from mpd.report.rounds import Spent
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest


@dataclass(frozen=True)
class Run:
    """The finished run that a report is about.

    `rounds` are all rounds that were evaluated; `problems` the shards of the training problems;
    `student` the manifest of a model that has the tokenizer.
    """

    settings: ReportSettings
    output: Path
    rounds: Sequence[Round]
    benchmarks: Sequence[str]
    num_shards: int
    problems: Sequence[Path]
    student: Path

    @property
    def experiment(self) -> Experiment:
        """The experiment whose report it is."""
        return Experiment(self.output.parent)

    @cached_property
    def benchmark_problems(self) -> dict[str, Path]:
        """The problems of each benchmark, by its name, in the experiment of the rounds.

        The report may be written elsewhere.
        """
        experiment = self.rounds[0].experiment
        return {name: experiment.problems(name) for name in self.benchmarks}

    @cached_property
    def evaluations(self) -> dict[Path, Any]:
        """The evaluations of all rounds, each with its place."""
        return rounds.evaluation_files(self.rounds, self.benchmarks)

    @cached_property
    def answers(self) -> list[Path]:
        """The answers of all rounds, which the page shows."""
        return [
            round.benchmark("answers", name) for round in self.rounds for name in self.benchmarks
        ]

    @cached_property
    def trained(self) -> dict[Round, dict[str, list[Path]]]:
        """The files of the rounds that trained something, by kind."""
        return {
            round: rounds.round_files(round, self.num_shards)
            for round in self.rounds
            if round.number > 0
        }

    @cached_property
    def spent(self) -> dict[Round, Spent]:
        """What computing the artifacts of all rounds took, by stage."""
        return {
            round: costs.spent_by_stage(round, self.num_shards, self.benchmarks)
            for round in self.rounds
        }

    @cached_property
    def seconds(self) -> dict[Round, dict[str, float]]:
        """The wall seconds of the trained rounds, by stage."""
        return {round: costs.seconds_by_stage(self.spent[round]) for round in self.trained}

    @cached_property
    def evaluation_digests(self) -> dict[str, str]:
        """Content digests of the evaluations."""
        return rounds.evaluation_digests(self.evaluations)

    @cached_property
    def round_digests(self) -> dict[str, str]:
        """Content digests of the trained rounds, and one of their seconds."""
        return rounds.round_digests(self.trained, self.seconds)

    @cached_property
    def spent_digest(self) -> str:
        """One digest of what computing the artifacts of all rounds took."""
        return rounds.spent_digest(self.spent)

    @cached_property
    def page_digests(self) -> dict[str, str]:
        """Digests of what the page alone shows: texts of problems, of answers and of tokens."""
        problems = {
            f"problems {number}": table.content_digest(path, schema.PROBLEMS)
            for number, path in enumerate(self.problems)
        }
        for name, path in self.benchmark_problems.items():
            problems[f"problems {name}"] = table.content_digest(path, schema.PROBLEMS)
        answers = {
            f"{round.name} answers {name}": table.content_digest(
                round.benchmark("answers", name), schema.ANSWERS
            )
            for round in self.rounds
            for name in self.benchmarks
        }
        return {**problems, **answers, "token_map": read_manifest(self.student)["token_map"]}

    @cached_property
    def per_problem(self) -> pl.DataFrame:
        """The measures of every problem of each evaluation; read where something is computed."""
        return rounds.read_evaluations(
            self.evaluations, compare.MEASURE_INPUTS, compare.per_problem
        )

    @cached_property
    def origin(self) -> dict[str, Any]:
        """Where the report came from: fields of `Findings` that are part of its meaning."""
        kinds = {
            kind: [path for files in self.trained.values() for path in files[kind]]
            for kind in rounds.KINDS
        }
        for stage in BENCHMARK_STAGES:
            kinds[stage] = [
                round.benchmark(stage, name) for round in self.rounds for name in self.benchmarks
            ]
        return {
            "experiment": self.experiment.folder.name,
            "artifacts": rounds.count_links(kinds),
            "models": origin.model_manifests(self.experiment, {each.seed for each in self.rounds}),
            "stages": origin.settings_of_stages(self.rounds, self.benchmarks),
            "versions": origin.versions(),
        }
