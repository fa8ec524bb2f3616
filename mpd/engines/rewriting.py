"""From samples to the teacher's rewriting requests, and from its answers to rows of compress."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from mpd.config.compress import TeacherRewrite
from mpd.engines.base import Completion, Engine, Request, seed_of
from mpd.engines.tasks import Task, require_room
from mpd.store import schema, table
from mpd.text.completions import CompletionWriter
from mpd.text.prompts import Prompts
from mpd.text.rationales import rationale_of
from mpd.text.vocabulary import UnknownWord

# The status of a row by the finish reason of its sample, and by that of its rewrite.
SAMPLE_STATUS = {
    "length": "sample_truncated",
    "too_long": "sample_too_long",
    "lossy": "sample_lossy",
}
REWRITE_STATUS = {"length": "rewrite_truncated", "too_long": "rewriting_prompt_too_long"}

PROMPT_END = 32  # tokens in which a prompt may open the rewriter's thinking


@dataclass(frozen=True)
class RewritingPrompts:
    """The prompts under which the teacher rewrites: plain ones, and those that show a route."""

    plain: Prompts
    along: Prompts | None

    @classmethod
    def of(cls, engine: Engine, settings: TeacherRewrite) -> "RewritingPrompts":
        """Those of the settings, for an engine's model."""
        key = "structure" if settings.instruction == "structure" else "prompt"

        def prompts(template: str, key: str) -> Prompts:
            chat = settings.thinking, settings.chat.date
            return Prompts(engine.vocabulary, template, f"compress.{key}", *chat)

        along = None if settings.route is None else prompts(settings.route, "route")
        return cls(prompts(settings.prompt, key), along)

    def ids(self, row: Mapping[str, Any]) -> list[int] | str:
        """The prompt of a row, or the status that says why it has none."""
        route = row.get("route")
        prompts, values = self.plain, {}
        if route is not None and self.along is not None:
            prompts, values = self.along, {"route": route}
        status = SAMPLE_STATUS.get(row["finish_reason"])
        if status and ("{trajectory}" in prompts.template or status == "sample_too_long"):
            return status
        try:
            return prompts.ids(problem=row["question"], trajectory=row["text"], **values)
        except UnknownWord:
            return "sample_unsayable"

    def require_words(self) -> None:
        """Raise ValueError where a template has a word that the teacher has no token for."""
        self.plain.require_words(problem="", trajectory="")
        if self.along is not None:
            self.along.require_words(problem="", trajectory="", route="")


def require_prompts(engine: Engine, settings: TeacherRewrite, rows: pl.DataFrame) -> None:
    """Raise ValueError where no rewriting prompt can be encoded, or none leaves room for a rewrite.

    A word of the template without a token is the user's to fix; a trajectory with such a word is a
    row with a status.
    """
    prompts = RewritingPrompts.of(engine, settings)
    prompts.require_words()
    outcomes = (prompts.ids(row) for row in rows.iter_rows(named=True))
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
    """The task of a shard: rewrite the trajectory of each of `total` rows.

    `writer` puts a rewrite into the format of the student, whose context has `student_context`
    tokens.
    """
    from mpd.job.progress import Progress

    progress = Progress("rewritten", total * settings.num_samples)
    rewriting = _Rewriting(engine, writer, settings, student_context, progress)
    return Task(engine, settings, rewriting.ask, rewriting.answer, progress)


class _Rewriting:
    """The requests of a row, and the rows of its rewrites: num_samples candidates each."""

    def __init__(
        self,
        engine: Engine,
        writer: CompletionWriter,
        settings: TeacherRewrite,
        student_context: int,
        progress: Any,
    ) -> None:
        self.engine, self.writer, self.settings = engine, writer, settings
        self.student_context, self.progress = student_context, progress
        self.templates = RewritingPrompts.of(engine, settings)
        self.prompts: dict[str, list[int] | str] = {}  # by sample_id, until the row is answered

    def ask(self, row: Mapping[str, Any]) -> list[Request]:
        """One request for each candidate of a row; none where it has no rewriting prompt."""
        sample_id, settings = row["sample_id"], self.settings
        prompt = self.prompts[sample_id] = self.templates.ids(row)
        if isinstance(prompt, str):
            self.progress.advance(settings.num_samples, 0)
            return []
        seeds = [
            seed_of("compress", settings.seed, sample_id, candidate)
            for candidate in range(settings.num_samples)
        ]
        return [Request(prompt, seed) for seed in seeds]

    def answer(self, rows: pl.DataFrame, completions: list[list[Completion]]) -> pl.DataFrame:
        """The rows of the artifact, from samples and the completions of each."""
        records: list[dict[str, Any]] = []
        for row, candidates in zip(rows.iter_rows(named=True), completions, strict=True):
            prompt = self.prompts.pop(row["sample_id"])
            if isinstance(prompt, str):
                records.append(without_rewrite(row, prompt))
            else:
                records += (
                    self._candidate(row, number, completion, prompt)
                    for number, completion in enumerate(candidates)
                )
        return table.frame_of(records, schema.COMPRESS)

    def _candidate(
        self, row: Mapping[str, Any], number: int, completion: Completion, prompt: list[int]
    ) -> dict[str, Any]:
        """One rewrite of a row, in the student's format where it can be put into it.

        It has to fit the student's context after the prompt, and the teacher's after the rewriting
        `prompt`, since both score it there. The teacher's own thinking is no part of it.
        """
        room = min(
            self.student_context - len(row["prompt_ids"]),
            self.engine.context_length - len(prompt),
        )
        vocabulary = self.engine.vocabulary
        text = vocabulary.text(completion.token_ids)
        end_of_prompt = vocabulary.decode(prompt[-PROMPT_END:])
        rewrite = self.writer.without_thinking(text, end_of_prompt, self.templates.plain.can_think)
        if rewrite is not None and self.settings.instruction == "structure":
            rewrite = self._rendered(rewrite, row.get("route"))
        ids = None if rewrite is None else self.writer.build(rewrite, row["prompt_ids"])
        status = REWRITE_STATUS.get(completion.finish_reason) or _format_status(ids, room)
        ids = ids if status == "ok" else None
        return {
            "sample_id": row["sample_id"],
            "candidate": number,
            "status": status,
            "rewrite": text,
            "rewrite_tokens": len(completion.token_ids),
            "text": self.writer.vocabulary.text(ids) if ids else None,
            "completion_ids": ids,
            "num_tokens": len(ids) if ids else None,
        }

    def _rendered(self, rewrite: str, route: str | None) -> str | None:
        """The text of a structural rationale in JSON: its steps, and its answer in a box.

        None where it is none, or does not keep to the route that the teacher was shown.
        """
        rationale = rationale_of(rewrite, route)
        if rationale is None:
            return None
        close = self.writer.close_tag or ""
        return f"{rationale.reasoning}\n{close}\n{rationale.boxed}"


def _format_status(ids: list[int] | None, room: int) -> str:
    """The status of a whole rewrite, from its trained ids and the tokens that there is room for."""
    if ids is None:
        return "format"
    return "ok" if len(ids) <= room else "rewrite_too_long"


def without_rewrite(row: Mapping[str, Any], status: str) -> dict[str, Any]:
    """The row of a sample without a rewrite; `status` says why."""
    empty = dict.fromkeys(("rewrite", "text", "completion_ids", "num_tokens"))
    return {
        "sample_id": row["sample_id"],
        "candidate": 0,
        "status": status,
        "rewrite_tokens": 0,
        **empty,
    }
