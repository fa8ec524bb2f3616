"""Students of several experiments: measures, and paired differences to those of the first one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from mpd.compare.experiments import Reported
from mpd.job.layout import table_in
from mpd.report import compare
from mpd.report.compare import COMPARED, Answers
from mpd.report.lengths import Lengths, less
from mpd.report.payback import payback
from mpd.report.students import IS_BASE, Student
from mpd.store import schema, table


@dataclass(frozen=True)
class Graded:
    """An experiment with the grades of its students on the benchmarks that are compared.

    `problems` are rows of `per_problem` with method, round, seed and benchmark.
    """

    experiment: Reported
    problems: pl.DataFrame

    def answers(self, benchmark: str) -> dict[Student, Answers]:
        """The measures of each student on each problem of a benchmark, by seed."""
        return compare.answers_of(self.problems.filter(benchmark=benchmark))[benchmark]


def graded(experiment: Reported, benchmarks: Sequence[str]) -> Graded:
    """The experiment with its grades. Raises ValueError where they are not of its report."""
    return Graded(experiment, pl.concat(experiment.grades(name) for name in benchmarks))


def means(experiments: Sequence[Graded]) -> pl.DataFrame:
    """The columns of `compare.means` of every student, after `experiment`, its label."""
    frames = []
    for each in experiments:
        label = pl.lit(each.experiment.label).alias("experiment")
        frames.append(compare.means(each.problems).select(label, pl.all()))
    return pl.concat(frames)


def costs(experiments: Sequence[Reported], benchmarks: Sequence[str]) -> pl.DataFrame:
    """The columns of `payback` of every student, after `experiment`, its label.

    Raises ValueError where a table of a report is missing, or of another version.
    """
    frames = []
    for each in experiments:
        speed = table.read(table_in(each.experiment.folder, schema.SPEED.name), schema.SPEED)
        samplers = each.report_note["settings"]["samplers"]
        rows = payback(speed, each.summary, samplers).filter(pl.col("benchmark").is_in(benchmarks))
        frames.append(rows.select(pl.lit(each.label).alias("experiment"), pl.all()))
    return pl.concat(frames).sort("benchmark", maintain_order=True)


def counterpart(
    student: Student, others: Mapping[Student, Answers], against: Student | None
) -> Student | None:
    """The student of the first experiment to compare with: `against`, or the one of that name."""
    other = student if against is None else against
    return other if other in others else None


def differences(
    first: Graded, other: Graded, benchmarks: Sequence[str], against: Student | None
) -> pl.DataFrame:
    """The students of an experiment less those of the first one: columns of `comparison`.

    `against` is the label of the first experiment with method and round, and there is no AES.
    Differences are paired: by problem, within a seed that both have.
    """
    rows = []
    for benchmark in benchmarks:
        rows += compare.with_intervals(_entries(first, other, benchmark, against), COMPARED)
    frame = table.frame_of(rows, schema.COMPARISON)
    return frame.sort("benchmark", ~IS_BASE, "method", "round")


def _entries(
    first: Graded, other: Graded, benchmark: str, against: Student | None
) -> Iterator[tuple[dict[str, object], np.ndarray]]:
    students, others = other.answers(benchmark), first.answers(benchmark)
    lengths, other_lengths = (Lengths(each.problems, benchmark) for each in (other, first))
    for student, answers in students.items():
        base = counterpart(student, others, against)
        pair = base and compare.paired(answers, others[base])
        if not base or not pair:
            continue
        seeds = [seed for seed in answers if seed in others[base]]
        place = {
            **compare.student_columns(student, benchmark),
            "against": f"{first.experiment.label} {base[0]} {base[1]}",
            **less(lengths.quantiles(student, seeds), other_lengths.quantiles(base, seeds)),
        }
        yield place, compare.differences(*pair)


def require_pairs(first: Graded, other: Graded, frame: pl.DataFrame) -> None:
    """Raise ValueError where no student of an experiment has one to be compared with."""
    if len(frame):
        return
    seeds = [", ".join(map(str, each.experiment.seeds)) for each in (other, first)]
    raise ValueError(
        f"{other.experiment.experiment.folder}: no student has a counterpart with the same seed in "
        f"{first.experiment.experiment.folder}: seeds {seeds[0]} and {seeds[1]}; give the student "
        "to compare with as --against <method>/<round>, or evaluate with the same seeds"
    )


def alone(
    first: Graded, other: Graded, benchmarks: Sequence[str], frame: pl.DataFrame
) -> list[str]:
    """The students of an experiment that have no counterpart, as texts."""
    compared = set(frame.select("method", "round").iter_rows())
    students = {student for name in benchmarks for student in other.answers(name)}
    return [f"{method}, round {number}" for method, number in sorted(students - compared)]
