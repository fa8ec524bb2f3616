"""Teacher and student side by side: what both say of trajectories, for the cache and its audit.

N completion positions of all trajectories of a batch together, H hidden.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
import torch

from mpd.config.logits import ConciseScores, LogitsSettings, PlainScores
from mpd.config.resources import ScoringResources
from mpd.job.progress import Progress
from mpd.scoring.cache import encode
from mpd.scoring.forward import completion_states, pack, require_separate_sequences
from mpd.scoring.output_head import head_of, require_known_head
from mpd.scoring.support import score
from mpd.store import schema, table
from mpd.store.model_folder import load_model
from mpd.text.completions import CompletionFormat, ids_digest
from mpd.text.prompts import Prompts
from mpd.text.vocabulary import Vocabulary

# Of a tail, 1 minus a sum of float32 probabilities tells no more than this.
LEAST_TAIL = 2.0**-20


def teacher_prompts(vocabulary: Vocabulary, settings: LogitsSettings) -> Prompts | None:
    """The prompts under which the teacher scores; None where they are those of the student."""
    if isinstance(settings, PlainScores):
        return None
    key = "chat.concise" if isinstance(settings, ConciseScores) else "compress.prompt"
    chat = settings.chat
    return Prompts(vocabulary, settings.prompt, key, chat.thinking, chat.date)


class RowScorer(ABC):
    """Scores one part of rows at a time; a subclass knows what its models say."""

    control_ids: list[int]  # of these it always knows the log-probability

    def __init__(
        self, student: Path, settings: LogitsSettings, resources: ScoringResources, total: int
    ) -> None:
        vocabulary = Vocabulary.of_folder(student)
        self.format = CompletionFormat(vocabulary, settings.chat)
        self.prompts = teacher_prompts(vocabulary, settings)
        self.settings, self.batch_size = settings, resources.batch_size
        self.progress = Progress("scored", total)

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Score the rows of a part; batches hold rows of similar length."""
        ordered = rows.with_row_index("number").sort("num_tokens", "number")
        scored = []
        for batch in ordered.iter_slices(self.batch_size):
            scored.append(self._score(batch))
            self.progress.advance(len(batch), int(batch["num_tokens"].sum()))
        return pl.concat(scored).sort("number").select(schema.LOGITS.names)

    def _score(self, rows: pl.DataFrame) -> pl.DataFrame:
        prompts, completions = rows["prompt_ids"].to_list(), rows["completion_ids"].to_list()
        contexts = [self._teacher_prompt(row) for row in rows.iter_rows(named=True)]
        lengths = rows["num_tokens"].to_list()
        scores = self.scores(prompts, contexts, completions)
        return pl.DataFrame(
            [
                rows["number"],
                *self._keys(rows, prompts, contexts, completions),
                *encode(scores, lengths),
            ]
        ).pipe(self._with_summaries)

    @abstractmethod
    def scores(
        self,
        prompts: Sequence[list[int]],
        contexts: Sequence[list[int]],
        completions: Sequence[list[int]],
    ) -> dict[str, torch.Tensor]:
        """What mpd.scoring.cache.encode stores of all completion positions.

        The student sees `prompts`, the teacher `contexts`; sequence stands after sequence.
        """

    def _teacher_prompt(self, row: Mapping[str, Any]) -> list[int]:
        """The plain prompt, or another one, rendered as the student's prompts are."""
        if self.prompts is None:
            return row["prompt_ids"]
        return self.prompts.ids(problem=row["question"], trajectory=row["sample_text"])

    def _keys(
        self,
        rows: pl.DataFrame,
        prompts: list[list[int]],
        contexts: list[list[int]],
        completions: list[list[int]],
    ) -> list[pl.Series]:
        """The columns that say which ids a row scores."""
        integers = pl.List(pl.Int32)
        width = len(self.format.close_ids)
        ends = [self.format.thinking_end(ids) for ids in completions]
        others = [
            None if context == prompt else context
            for prompt, context in zip(prompts, contexts, strict=True)
        ]
        digests = [ids_digest(*ids) for ids in zip(prompts, completions, strict=True)]
        return [
            *rows.select("sample_id", "candidate", "prompt_ids").iter_columns(),
            pl.Series("teacher_prompt_ids", others, integers),
            *rows.select("completion_ids", "num_tokens").iter_columns(),
            pl.Series(
                "think_end", [None if end is None else end - width for end in ends], pl.Int32
            ),
            pl.Series("ids_digest", digests),
            pl.Series("control_ids", [self.control_ids] * len(rows), integers),
        ]

    def _with_summaries(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Fill up the columns of the artifact: per trajectory means, and nulls for what is not."""
        realised = pl.col("realised_logprob")
        closing = realised.list.slice("think_end", len(self.format.close_ids)).list.sum()
        summaries = rows.with_columns(
            mean_teacher_logprob=realised.list.eval(pl.element().cast(pl.Float64)).list.mean(),
            think_close_logprob=pl.when(pl.col("think_end").is_not_null())
            .then(closing)
            .cast(pl.Float64),
            stop_logprob=realised.list.last().cast(pl.Float64),
        )
        empty = table.frame_of([], schema.LOGITS)
        missing = {
            name: pl.lit(None, dtype)
            for name, dtype in empty.schema.items()
            if name not in summaries.columns
        }
        return summaries.with_columns(**missing).select("number", *schema.LOGITS.names)


class Scorer(RowScorer):
    """Teacher and student side by side, by transformers."""

    def __init__(
        self,
        student: Path,
        teacher: Path,
        settings: LogitsSettings,
        resources: ScoringResources,
        total: int,
    ) -> None:
        torch.set_num_threads(resources.threads)
        super().__init__(student, settings, resources, total)
        self.control_ids = self.format.control_ids
        self.models = load_model(student, settings.dtype), load_model(teacher, settings.dtype)
        for model in self.models:
            require_known_head(model)
            require_separate_sequences(model)
        with torch.no_grad():
            size = self.format.vocabulary.size
            self.heads = [head_of(model, size) for model in self.models]
        self.chunk_size = resources.chunk_size

    def states(
        self,
        prompts: Sequence[list[int]],
        contexts: Sequence[list[int]],
        completions: Sequence[list[int]],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs [N, H] of the output heads of student and teacher at all completion positions.

        The student sees `prompts`, the teacher `contexts`; sequence stands after sequence.
        """
        with torch.no_grad():
            of_student, of_teacher = (
                completion_states(model, *pack(before, completions))
                for model, before in zip(self.models, (prompts, contexts), strict=True)
            )
        return of_student, of_teacher

    def scores(
        self,
        prompts: Sequence[list[int]],
        contexts: Sequence[list[int]],
        completions: Sequence[list[int]],
    ) -> dict[str, torch.Tensor]:
        """What mpd.scoring.support.score finds at all completion positions, chunk by chunk."""
        student, teacher = self.states(prompts, contexts, completions)
        realised = torch.tensor(list(chain(*completions)), device=student.device)
        control = torch.tensor(self.control_ids, device=student.device)
        chunks = []
        for start in range(0, len(realised), self.chunk_size):
            part = slice(start, start + self.chunk_size)
            with torch.no_grad():
                of_student = self.heads[0].logits(student[part])
                of_teacher = self.heads[1].logits(teacher[part])
                scores = score(of_student, of_teacher, realised[part], control, self.settings)
            chunks.append(scores)
        merged = {name: torch.cat([chunk[name] for chunk in chunks]).cpu() for name in chunks[0]}
        if self.settings.cache == "hidden":
            merged["teacher_hidden"] = teacher.float().cpu()
        return merged


class VllmScorer(RowScorer):
    """The teacher alone, by vLLM: its most probable ids and the realised one.

    There is no student beside it, and vLLM has no log-probabilities of chosen ids on every
    platform: no union of supports, no control ids, one tail bucket, and no dense measures.
    """

    def __init__(
        self,
        student: Path,
        manifest: Path,
        settings: LogitsSettings,
        resources: ScoringResources,
        total: int,
    ) -> None:
        from mpd.engines.vllm.prompt_scorer import PromptScorer

        super().__init__(student, settings, resources, total)
        self.control_ids = []
        self.engine = PromptScorer(manifest, settings, resources, self.format.vocabulary.size)

    def scores(
        self,
        prompts: Sequence[list[int]],
        contexts: Sequence[list[int]],
        completions: Sequence[list[int]],
    ) -> dict[str, torch.Tensor]:
        ids, logprobs = self.engine.score(contexts, completions)  # [N, 1 + K], the realised first
        candidates, realised = ids[:, 1:], ids[:, :1]
        free = candidates != realised
        kept = free & (logprobs[:, 1:].exp() > self.settings.min_contribution)
        masses = logprobs.double().exp()
        named = masses[:, :1] + (masses[:, 1:] * free).sum(1, keepdim=True)
        dropped = (masses[:, 1:] * (free & ~kept)).sum(1, keepdim=True)
        tail = (1 - named).clamp(min=LEAST_TAIL) + dropped
        return {
            "realised_logprob": logprobs[:, 0],
            "control_logprobs": logprobs[:, :0],
            "candidates": candidates,
            "logprobs": logprobs[:, 1:],
            "kept": kept,
            "tail_logprobs": tail.log().float(),
            "teacher_mass": (1 - tail[:, 0]).float(),
        }
