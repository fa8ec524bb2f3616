"""compress: the teacher rewrites each complete trajectory into a concise one.

The teacher sees the problem and the trajectory, never the gold answer. Its rewrite is put back
in the student's format, and the trained token ids are built here, once. A trajectory that was
cut, or does not fit, is a row with that status and no rewrite.

    python -m mpd.compress --settings JSON --problems .../problems/train/shard_0.parquet \\
        --sample .../sample/shard_0.parquet --student .../manifest.json \\
        --teacher .../manifest.json --output .../compress/shard_0.parquet
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from mpd import command, schema, table
from mpd.chat import ChatFormat, UnknownWord, fill
from mpd.generate import (
    Completion,
    Engine,
    Request,
    Task,
    complete,
    open_engine,
    require_room,
    seed_of,
)
from mpd.lineage import sampled_by
from mpd.model_folder import load_tokenizer, read_manifest, require_same_tokens, stop_ids
from mpd.parts import Parts

# What a finish reason of the sample, and of the rewrite, means for the row.
SKIPPED = {"length": "sample_truncated", "too_long": "sample_too_long"}
UNFINISHED = {"length": "rewrite_truncated", "too_long": "rewriting_prompt_too_long"}


def passed(rows: pl.DataFrame, format: ChatFormat) -> pl.DataFrame:
    """The rows of a method without a rewriter: each trajectory is its only candidate, verbatim.

    A trajectory that was cut keeps its ids: some methods are trained on it.
    """
    made = []
    for row in rows.iter_rows(named=True):
        ids, status = row["completion_ids"], SKIPPED.get(row["finish_reason"], "ok")
        if status == "ok" and ids[-1] not in format.stop_ids:
            status = "format"  # another model's stop id
        made.append(
            {
                **_skipped(row, status),
                "text": row["text"] if ids else None,
                "completion_ids": ids or None,
                "num_tokens": len(ids) or None,
            }
        )
    return table.frame_of(made, schema.COMPRESS)


def require_prompts(engine: Engine, settings: Mapping[str, Any], rows: pl.DataFrame) -> None:
    """Raise ValueError where no rewriting prompt can be said, or none leaves room for a rewrite.

    A word of the template that the teacher cannot say is the user's to mend; a word of a
    trajectory that it cannot say is a row's verdict.
    """
    template = fill(settings["prompt"], problem="", trajectory="")
    engine.chat.require_sayable(template, "compress.prompt")
    made = (_prompt(engine.chat, settings, row) for row in rows.iter_rows(named=True))
    prompts = (prompt for prompt in made if not isinstance(prompt, str))
    advice = "lower it, or sample.max_new_tokens"
    require_room(engine, prompts, settings, "compress.max_new_tokens", advice)


def rewriter(
    engine: Engine,
    student_chat: ChatFormat,
    settings: Mapping[str, Any],
    total: int,
    student_context: int,
) -> Task:
    """The task of a shard: rewrite the trajectory of each row, num_samples candidates each.

    A rewrite has to fit the student's context behind its prompt, and the teacher's behind the
    rewriting prompt, since both score it there.
    """
    from mpd.progress import Progress

    progress = Progress("rewritten", total * settings["num_samples"])
    prompts: dict[str, list[int] | str] = {}  # of the rows that were asked and are not answered

    def ask(row: Mapping[str, Any]) -> list[Request]:
        prompt = prompts[row["sample_id"]] = _prompt(engine.chat, settings, row)
        if isinstance(prompt, str):
            progress.advance(settings["num_samples"], 0)
            return []
        return [
            Request(prompt, seed_of("compress", settings["seed"], row["sample_id"], candidate))
            for candidate in range(settings["num_samples"])
        ]

    def rewritten(rows: pl.DataFrame, completions: list[list[Completion]]) -> pl.DataFrame:
        made: list[dict[str, Any]] = []
        for row, candidates in zip(rows.iter_rows(named=True), completions, strict=True):
            prompt = prompts.pop(row["sample_id"])
            if isinstance(prompt, str):
                made.append(_skipped(row, prompt))
                continue
            room = min(
                student_context - len(row["prompt_ids"]), engine.context_length - len(prompt)
            )
            made += (
                _candidate(row, number, done, room, engine.chat, student_chat)
                for number, done in enumerate(candidates)
            )
        return table.frame_of(made, schema.COMPRESS)

    return Task(engine, settings, ask, rewritten, progress)


def _candidate(
    row: Mapping[str, Any],
    number: int,
    done: Completion,
    room: int,
    teacher_chat: ChatFormat,
    student_chat: ChatFormat,
) -> dict[str, Any]:
    """One rewrite of a row, in the student's format where it can be put into it."""
    rewrite = teacher_chat.text(done.token_ids)
    ids = student_chat.build(rewrite, row["prompt_ids"])
    status = UNFINISHED.get(done.finish_reason) or _verdict(ids, room)
    ids = ids if status == "ok" else None
    return {
        "sample_id": row["sample_id"],
        "candidate": number,
        "status": status,
        "rewrite": rewrite,
        "rewrite_tokens": len(done.token_ids),
        "text": student_chat.text(ids) if ids else None,
        "completion_ids": ids,
        "num_tokens": len(ids) if ids else None,
    }


