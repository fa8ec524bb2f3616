"""An experiment as its report lists it: students, their grades, and how they were obtained."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.base import BASE
from mpd.job.layout import Experiment, Round, table_in
from mpd.report import compare, origin, rounds
from mpd.report.belonging import require_answers
from mpd.report.shipping import shipped
from mpd.store import schema, table
from mpd.store.differences import Note, note_beside
from mpd.store.signs import harmless, one_line


@dataclass(frozen=True)
class Reported:
    """An experiment with a report. `label` names it in tables; `summary` is that of the report."""

    label: str
    experiment: Experiment
    summary: pl.DataFrame
    report_note: Note

    @cached_property
    def rounds(self) -> list[Round]:
        """The rounds that the report is about."""
        places = self.summary.select("method", "seed", "round").unique(maintain_order=True)
        return [self.experiment.round(*place) for place in places.iter_rows()]

    @cached_property
    def benchmarks(self) -> list[str]:
        """The names of the benchmarks, with the development split."""
        return self.summary["benchmark"].unique(maintain_order=True).to_list()

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds of its branches."""
        return sorted(self.summary["seed"].unique())

    @cached_property
    def choice(self) -> pl.DataFrame:
        """The round to ship of each method and seed, as its report has it."""
        return shipped(self.summary, self.report_note["settings"]["max_accuracy_drop"])

    @cached_property
    def models(self) -> dict[str, dict[str, Any]]:
        """The manifests of the models that it starts from, by role."""
        return origin.model_manifests(self.experiment, set(self.seeds))

    def grades(self, benchmark: str) -> pl.DataFrame:
        """The measures of every problem of a benchmark, for each student.

        Raises ValueError where a file does not belong to the others, or is not the one that the
        report is about.
        """
        evaluations = rounds.evaluation_files(self.rounds, [benchmark])
        for round in self.rounds:
            require_answers(round, [benchmark])
        for place, digest in rounds.evaluation_digests(evaluations).items():
            if self.report_note["inputs"].get(place) != digest:
                raise ValueError(
                    f"{self.experiment.report}: it is not about the grades of {harmless(place)} "
                    "that are there; run snakemake to the report again"
                )
        return rounds.read_evaluations(evaluations, compare.MEASURE_INPUTS, compare.per_problem)

    def notes(self, stage: str, benchmark: str) -> Mapping[Path, Note]:
        """The notes of the answers or grades of all students on a benchmark, by their files.

        Raises ValueError where one has gone: without it, nothing says how they were obtained.
        """
        paths = [round.benchmark(stage, benchmark) for round in self.rounds]
        notes = {path: note_beside(path) for path in paths}
        for path, note in notes.items():
            if not note:
                raise ValueError(
                    f"{path}: its note is missing, which says how it was made; run again with "
                    f"--forcerun {path}"
                )
        return notes


def read_experiment(folder: Path, label: str) -> Reported:
    """The experiment in a folder. Raises ValueError where it has no report."""
    experiment = Experiment(folder)
    summary = table_in(folder, schema.SUMMARY.name)
    if missing := [path for path in (experiment.report, summary) if not path.is_file()]:
        raise ValueError(f"{missing[0]}: missing; run snakemake to the report first")
    note = note_beside(experiment.report)
    if not note:
        raise ValueError(f"{experiment.report}: its note is missing; run snakemake again")
    return Reported(label, experiment, table.read(summary, schema.SUMMARY), note)


def read_experiments(folders: Sequence[Path]) -> list[Reported]:
    """The experiments in these folders, the first one to compare the others with.

    Raises ValueError where there are not two of them, or as `read_experiment`.
    """
    places = [folder.resolve() for folder in folders]
    if len(places) < 2:
        raise ValueError(f"{folders[0]}: give the folders of two experiments or more")
    for place, folder in zip(places, folders, strict=True):
        if places.count(place) > 1:
            raise ValueError(f"{folder}: given twice; give different experiments")
    return [
        read_experiment(folder, label)
        for folder, label in zip(folders, labels(folders, places), strict=True)
    ]


def labels(folders: Sequence[Path], places: Sequence[Path]) -> list[str]:
    """Short names of folders, or their paths where the names are not all different."""
    names = [place.name for place in places]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [one_line(name) for name in names]


def in_all(experiments: Iterable[Reported], names: str) -> list[Any]:
    """What all experiments have of their `benchmarks` or `seeds`, in the order of the first."""
    first, *others = (getattr(experiment, names) for experiment in experiments)
    return [value for value in first if all(value in other for other in others)]


def methods_of(experiment: Reported) -> list[str]:
    """The methods of an experiment, without the base student."""
    return sorted({round.method for round in experiment.rounds} - {BASE})
