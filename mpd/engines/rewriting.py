"""What the teacher is asked to rewrite, and what becomes of its answers: rows of compress."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from mpd.config.compress import TeacherRewrite
from mpd.engines.base import Completion, Engine, Request, seed_of
from mpd.engines.tasks import Task, require_room
from mpd.store import schema, table
from mpd.text.completions import CompletionWriter
from mpd.text.prompts import Prompts
from mpd.text.vocabulary import UnknownWord, Vocabulary

# What a finish reason of the sample, and of the rewrite, means for the row.
SKIPPED = {"length": "sample_truncated", "too_long": "sample_too_long"}
UNFINISHED = {"length": "rewrite_truncated", "too_long": "rewriting_prompt_too_long"}


def rewriting_prompts(engine: Engine, settings: TeacherRewrite) -> Prompts:
    """The prompts under which the teacher rewrites."""
    day = settings.chat.date
    key = "compress.prompt"
    return Prompts(engine.vocabulary, settings.prompt, key, settings.thinking, day)


def require_prompts(engine: Engine, settings: TeacherRewrite, rows: pl.DataFrame) -> None:
    """Raise ValueError where no rewriting prompt can be said, or none leaves room for a rewrite.

    A word of the template that the teacher cannot say is the user's to mend; a word of a
    trajectory that it cannot say is a row's verdict.
    """
    prompts = rewriting_prompts(engine, settings)
    prompts.require_words(problem="", trajectory="")
    outcomes = (_prompt(prompts, row) for row in rows.iter_rows(named=True))
    prompt_ids = (ids for ids in outcomes if not isinstance(ids, str))
    advice = "lower it, or sample.max_new_tokens"
    require_room(engine, prompt_ids, settings, "compress.max_new_tokens", advice)


def rewriter(
    engine: Engine,
    writer: CompletionWriter,
    settings: TeacherRewrite,
    total: int,
    student_context: int,
) -> Task:
    """The task of a shard: rewrite the trajectory of each row, num_samples candidates each.

    `writer` puts a rewrite into the format of the student.

    A rewrite has to fit the student's context behind its prompt, and the teacher's behind the
    rewriting prompt, since both score it there.
    """
    from mpd.job.progress import Progress

    progress = Progress("rewritten", total * settings.num_samples)
    templates = rewriting_prompts(engine, settings)
    prompts: dict[str, list[int] | str] = {}  # of the rows that were asked and are not answered

    def ask(row: Mapping[str, Any]) -> list[Request]:
        prompt = prompts[row["sample_id"]] = _prompt(templates, row)
        if isinstance(prompt, str):
            progress.advance(settings.num_samples, 0)
            return []
        return [
            Request(prompt, seed_of("compress", settings.seed, row["sample_id"], candidate))
            for candidate in range(settings.num_samples)
        ]

    def rewritten(rows: pl.DataFrame, completions: list[list[Completion]]) -> pl.DataFrame:
        records: list[dict[str, Any]] = []
        for row, candidates in zip(rows.iter_rows(named=True), completions, strict=True):
            prompt = prompts.pop(row["sample_id"])
            if isinstance(prompt, str):
                records.append(skipped(row, prompt))
                continue
            room = min(
                student_context - len(row["prompt_ids"]), engine.context_length - len(prompt)
            )
            records += (
                _candidate(row, number, done, room, engine.vocabulary, writer)
                for number, done in enumerate(candidates)
            )
        return table.frame_of(records, schema.COMPRESS)

    return Task(engine, settings, ask, rewritten, progress)


def _candidate(
    row: Mapping[str, Any],
    number: int,
    done: Completion,
    room: int,
    teacher: Vocabulary,
    writer: CompletionWriter,
) -> dict[str, Any]:
    """One rewrite of a row, in the student's format where it can be put into it."""
    rewrite = teacher.text(done.token_ids)
    ids = writer.build(rewrite, row["prompt_ids"])
    status = UNFINISHED.get(done.finish_reason) or _verdict(ids, room)
    ids = ids if status == "ok" else None
    return {
        "sample_id": row["sample_id"],
        "candidate": number,
        "status": status,
        "rewrite": rewrite,
        "rewrite_tokens": len(done.token_ids),
        "text": writer.vocabulary.text(ids) if ids else None,
        "completion_ids": ids,
        "num_tokens": len(ids) if ids else None,
    }


def _verdict(ids: list[int] | None, room: int) -> str:
    if ids is None:
        return "format"
    return "ok" if len(ids) <= room else "rewrite_too_long"


def _prompt(prompts: Prompts, row: Mapping[str, Any]) -> list[int] | str:
    """The rewriting prompt of a row, or the status that says why it has none."""
    if row["finish_reason"] in SKIPPED:
        return SKIPPED[row["finish_reason"]]
    try:
        return prompts.ids(problem=row["question"], trajectory=row["text"])
    except UnknownWord:
        return "sample_unsayable"


def skipped(row: Mapping[str, Any], status: str) -> dict[str, Any]:
    """The row of a sample without a rewrite; `status` says why."""
    empty = dict.fromkeys(("rewrite", "text", "completion_ids", "num_tokens"))
    return {
        "sample_id": row["sample_id"],
        "candidate": 0,
        "status": status,
        "rewrite_tokens": 0,
        **empty,
    }
