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
from mpd.completions import CompletionWriter
from mpd.config.compress import CompressSettings, NoRewrite, TeacherRewrite
from mpd.config.resources import GenerationResources
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
from mpd.model_folder import read_manifest, require_same_tokens
from mpd.parts import Parts
from mpd.prompts import Prompts
from mpd.vocabulary import UnknownWord, Vocabulary

# What a finish reason of the sample, and of the rewrite, means for the row.
SKIPPED = {"length": "sample_truncated", "too_long": "sample_too_long"}
UNFINISHED = {"length": "rewrite_truncated", "too_long": "rewriting_prompt_too_long"}


def passed(rows: pl.DataFrame, stop_ids: list[int]) -> pl.DataFrame:
    """The rows of a method without a rewriter: each trajectory is its only candidate, verbatim.

    A trajectory that was cut keeps its ids: some methods are trained on it.
    """
    made = []
    for row in rows.iter_rows(named=True):
        ids, status = row["completion_ids"], SKIPPED.get(row["finish_reason"], "ok")
        if status == "ok" and ids[-1] not in stop_ids:
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
    found = (_prompt(prompts, row) for row in rows.iter_rows(named=True))
    prompt_ids = (ids for ids in found if not isinstance(ids, str))
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
    from mpd.progress import Progress

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
                _candidate(row, number, done, room, engine.vocabulary, writer)
                for number, done in enumerate(candidates)
            )
        return table.frame_of(made, schema.COMPRESS)

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
    parser = command.parser(__doc__, "compress", CompressSettings, GenerationResources)
    parser.add_argument("--problems", type=Path, required=True, help="problems of this shard")
    parser.add_argument("--sample", type=Path, required=True, help="trajectories of this shard")
    parser.add_argument("--student", type=Path, required=True, help="manifest of the student")
    parser.add_argument("--teacher", type=Path, required=True, help="manifest of the teacher")
    arguments = parser.parse_args(argv)
    settings: CompressSettings = arguments.settings
    resources: GenerationResources = command.resources_of(arguments)
    student, teacher = read_manifest(arguments.student), read_manifest(arguments.teacher)
    require_same_tokens(student, teacher)
    sampler = student
    if settings.sampler == "teacher":
        sampler = teacher
        if student["chat_template"] != teacher["chat_template"]:
            raise ValueError(
                "student and teacher have different chat templates: the teacher's trajectories "
                "follow prompts that are not the student's; take a method whose student samples"
            )
    sampled = sampled_by(arguments.sample, sampler)
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

        folder = arguments.student.parent
        if isinstance(settings, NoRewrite):
            pass_on = partial(passed, stop_ids=Vocabulary.of_folder(folder).stop_ids)
            parts.map(rows, max(len(rows), 1), lambda: pass_on)
            return

        def prepare() -> Task:
            engine = open_engine(arguments.teacher, settings, resources)
            require_prompts(engine, settings, rows)
            writer = CompletionWriter(Vocabulary.of_folder(folder), settings.chat)
            return rewriter(engine, writer, settings, parts.remaining, student["context_length"])

        complete(parts, rows, resources.rows_per_part, settings.engine, prepare)

    rewrites = isinstance(settings, TeacherRewrite)
    teacher_identity = {"teacher": teacher["digest"]} if rewrites else {}
    room = {"context_length": str(student["context_length"])} if rewrites else {}
    command.store_of(arguments).publish_table(
        schema.COMPRESS,
        arguments.output,
        settings.meaning(),
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
