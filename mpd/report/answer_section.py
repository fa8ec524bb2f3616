"""The data of the browser of held-out answers, read from the benchmarks and packed for the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from mpd.job.layout import RESULTS, Experiment, Round
from mpd.report import answer_browser
from mpd.report.browser_packing import Records, as_json, chunks_of, deflated
from mpd.report.browser_section import sampled, share_of
from mpd.report.rounds import Evaluations, read_evaluations
from mpd.store import schema, table

TEXT_BYTES = 6_000_000  # in the page, in base64; the list takes at most 5 MB more
TEXT_COLUMNS = ["problem_id", "sample_index", "text"]


class AnswerCounts(NamedTuple):
    """The number of answers and of lost lines; as texts, how many are listed or have texts."""

    answers: int
    listed: str
    texts: str
    lost: int
    lost_texts: str


class AnswersData(NamedTuple):
    """Packed data by name, empty where there is no answer, and how much of all they hold."""

    counts: AnswerCounts
    outcomes: Mapping[str, str]
    blocks: dict[str, str]


def answers_data(evaluations: Evaluations, problems: pl.DataFrame, experiment: str) -> AnswersData:
    """The data of all held-out answers.

    `problems` have benchmark, problem_id, question and gold of every benchmark.
    """
    answers = read_evaluations(evaluations, answer_browser.ANSWER_COLUMNS)
    if answers.is_empty():
        return AnswersData(AnswerCounts(0, "all", "all", 0, "all"), {}, {})
    cells = answer_browser.with_outcomes(answer_browser.cells_of(answers))
    listed = answer_browser.listed(cells)
    texts = sampled(
        answer_browser.in_turn(listed),
        answer_browser.text_cost(),
        TEXT_BYTES,
        lambda cells: chunks_of(read_texts(evaluations, cells), TEXT_BYTES),
    )
    with_texts = pl.Series([line for chunk in texts for line in chunk.lines], dtype=pl.UInt32)
    layout = Experiment(RESULTS / experiment)
    folders = {
        (method, seed, number): layout.round(method, seed, number).folder.as_posix()
        for method, seed, number in listed.select(answer_browser.STUDENT).unique().iter_rows()
    }
    index = {
        **answer_browser.index_of(listed, answers, problems, folders),
        "texts": [chunk.lines for chunk in texts],
    }
    blocks = {
        "answers": deflated(as_json(index)),
        **{f"answer-texts-{number}": chunk.packed for number, chunk in enumerate(texts)},
    }
    return AnswersData(_counts(cells, listed, with_texts), answer_browser.OUTCOMES, blocks)


def _counts(cells: pl.DataFrame, listed: pl.DataFrame, with_texts: pl.Series) -> AnswerCounts:
    total = int(cells["num_answers"].sum())
    lost = len(cells.filter("lost"))
    texts = listed.filter(pl.col("line").is_in(with_texts.implode()))
    return AnswerCounts(
        answers=total,
        listed=share_of(int(listed["num_answers"].sum()), total),
        texts=share_of(int(texts["num_answers"].sum()), total),
        lost=lost,
        lost_texts=share_of(len(texts.filter("lost")), lost),
    )


def read_texts(evaluations: Evaluations, cells: pl.DataFrame) -> Records:
    """The texts of some cells, in their order; those of which no answer is found are left out."""
    records: dict[int, dict[str, Any]] = {}
    for path, place in evaluations.items():
        there = cells.filter(*(pl.col(name) == value for name, value in place.items()))
        if there.is_empty():
            continue
        answers = Round.at(path.parents[1]).benchmark("answers", place["benchmark"])
        keys = there.select("problem_id")
        groups = [table.frame_of([], schema.ANSWERS), *table.groups(answers, TEXT_COLUMNS, keys)]
        rows = pl.concat(group.select(TEXT_COLUMNS) for group in groups).sort("sample_index")
        texts = there.join(rows.group_by("problem_id").agg("text"), on="problem_id")
        records |= {line: {"texts": found} for line, found in texts.select("line", "text").rows()}
    return [(line, records[line]) for line in cells["line"] if line in records]


def asked(benchmarks: Mapping[str, Path]) -> pl.DataFrame:
    """Benchmark, problem_id, question and gold of all problems; their files by benchmark."""
    columns = ["problem_id", "question", "gold"]
    return pl.concat(
        table.read_columns(path, columns).select(pl.lit(name).alias("benchmark"), *columns)
        for name, path in benchmarks.items()
    )
