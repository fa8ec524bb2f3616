"""The interface of scorers: rows of trajectories go in, rows of the cache come out.

Models run in one thread; encoding and writing what they gave take place in the other.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch

from mpd.config.logits import LogitsSettings, PlainScores
from mpd.config.resources import ScoringResources
from mpd.job.ahead import ahead
from mpd.job.progress import Progress
from mpd.scoring.cache import complete_columns, encode
from mpd.scoring.transfer import Transfer
from mpd.text.completions import CompletionFormat, ids_digest
from mpd.text.prompts import Prompts
from mpd.text.vocabulary import Vocabulary

# Batches that may wait for their encoding. Writing a part of 256 long rows takes as long as a GPU
# takes for a few batches.
LEAD = 4


def teacher_prompts(vocabulary: Vocabulary, settings: LogitsSettings) -> Prompts | None:
    """The prompts under which the teacher scores; None where they are those of the student."""
    if isinstance(settings, PlainScores):
        return None
    keys = {"concise": "chat.concise", "solution": "chat.solution"}
    key = keys.get(settings.context, "compress.prompt")
    chat = settings.chat
    return Prompts(vocabulary, settings.prompt, key, chat.thinking, chat.date)


@dataclass(frozen=True)
class Trajectories:
    """Completions of a batch, each with the prompt of the student and that of the teacher."""

    prompts: list[list[int]]
    teacher_prompts: list[list[int]]
    completions: list[list[int]]


@dataclass(frozen=True)
class Batch:
    """Rows that are scored together, and whether they are the last ones of a part.

    Each row has its `number` in the part. `flops` are the operations of the forward passes.
    """

    rows: pl.DataFrame
    trajectories: Trajectories
    scores: Transfer
    flops: int
    is_last: bool


class Scorer(ABC):
    """Scores rows part by part; subclasses implement `batches` and `scores`.

    `control_ids` [C] are the ids whose log-probabilities it always stores.
    """

    control_ids: list[int]

    def __init__(
        self, student: Path, settings: LogitsSettings, resources: ScoringResources, total: int
    ) -> None:
        """`student` is a manifest; `total` rows are counted by the progress."""
        vocabulary = Vocabulary.of_folder(student.parent)
        self.format = CompletionFormat(vocabulary, settings.chat)
        self.teacher_prompts = teacher_prompts(vocabulary, settings)
        self.settings, self.resources = settings, resources
        self.begin(total)

    def begin(self, total: int) -> None:
        """Begin to count the rows of a shard, `total` in all."""
        self.progress = Progress("scored", total)

    def __call__(self, parts: Iterable[pl.DataFrame]) -> Generator[pl.DataFrame, None, None]:
        """The cache of each part of rows, in their order.

        The next batches are scored while one is encoded, and while the caller writes a part.
        """
        with closing(ahead(self._scored(parts), LEAD)) as batches:
            frames: list[pl.DataFrame] = []
            for batch in batches:
                frames.append(self._encoded(batch))
                num_tokens = int(batch.rows["num_tokens"].sum())
                self.progress.advance(len(batch.rows), num_tokens, batch.flops)
                if batch.is_last:
                    part, frames = pl.concat(frames).sort("number").drop("number"), []
                    yield part
                    del part

    @abstractmethod
    def batches(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Slices of the rows of a part, which are sorted by `size`, that are scored together."""

    @abstractmethod
    def scores(self, trajectories: Trajectories) -> dict[str, torch.Tensor]:
        """What mpd.scoring.cache.encode stores of all N completion positions, on any device."""

    def flops(self, trajectories: Trajectories) -> int:
        """Floating-point operations of the models' forward passes; 0 where they are not known."""
        return 0

    def _scored(self, parts: Iterable[pl.DataFrame]) -> Iterator[Batch]:
        """The batches of all parts, as soon as their work is given to the device."""
        for part in parts:
            ordered = self._ordered(part)
            num_left = len(ordered)
            for rows in self.batches(ordered):
                num_left -= len(rows)
                trajectories = _trajectories(rows)
                scores = Transfer(self.scores(trajectories))
                yield Batch(rows, trajectories, scores, self.flops(trajectories), num_left == 0)

    def _ordered(self, part: pl.DataFrame) -> pl.DataFrame:
        """The rows of a part with `number`, `teacher_prompt` and `size`, the largest first.

        The size of a row is the tokens of its sequence, of that model which has the longer prompt.
        """
        prompts = [self._teacher_prompt(row) for row in part.iter_rows(named=True)]
        part = part.with_columns(pl.Series("teacher_prompt", prompts, pl.List(pl.Int32)))
        lengths = (pl.col(name).list.len() for name in ("prompt_ids", "teacher_prompt"))
        size = pl.max_horizontal(lengths) + pl.col("num_tokens")
        ordered = part.with_row_index("number").with_columns(size=size)
        return ordered.sort("size", "number", descending=[True, False])

    def _encoded(self, batch: Batch) -> pl.DataFrame:
        """The cache of a batch, with the number of each row in its part."""
        scores = encode(batch.scores.result(), batch.rows["num_tokens"].to_list())
        frame = pl.DataFrame([*self._key_columns(batch.rows, batch.trajectories), *scores])
        frame = complete_columns(self._with_summaries(frame))
        if "sampled_logprobs" in batch.rows.columns:
            sampled = batch.rows["sampled_logprobs"]
            frame = frame.with_columns(student_logprob=pl.coalesce(sampled, "student_logprob"))
        return frame.with_columns(batch.rows["number"])

    def _teacher_prompt(self, row: Mapping[str, Any]) -> list[int]:
        """The prompt under which the teacher scores a row: the student's, or one of its own."""
        if self.teacher_prompts is None:
            return row["prompt_ids"]
        if self.settings.context == "solution":
            references = {key: row[key] for key in ("original", "solution") if row[key] is not None}
            return self.teacher_prompts.ids(problem=row["question"], **references)
        return self.teacher_prompts.ids(problem=row["question"], trajectory=row["sample_text"])

    def _key_columns(self, rows: pl.DataFrame, trajectories: Trajectories) -> list[pl.Series]:
        """The columns that identify a row and the ids that it scores."""
        integers = pl.List(pl.Int32)
        prompts, completions = trajectories.prompts, trajectories.completions
        others = [
            None if other == prompt else other
            for prompt, other in zip(prompts, trajectories.teacher_prompts, strict=True)
        ]
        width = len(self.format.close_ids)
        ends = [self.format.thinking_end(ids) for ids in completions]
        starts = [None if end is None else end - width for end in ends]
        digests = [ids_digest(*ids) for ids in zip(prompts, completions, strict=True)]
        return [
            *rows.select("sample_id", "candidate", "prompt_ids").iter_columns(),
            pl.Series("teacher_prompt_ids", others, integers),
            *rows.select("completion_ids", "num_tokens").iter_columns(),
            pl.Series("think_end", starts, pl.Int32),
            pl.Series("ids_digest", digests),
            pl.Series("control_ids", [self.control_ids] * len(rows), integers),
        ]

    def _with_summaries(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add the log-probabilities of a whole row: mean, end of thinking, and stop."""
        realised = pl.col("realised_logprob")
        closing = realised.list.slice("think_end", len(self.format.close_ids)).list.sum()
        return frame.with_columns(
            mean_teacher_logprob=realised.list.eval(pl.element().cast(pl.Float64)).list.mean(),
            think_close_logprob=pl.when(pl.col("think_end").is_not_null())
            .then(closing)
            .cast(pl.Float64),
            stop_logprob=realised.list.last().cast(pl.Float64),
        )


def _trajectories(rows: pl.DataFrame) -> Trajectories:
    names = ("prompt_ids", "teacher_prompt", "completion_ids")
    prompts, teacher_prompts, completions = (rows[name].to_list() for name in names)
    return Trajectories(prompts, teacher_prompts, completions)
