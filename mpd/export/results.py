"""What is known of a student: its measures, the settings behind it, and what went in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.base import BASE
from mpd.job.layout import Round, table_in
from mpd.report.origin import settings_of_stages
from mpd.report.shipping import in_words, shipped
from mpd.store import schema, table
from mpd.store.differences import note_beside


@dataclass(frozen=True)
class Results:
    """What is known of the student at the end of a round.

    `summary` are its rows of `summary`, `comparison` those of `comparison` against the base
    student, over all seeds. `models` and `problems` have the settings that say where models and
    problem sets came from, by role or name; `stages` those of each stage of the round, as
    `settings_of_stages` gives them. `versions` are those that wrote the report, and `chosen` is the
    round that it would ship.
    """

    round: Round
    summary: pl.DataFrame
    comparison: pl.DataFrame
    chosen: int
    models: Mapping[str, Mapping[str, Any]]
    problems: Mapping[str, Mapping[str, Any]]
    stages: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def rounds(self) -> Sequence[Round]:
        """The rounds that trained the student, the first one first."""
        place = self.round
        return [
            Round(place.experiment, place.method, place.seed, number)
            for number in range(1, place.number + 1)
        ]

    @property
    def name(self) -> str:
        """A name for files and titles, such as tiny-mpd-seed_0-round_1."""
        return f"{self.round.experiment.folder.name}-{self.round.name.replace('/', '-')}"


def read_results(folder: Path) -> Results:
    """What is known of the student of a round, given by its folder.

    Raises ValueError where it is no round that trained a student, or its experiment has no report.
    """
    place = Round.at(folder)
    report = place.experiment.report
    if place.number == 0 or not place.student.is_file():
        raise ValueError(f"{folder}: no student was trained there; give a round of 1 or more")
    tables = {
        artifact: table_in(report.parent, artifact.name)
        for artifact in (schema.SUMMARY, schema.COMPARISON)
    }
    if missing := [path for path in (report, *tables.values()) if not path.is_file()]:
        raise ValueError(f"{missing[0]}: missing; run snakemake to the report first")
    summary = table.read(tables[schema.SUMMARY], schema.SUMMARY)
    of_round = {"method": place.method, "round": place.number}
    rows = summary.filter(**of_round, seed=place.seed)
    if rows.is_empty():
        raise ValueError(f"{report}: does not have {place.name}; run snakemake again")
    said = note_beside(report).get("settings")
    if said is None:
        raise ValueError(f"{report}: has no note of its settings; run snakemake again")
    choice = shipped(summary, said["max_accuracy_drop"]).filter(
        method=place.method, seed=place.seed
    )
    benchmarks = rows["benchmark"].to_list()
    return Results(
        round=place,
        summary=pl.concat([summary.filter(method=BASE, seed=place.seed), rows]),
        comparison=table.read(tables[schema.COMPARISON], schema.COMPARISON).filter(
            **of_round, against=BASE
        ),
        chosen=choice["round"][0],
        models=_settings({role: path.parent for role, path in _models(place).items()}),
        problems=_settings(_problems(place, benchmarks)),
        stages=settings_of_stages([place], benchmarks),
        versions=said["versions"],
    )


def require_chosen(results: Results) -> None:
    """Raise ValueError where the report would ship another round, or none."""
    place = results.round
    if results.chosen != place.number:
        raise ValueError(
            f"{place.folder}: of {place.method}, seed {place.seed}, the report would ship "
            f"{in_words(results.chosen)} ({place.experiment.report}); export it all the same with "
            "--anyway"
        )


def _models(place: Round) -> dict[str, Path]:
    experiment = place.experiment
    return {"student": experiment.base_student(place.seed), "teacher": experiment.teacher}


def _problems(place: Round, benchmarks: Sequence[str]) -> dict[str, Path]:
    files = {name: place.experiment.problems(name) for name in benchmarks}
    train = place.experiment.train
    # The development split is of the training problems.
    return {"train": train} | {name: path for name, path in files.items() if path.parent != train}


def _settings(outputs: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    notes = {name: note_beside(path) for name, path in outputs.items()}
    settings = {name: note["settings"] for name, note in notes.items() if note}
    # Those of the training problems have their source in a section of its own.
    return {name: each.get("train", each) for name, each in settings.items()}
