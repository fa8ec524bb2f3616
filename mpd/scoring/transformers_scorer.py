"""Teacher and student side by side, as transformers models."""

from itertools import chain
from pathlib import Path

import torch

from mpd.config.logits import LogitsSettings
from mpd.config.resources import ScoringResources
from mpd.scoring.forward import completion_states, pack
from mpd.scoring.output_head import CHUNK_SIZES, head_of
from mpd.scoring.packed_model import load_packed_model
from mpd.scoring.scorer import Scorer, Trajectories
from mpd.scoring.support import score


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
        self.models = [
            load_packed_model(manifest.parent, settings.dtype, resources.kernels)
            for manifest in (student, teacher)
        ]
        with torch.no_grad():
            size = self.format.vocabulary.size
            self.heads = [head_of(model, size) for model in self.models]
        self.chunk_size = resources.chunk_size or CHUNK_SIZES[self.models[0].device.type]

    @torch.no_grad()
    def states(self, trajectories: Trajectories) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs [N, H] of the output heads of student and teacher at all positions."""
        prompts = trajectories.prompts, trajectories.teacher_prompts
        student_states, teacher_states = (
            completion_states(model, pack(model_prompts, trajectories.completions))
            for model, model_prompts in zip(self.models, prompts, strict=True)
        )
        return student_states, teacher_states

    @torch.no_grad()
    def scores(self, trajectories: Trajectories) -> dict[str, torch.Tensor]:
        """What mpd.scoring.support.score gives at all positions, computed chunk by chunk."""
        student_states, teacher_states = self.states(trajectories)
        device = student_states.device
        realised = torch.tensor(list(chain(*trajectories.completions)), device=device)
        control = torch.tensor(self.control_ids, device=device)
        chunks = []
        for start in range(0, len(realised), self.chunk_size):
            part = slice(start, start + self.chunk_size)
            student_logits = self.heads[0].logits(student_states[part])
            teacher_logits = self.heads[1].logits(teacher_states[part])
            scores = score(student_logits, teacher_logits, realised[part], control, self.settings)
            chunks.append(scores)
        merged = {name: torch.cat([chunk[name] for chunk in chunks]).cpu() for name in chunks[0]}
        if self.settings.cache == "hidden":
            merged["teacher_hidden"] = teacher_states.float().cpu()
        return merged
