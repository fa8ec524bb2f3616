"""Synthetic files of every stage, with as many rows as a measurement asks for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mpd.store import schema, table
from mpd.store.schema import Artifact
from mpd.text.questions import problem_id

CHUNK = 10_000  # rows that are made at a time
SAMPLE_TOKENS, REWRITE_TOKENS, CACHED_TOKENS = 60, 30, 20
TEXT = "<think>So 3 + 4 = 7, and 7 - 4 = 3, and that is all of it.</think>It is \\boxed{%d}."


def question(number: int) -> str:
    """A question of some 25 words, of which no other has the same."""
    return (
        f"Ann has {number} marbles, Ben has {number % 97} more than she has, and both give "
        f"{number % 7} of them to Carl on day {number % 365}: how many does Ben have left?"
    )


def write_questions(path: Path, count: int, first: int = 0) -> None:
    """A JSONL file of problems."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(first, first + count):
            row = {"question": question(number), "answer": str(number)}
            file.write(json.dumps(row) + "\n")


def write_given(path: Path, count: int) -> None:
    """A JSONL file of trajectories, four of each problem."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = TEXT.replace("that is all of it", "so on " * 20) % (number // 4)
            file.write(json.dumps({"problem": question(number // 4), "text": text}) + "\n")


def write_rows(
    path: Path,
    artifact: Artifact,
    count: int,
    columns: Callable[[range], dict[str, Any]],
    identity: dict[str, str] | None = None,
) -> str:
    """Write a table in chunks; the digest of its rows.

    `columns` gives those of a range of rows: lists, or single values for all rows. Columns that it
    does not give are null, false, 0 or empty.
    """
    empty = table.frame_of([], artifact)
    parts = []
    for start in range(0, count, CHUNK):
        numbers = range(start, min(start + CHUNK, count))
        given = columns(numbers)
        series = {
            name: pl.Series(name, given[name], dtype, strict=False)
            if isinstance(given.get(name), list | pl.Series)
            else pl.repeat(given.get(name, nothing_of(artifact, name)), len(numbers), dtype=dtype,
                           eager=True).alias(name)
            for name, dtype in empty.schema.items()
        }  # fmt: skip
        parts.append(path.with_name(f"{path.name}.{start}"))
        table.write(parts[-1], pl.DataFrame(series), artifact, {})
    digest = table.concatenate(path, parts, artifact, identity or {})
    for part in parts:
        part.unlink()
    return digest


def nothing_of(artifact: Artifact, name: str) -> Any:
    """The value of a column that is not given."""
    (column,) = (column for column in artifact.columns if column.name == name)
    if column.nullable:
        return None
    values = {"string": "", "bool": False}
    return values.get(column.dtype, [] if column.dtype.startswith("list") else 0)


def ids(numbers: range, length: int) -> pl.Series:
    """Token ids of as many rows, all of the same length."""
    rows = (np.asarray(numbers)[:, None] + np.arange(length)) % 900 + 50
    return pl.Series(rows).cast(pl.List(pl.Int32))


def keys(numbers: range) -> list[str]:
    """The ids of problems."""
    return [f"{number:016x}" for number in numbers]


def sample_ids(numbers: range) -> list[str]:
    """The ids of samples, one of each problem."""
    return [f"{number:016x}-0" for number in numbers]


def texts(numbers: range) -> list[str]:
    """Completions with the right answer, but for each fourth."""
    return [TEXT % (number + (number % 4 == 0)) for number in numbers]


def write_problems(path: Path, count: int, are_named: bool = False, has_roots: bool = False) -> str:
    """Problems; `are_named`: by the digests of their questions; `has_roots`: each twentieth gold.

    Every other gold is an integer.
    """

    def gold(number: int) -> str:
        return f"\\sqrt{{{number * number}}}" if has_roots and number % 20 == 0 else str(number)

    return write_rows(
        path,
        schema.PROBLEMS,
        count,
        lambda numbers: {
            "problem_id": [problem_id(question(number)) for number in numbers]
            if are_named
            else keys(numbers),
            "question": [question(number) for number in numbers],
            "gold": [gold(number) for number in numbers],
            "source_row": list(numbers),
        },
    )


def completions(numbers: range) -> dict[str, Any]:
    """The columns of whole completions that samples and answers share."""
    return {
        "completion_ids": ids(numbers, SAMPLE_TOKENS),
        "text": texts(numbers),
        "finish_reason": "stop",
        "num_tokens": SAMPLE_TOKENS,
    }


def write_shard(folder: Path, count: int) -> dict[str, Path]:
    """The problems, samples and rewrites of a shard, by the names of their artifacts."""
    paths = {name: folder / f"{name}.parquet" for name in ("problems", "sample", "compress")}
    identity = {"problems": write_problems(paths["problems"], count)}
    identity["sample"] = write_rows(
        paths["sample"],
        schema.SAMPLE,
        count,
        lambda numbers: {
            "sample_id": sample_ids(numbers),
            "problem_id": keys(numbers),
            **completions(numbers),
        },
        identity,
    )
    write_rows(
        paths["compress"],
        schema.COMPRESS,
        count,
        lambda numbers: {
            "sample_id": sample_ids(numbers),
            "status": "ok",
            "rewrite": texts(numbers),
            "text": texts(numbers),
            "completion_ids": ids(numbers, REWRITE_TOKENS),
            "num_tokens": REWRITE_TOKENS,
        },
        identity,
    )
    return paths


def write_answers(path: Path, count: int, identity: dict[str, str]) -> str:
    """Answers to a benchmark, one to each problem; the digest of their content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_rows(
        path,
        schema.ANSWERS,
        count,
        lambda numbers: {
            "problem_id": keys(numbers),
            **completions(numbers),
        },
        identity,
    )


