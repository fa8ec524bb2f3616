"""Completing questions under the plain prompt: what the stages `sample` and `answers` share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from mpd.config.chat import PromptChat
from mpd.config.generation import Decoding
from mpd.engines.base import Completion, Engine, Request
from mpd.engines.tasks import Task
from mpd.store import table
from mpd.store.schema import Artifact
from mpd.text.prompts import Prompts
from mpd.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from mpd.engines.reencoding import Reencoder
    from mpd.job.progress import Progress

QuestionPrompts = Mapping[str, list[int]]


def question_prompts(
    vocabulary: Vocabulary, chat: PromptChat, questions: Iterable[str]
) -> QuestionPrompts:
    """The prompt of each question, by the question.

    Raises ValueError where one has a word without a token.
    """
    prompts = Prompts.plain(vocabulary, chat)
    return {question: prompts.problem_ids(question) for question in dict.fromkeys(questions)}


def with_sample_index(problems: pl.DataFrame, num_samples: int) -> pl.DataFrame:
    """One row per sample: the problem's columns and sample_index."""
    indices = pl.DataFrame({"sample_index": pl.Series(range(num_samples), dtype=pl.Int32)})
    return problems.join(indices, how="cross")


def question_task(
    engine: Engine,
    prompts: QuestionPrompts,
    decoding: Decoding,
    seed: Callable[[Mapping[str, Any]], int],
    artifact: Artifact,
    progress: "Progress",
    reencoder: "Reencoder | None" = None,
) -> Task:
    """The task of completing the question of each row once, with the seed of the row.

    With a `reencoder`, the rows have the prompts and the ids of the student for which it writes.
    """

    def ask(row: Mapping[str, Any]) -> list[Request]:
        return [Request(prompts[row["question"]], seed(row))]

    def answer(rows: pl.DataFrame, completions: list[list[Completion]]) -> pl.DataFrame:
        firsts = [completion for (completion,) in completions]
        if reencoder is None:
            return completion_frame(rows, prompts, firsts, engine.vocabulary, artifact)
        texts = [engine.vocabulary.text(completion.token_ids) for completion in firsts]
        reasons = [completion.finish_reason for completion in firsts]
        theirs = list(map(reencoder.completion, rows["question"], texts, reasons))
        vocabulary = reencoder.writer.vocabulary
        return completion_frame(rows, reencoder.prompts, theirs, vocabulary, artifact)

    return Task(engine, decoding, ask, answer, progress)


def completion_frame(
    rows: pl.DataFrame,
    prompts: QuestionPrompts,
    completions: Sequence[Completion],
    vocabulary: Vocabulary,
    artifact: Artifact,
) -> pl.DataFrame:
    """Rows of `sample` or `answers`: the keys of rows with a completion each."""
    records = (
        {
            **row,
            "prompt_ids": prompts[row["question"]],
            "completion_ids": completion.token_ids,
            "logprobs": completion.logprobs or None,
            "text": vocabulary.text(completion.token_ids),
            "finish_reason": completion.finish_reason,
            "num_tokens": len(completion.token_ids),
        }
        for row, completion in zip(rows.iter_rows(named=True), completions, strict=True)
    )
    return table.frame_of(records, artifact)
