"""The answers of a student to one held-out problem, beside those of the base student."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from mpd.config.base import BASE
from mpd.job.layout import Round
from mpd.show.shards import readable
from mpd.store import schema, table
from mpd.store.joins import joined
from mpd.text.marks import marked


def print_answers(console: Console, folder: Path, benchmark: str, problem_id: str) -> None:
    """Print a problem, the base student's answers and those of the student of a round.

    Raises ValueError where the round has no graded answers to the benchmark or the problem.
    """
    round = Round.at(folder.resolve())
    keys = pl.DataFrame({"problem_id": [problem_id]})
    answers = _answers(round, benchmark, keys)
    problem = _rows(round.experiment.problems(benchmark), schema.PROBLEMS, keys)
    if not answers or problem.is_empty():
        raise ValueError(
            f"{folder}: no problem {problem_id} in benchmark {benchmark}; the section Held-out "
            "answers of the report lists them"
        )
    console.print(
        Panel(Text(problem["question"][0]), title=Text(f"problem, gold {problem['gold'][0]}"))
    )
    base = round.experiment.round(BASE, round.seed, 0)
    has_base = base != round and base.benchmark("evaluate", benchmark).is_file()
    before = _answers(base, benchmark, keys) if has_base else []
    panels = [_panel("base student", row, answers[0]["text"], "red") for row in before]
    first = before[0]["text"] if before else None
    panels += [_panel(round.name, row, first, "green") for row in answers]
    console.print(Group(*panels))


def _answers(round: Round, benchmark: str, keys: pl.DataFrame) -> list[dict[str, Any]]:
    """The graded answers of a round to the problem in `keys`, with their texts."""
    path = round.benchmark("evaluate", benchmark)
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.parquet"))) or "none"
        raise ValueError(
            f"{round.folder}: no answers to {benchmark} are graded; there are those to: {names}"
        )
    grades = _rows(path, schema.EVALUATE, keys).drop("gold", "finish_reason", "num_tokens")
    answers = _rows(round.benchmark("answers", benchmark), schema.ANSWERS, keys)
    return joined(answers, grades, schema.EVALUATE).sort("sample_index").to_dicts()


def _rows(path: Path, artifact: schema.Artifact, keys: pl.DataFrame) -> pl.DataFrame:
    table.check(path, artifact)
    frames = [table.frame_of([], artifact), *table.groups(path, artifact.names, keys)]
    return readable(pl.concat(frames))


def _panel(student: str, row: Mapping[str, Any], other: str | None, style: str) -> Panel:
    """An answer, with marks on what `other` lacks."""
    heading = f"{student}: {row['num_tokens']} tokens, {row['finish_reason']}"
    text = Text(row["text"]) if other is None else marked(row["text"], other, style)
    answer = "no answer" if row["answer"] is None else f"answer {row['answer']}"
    border = "green" if row["correct"] else "red"
    subtitle = Text(f"{answer}: {row['verdict']}")
    return Panel(text, title=Text(heading), subtitle=subtitle, border_style=border)