def _verdict(ids: list[int] | None, room: int) -> str:
    if ids is None:
        return "format"
    return "ok" if len(ids) <= room else "rewrite_too_long"


def _prompt(
    chat: ChatFormat, settings: Mapping[str, Any], row: Mapping[str, Any]
) -> list[int] | str:
    """The rewriting prompt of a row, or the status that says why it has none."""
    if row["finish_reason"] in SKIPPED:
        return SKIPPED[row["finish_reason"]]
    content = fill(settings["prompt"], problem=row["question"], trajectory=row["text"])
    try:
        return chat.prompt_ids(content, settings["thinking"])
    except UnknownWord:
        return "sample_unsayable"


def _skipped(row: Mapping[str, Any], status: str) -> dict[str, Any]:
    empty = dict.fromkeys(("rewrite", "text", "completion_ids", "num_tokens"))
    return {
        "sample_id": row["sample_id"],
        "candidate": 0,
        "status": status,
        "rewrite_tokens": 0,
        **empty,
    }


def main(argv: list[str] | None = None) -> None:
    parser = command.parser(__doc__, "compress")
    parser.add_argument("--problems", type=Path, required=True, help="problems of this shard")
    parser.add_argument("--sample", type=Path, required=True, help="trajectories of this shard")
    parser.add_argument("--student", type=Path, required=True, help="manifest of the student")
    parser.add_argument("--teacher", type=Path, required=True, help="manifest of the teacher")
    command.generation_arguments(parser)
    command.engine_arguments(parser)
    arguments = parser.parse_args(argv)
    settings = arguments.settings
    student, teacher = read_manifest(arguments.student), read_manifest(arguments.teacher)
    require_same_tokens(student, teacher)
    sampler = student
    if settings["sampler"] == "teacher":
        sampler = teacher
        if student["chat_template"] != teacher["chat_template"]:
            raise ValueError(
                "student and teacher have different chat templates: the teacher's trajectories "
                "follow prompts that are not the student's; take a method whose student samples"
            )
    sampled = sampled_by(arguments.sample, sampler)
    rewrites = settings["rewriter"] == "teacher"
    sample = table.content_digest(arguments.sample, schema.SAMPLE, sampled)

    def compute(parts: Parts) -> None:
        questions = table.read(arguments.problems, schema.PROBLEMS).select("problem_id", "question")
        samples = table.read(arguments.sample, schema.SAMPLE, sampled)
        rows = samples.join(questions, "problem_id", validate="m:1", maintain_order="left")
        if len(rows) != len(samples):
            raise ValueError(
                f"{arguments.sample}: it has problems that {arguments.problems} lacks; "
                "the shards do not belong together"
            )

        def format() -> ChatFormat:
            folder = arguments.student.parent
            tokenizer = load_tokenizer(folder)
            return ChatFormat(tokenizer, settings["chat"], stop_ids(folder, tokenizer))

        if not rewrites:
            parts.map(rows, max(len(rows), 1), lambda: partial(passed, format=format()))
            return

        def prepare() -> Task:
            engine = open_engine(arguments.teacher, settings, arguments)
            require_prompts(engine, settings, rows)
            return rewriter(engine, format(), settings, parts.remaining, student["context_length"])

        complete(parts, rows, arguments.rows_per_part, settings["engine"], prepare)

    teacher_identity = {"teacher": teacher["digest"]} if rewrites else {}
    room = {"context_length": str(student["context_length"])} if rewrites else {}
    command.store_of(arguments).publish_table(
        schema.COMPRESS,
        arguments.output,
        settings,
        {
            "problems": table.content_digest(arguments.problems, schema.PROBLEMS),
            "sample": sample,
            # Of the student counts what cuts its text, what ends it and what room there is.
            "tokenizer": student["tokenizer"],
            **room,
            **teacher_identity,
        },
        compute,
        identity={
            **teacher_identity,
            "token_map": student["token_map"],
            "sample": sample,
        },
    )


if __name__ == "__main__":
    command.run(main, "compress")
