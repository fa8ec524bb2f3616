"""The teacher alone, by vLLM: its most probable ids and the realised one."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import torch

from mpd.config.logits import LogitsSettings
from mpd.config.resources import ScoringResources
from mpd.scoring.scorer import Scorer, Trajectories

# A tail is 1 minus a sum of float32 probabilities, which is no more precise than this.
TAIL_PRECISION = 2.0**-20


class VllmScorer(Scorer):
    """Scores by the teacher's most probable ids.

    There is no student beside it, and vLLM has no log-probabilities of chosen ids on every
    platform: no union of supports, no control ids, one tail bucket, and no dense measures.
    """

    def __init__(
        self,
        student: Path,
        teacher: Path,
        settings: LogitsSettings,
        resources: ScoringResources,
        total: int,
    ) -> None:
        """Start the engine of the teacher; both models are given by their manifests."""
        from mpd.engines.vllm.prompt_scorer import PromptScorer

        super().__init__(student, settings, resources, total)
        self.control_ids = []
        if settings.cache == "realised":
            settings = settings.model_copy(update={"top_k": 1})
        self.engine = PromptScorer(teacher, settings, resources, self.format.vocabulary.size)

    def batches(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """As many rows as vLLM has side by side."""
        return rows.iter_slices(self.resources.batch_size)

    def scores(self, trajectories: Trajectories) -> dict[str, torch.Tensor]:
        """The scores by the teacher's J most probable ids at all positions; B is 1."""
        prompts = trajectories.teacher_prompts
        ids, logprobs = self.engine.score(prompts, trajectories.completions)  # [N, 1 + J]
        exact = {"realised_logprob": logprobs[:, 0], "control_logprobs": logprobs[:, :0]}
        if self.settings.cache == "realised":
            return exact
        realised, candidates = ids[:, :1], ids[:, 1:]
        is_free = candidates != realised
        kept = is_free & (logprobs[:, 1:].exp() > self.settings.min_contribution)
        masses = logprobs.double().exp()
        known = masses[:, :1] + (masses[:, 1:] * is_free).sum(1, keepdim=True)
        dropped = (masses[:, 1:] * (is_free & ~kept)).sum(1, keepdim=True)
        tail = (1 - known).clamp(min=TAIL_PRECISION) + dropped
        return {
            **exact,
            "candidates": candidates,
            "logprobs": logprobs[:, 1:],
            "kept": kept,
            "tail_logprobs": tail.log().float(),
            "teacher_mass": (1 - tail[:, 0]).float(),
        }
