"""Teacher and student side by side, as transformers models."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import torch

from mpd.config.logits import LogitsSettings
from mpd.config.resources import ScoringResources
from mpd.job.flops import forward_flops
from mpd.job.gpu_memory import CHUNK_SIZES
from mpd.scoring.forward import Packed, completion_states, pack
from mpd.scoring.output_head import OutputHead, head_of
from mpd.scoring.scorer import Scorer, Trajectories
from mpd.scoring.split_model import load_pair
from mpd.scoring.support import score

Pair = tuple[Packed, Packed]  # the sequences of student and teacher


class TransformersScorer(Scorer):
    """Scores by both models: it knows supports of both, control ids and dense measures."""

    def __init__(
        self,
        student: Path,
        teacher: Path,
        settings: LogitsSettings,
        resources: ScoringResources,
        total: int,
    ) -> None:
        """Load both models by their manifests. Raises ValueError where one is not supported."""
        torch.set_num_threads(resources.threads)
        super().__init__(student, settings, resources, total)
        self.control_ids = self.format.control_ids
        self.models = load_pair(student.parent, teacher.parent, settings.dtype, resources)
        with torch.no_grad():
            size = self.format.vocabulary.size
            self.heads = [head_of(model, size) for model in self.models]
        self.device = self.models[0].device
        self.chunk_size = resources.chunk_size or CHUNK_SIZES[self.device.type]
        self.control = torch.tensor(self.control_ids, device=self.device)

    def batches(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """As many rows as have `batch_tokens` tokens; a longer row is a batch of its own."""
        start = 0
        for count in batch_counts(rows["size"].to_list(), self.resources.batch_tokens):
            yield rows[start : start + count]
            start += count

    def flops(self, trajectories: Trajectories) -> int:
        """Floating-point operations of the forward passes of both models."""
        completions = trajectories.completions
        prompts = trajectories.prompts, trajectories.teacher_prompts
        total = 0
        for model, model_prompts in zip(self.models, prompts, strict=True):
            pairs = zip(model_prompts, completions, strict=True)
            lengths = [len(prompt) + len(completion) for prompt, completion in pairs]
            total += forward_flops(model, lengths, sum(map(len, completions)))
        return total

    @torch.no_grad()
    def states(self, trajectories: Trajectories) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs [N, H] of the output heads of student and teacher at all positions."""
        return self._states(self._packed(trajectories))

    @torch.no_grad()
    def scores(self, trajectories: Trajectories) -> dict[str, torch.Tensor]:
        """What mpd.scoring.support.score gives at all positions, computed chunk by chunk.

        Raises ValueError where the memory of the GPU is full.
        """
        try:
            return self._scores(trajectories)
        except torch.OutOfMemoryError as error:
            raise ValueError(out_of_memory(trajectories)) from error

    def _scores(self, trajectories: Trajectories) -> dict[str, torch.Tensor]:
        packed = self._packed(trajectories)
        realised = packed[0].ids[0].index_select(0, packed[0].predicts + 1)
        states = self._states(packed)
        starts = range(0, len(realised), self.chunk_size)
        parts = [slice(start, start + self.chunk_size) for start in starts]
        chunks = [
            self._chunk_scores([values[part] for values in states], realised[part])
            for part in parts
        ]
        merged = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
        if self.settings.cache == "hidden":
            merged["teacher_hidden"] = states[1]
        return merged

    def _chunk_scores(
        self, states: list[torch.Tensor], realised: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        student_logits, teacher_logits = map(OutputHead.logits, self.heads, states)
        return score(student_logits, teacher_logits, realised, self.control, self.settings)

    def _states(self, packed: Pair) -> tuple[torch.Tensor, torch.Tensor]:
        student_states, teacher_states = (
            completion_states(model, sequences)
            for model, sequences in zip(self.models, packed, strict=True)
        )
        return student_states, teacher_states

    def _packed(self, trajectories: Trajectories) -> Pair:
        """The sequences of student and teacher: packed and moved once where they are the same."""
        completions = trajectories.completions
        student = self._moved(pack(trajectories.prompts, completions))
        if trajectories.teacher_prompts == trajectories.prompts:
            return student, student
        return student, self._moved(pack(trajectories.teacher_prompts, completions))

    def _moved(self, packed: Packed) -> Packed:
        """The same on the device, without waiting for what it is still to do."""
        return (packed.pin_memory() if self.device.type == "cuda" else packed).to(self.device)


def out_of_memory(trajectories: Trajectories) -> str:
    """What to do where a batch does not fit into the memory of a GPU."""
    prompts = zip(trajectories.prompts, trajectories.teacher_prompts, strict=True)
    count = sum(max(map(len, pair)) for pair in prompts)
    count += sum(map(len, trajectories.completions))
    return (
        f"the GPU's memory is full with both models and a batch of {len(trajectories.prompts)} "
        f"trajectories and {count} tokens; lower resources.logits.batch_tokens (one trajectory "
        "needs as many as it has) or chunk_size"
    )


def batch_counts(sizes: Sequence[int], limit: int) -> Iterator[int]:
    """How many sizes, one after another, sum up to at most `limit`; a larger one is alone."""
    count, total = 0, 0
    for size in sizes:
        if count and total + size > limit:
            yield count
            count, total = 0, 0
        count, total = count + 1, total + size
    if count:
        yield count
