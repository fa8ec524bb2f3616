"""All that the page of the report shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from mpd.report import answer_section, browser_section, compare, funnel, series
from mpd.report.payback import payback
from mpd.report.rounds import Evaluations, Trained, read_evaluations
from mpd.report.run import Run
from mpd.report.students import Student, by_student, with_place
from mpd.store import table
from mpd.store.tokenizer_files import TOKENIZER


@dataclass(frozen=True)
class Findings:
    """All that the page shows.

    `summary`, `comparison`, `budgets`, `difficulty`, `costs` and `speed` are the tables of the
    report, `means` those of compare.means, `payback` those of payback.payback, `choice` that of
    shipping.shipped. `contexts` say what the scorer of each method sees. `experiment`, `models`,
    `artifacts`, `stages` and `versions` are those of `Run.origin`; the rest is computed here.
    """

    experiment: str
    summary: pl.DataFrame
    means: pl.DataFrame
    comparison: pl.DataFrame
    budgets: pl.DataFrame
    difficulty: pl.DataFrame
    costs: pl.DataFrame
    speed: pl.DataFrame
    payback: pl.DataFrame
    artifacts: Sequence[Mapping[str, Any]]
    choice: pl.DataFrame
    contexts: Mapping[str, str]
    browser: browser_section.BrowserData
    answers: answer_section.AnswersData
    lengths: pl.DataFrame
    metrics: pl.DataFrame
    funnels: Mapping[Student, Mapping[str, Any]]
    stages: Mapping[str, Mapping[str, Sequence[str]]]
    models: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]


def findings_of(run: Run, tables: Mapping[str, Any], choice: pl.DataFrame) -> Findings:
    """The findings of a run. `tables` are those of the report by name."""
    return Findings(
        **tables,
        **run.origin,
        means=compare.means(run.per_problem),
        payback=payback(tables["speed"], tables["summary"], run.settings.samplers),
        choice=choice,
        contexts=run.settings.contexts,
        browser=read_browser(run),
        answers=read_answers(run),
        lengths=lengths(run.evaluations),
        metrics=training(run.trained),
        funnels=funnels(run.trained),
    )


def read_browser(run: Run) -> browser_section.BrowserData:
    """The trajectories of a run, packed for the browser in the page."""
    from tokenizers import Tokenizer

    columns = ["problem_id", "question"]
    return browser_section.browser_data(
        run.experiment.folder.name,
        run.trained,
        pl.concat(table.read_columns(path, columns) for path in run.problems),
        Tokenizer.from_file(str(run.student.with_name(TOKENIZER))),
    )


def read_answers(run: Run) -> answer_section.AnswersData:
    """The held-out answers of a run, packed for their browser in the page."""
    problems = answer_section.asked(run.benchmark_problems)
    return answer_section.answers_data(run.evaluations, problems, run.experiment.folder.name)


def lengths(evaluations: Evaluations) -> pl.DataFrame:
    """The num_tokens of every answer, with the columns of its place."""
    return read_evaluations(evaluations, ["num_tokens"])


def training(trained: Trained) -> pl.DataFrame:
    """The metrics of every training, with method, round and seed; empty where nothing trained."""
    columns = ["step", "tokens_seen", *series.CURVES]
    frames = [
        with_place(table.read_columns(path, columns), round.place)
        for round, files in trained.items()
        for path in files["metrics"]
    ]
    return pl.concat(frames) if frames else pl.DataFrame()


def funnels(trained: Trained) -> dict[Student, dict[str, Any]]:
    """The funnel of each student, over all its seeds and shards."""

    def funnel_of(files: Mapping[str, Any]) -> dict[str, Any]:
        samples, verdicts = (
            pl.concat(table.read_columns(path, names) for path in files[kind])
            for kind, names in funnel.FUNNEL_INPUTS.items()
        )
        return funnel.funnel_of(samples, verdicts)

    return {
        student: funnel.summed([funnel_of(trained[round]) for round in rounds])
        for student, rounds in by_student(trained).items()
    }