def write_verdicts(path: Path, count: int, identity: dict[str, str]) -> str:
    """The verdicts of a filter that keeps every sample; the digest of their content."""
    return write_rows(
        path,
        schema.FILTER,
        count,
        lambda numbers: {
            "sample_id": sample_ids(numbers),
            "problem_id": keys(numbers),
            "gold": [str(number) for number in numbers],
            "sample_verdict": "correct",
            "verdict": "correct",
            "correct": True,
            "sample_tokens": SAMPLE_TOKENS,
            "num_tokens": CACHED_TOKENS,
            "keep": True,
            "reason": "kept",
        },
        identity,
    )


def write_cache(path: Path, count: int, identity: dict[str, str] | None = None) -> str:
    """Cached rows of the sizes that those of a near student have; the digest of their content."""
    from cache import synthetic_frame

    parts = []
    for start in range(0, count, CHUNK // 5):
        numbers = range(start, min(start + CHUNK // 5, count))
        rows = [(list(range(20)), row) for row in ids(numbers, CACHED_TOKENS).to_list()]
        frame = synthetic_frame(rows, start, start, vocabulary=1000)
        names = pl.Series("sample_id", sample_ids(numbers))
        parts.append(path.with_name(f"{path.name}.{start}"))
        table.write(parts[-1], frame.with_columns(names), schema.LOGITS, {})
    digest = table.concatenate(path, parts, schema.LOGITS, identity or {})
    for part in parts:
        part.unlink()
    return digest


def write_evaluation(path: Path, count: int, identity: dict[str, str]) -> None:
    """Graded answers, one to each problem, every other one right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(
        path,
        schema.EVALUATE,
        count,
        lambda numbers: {
            "problem_id": keys(numbers),
            "gold": "4",
            "finish_reason": "stop",
            "num_tokens": SAMPLE_TOKENS,
            "answer": "4",
            "verdict": [("correct", "wrong")[number % 2] for number in numbers],
            "correct": [number % 2 == 0 for number in numbers],
            "correct_budgets": [[64][number % 2 :] for number in numbers],
        },
        identity,
    )


def write_metrics(path: Path, count: int, identity: dict[str, str]) -> None:
    """The metrics of so many training steps."""
    write_rows(
        path,
        schema.METRICS,
        count,
        lambda numbers: {
            "step": [number + 1 for number in numbers],
            "tokens_seen": [number + 1 for number in numbers],
        },
        identity,
    )
