"""The student and its loss: what is minimised, and what is measured on the way.

N completion positions of a micro-batch, n of a chunk, K support entries, B tail buckets, V
vocabulary. No tensor of the size of N × V exists, forward or backward.
"""

import torch

from mpd.config.distill import DistillSettings
from mpd.scoring.divergence import FLOOR, chosen, dense
from mpd.scoring.forward import completion_states
from mpd.scoring.outcomes import merge_entries, merge_ids, outcomes_of
from mpd.scoring.output_head import OutputHead, chunked_loss, head_of

# What is of the packed sequences, and not of the N positions.
PACKED = ("ids", "positions", "predicts", "usage")
MEANS = (
    *("divergence", "realised_logprob", "teacher_tail_mass", "student_tail_mass"),
    "student_entropy",
)
SUMS = (*MEANS, "sequence_mean", "think_close_mass", "closes", "stop_mass", "stops", "positions")
NUM_SUMS = len(SUMS)


class Objective(torch.nn.Module):
    """The student and its loss in one module, so that data-parallel wrappers see one forward."""

    def __init__(
        self,
        model: torch.nn.Module,
        vocabulary_size: int,
        stop_ids: list[int],
        settings: DistillSettings,
        chunk_size: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.vocabulary_size, self.chunk_size = vocabulary_size, chunk_size
        self.stop_ids = stop_ids if settings.merge_stop_ids else []
        self.settings = settings
        self.teacher_head: OutputHead | None = None

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted loss, and the sums of SUMS over all positions.

        The logits of one chunk of positions exist at a time.
        """
        places = batch["ids"], batch["positions"], batch["predicts"]
        hidden = completion_states(self.model, *places)
        compare = self._supervised
        if self.settings.divergence != "cross_entropy":
            compare = self._dense if "teacher_hidden" in batch else self._sparse

        def evaluate(logits: torch.Tensor, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
            chunk = {name: values[part] for name, values in batch.items() if name not in PACKED}
            if self.stop_ids:
                logits = merge_ids(logits, self.stop_ids)
                stops = torch.tensor(self.stop_ids, device=logits.device)
                is_stop = torch.isin(chunk["realised"], stops)
                chunk["realised"] = chunk["realised"].masked_fill(is_stop, self.stop_ids[0])
            measures = compare(logits, chunk)
            return (measures[0] * chunk["weight"]).sum(), _sums(measures, chunk)

        head = head_of(self.model, self.vocabulary_size)
        return chunked_loss(hidden, head, evaluate, self.chunk_size)

    def _supervised(
        self, logits: torch.Tensor, chunk: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """The measures of MEANS, [n] each; the first, cross-entropy, has a gradient."""
        ids = chunk["realised"][:, None]
        student, entropy = outcomes_of(logits, ids, torch.ones_like(ids, dtype=torch.bool), 1)
        known, nothing = student.detach(), torch.zeros_like(entropy)
        return -student[:, 0], known[:, 0], nothing, known[:, 1].exp(), entropy

    def _sparse(
        self, logits: torch.Tensor, chunk: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """The same of a divergence on supports."""
        ids, distinct, teacher = chunk["support_ids"].long(), chunk["distinct"], chunk["teacher"]
        if self.stop_ids:
            ids, distinct, teacher = merge_entries(ids, distinct, teacher, self.stop_ids)
        entries = ids.shape[1]
        num_buckets = teacher.shape[1] - entries
        student, entropy = outcomes_of(logits, ids, distinct, num_buckets)
        divergence = chosen(self.settings, entries)(student, teacher)
        known = student.detach()
        return (
            divergence,
            known[:, 0],
            teacher[:, entries:].exp().sum(-1),
            known[:, entries:].exp().sum(-1),
            entropy,
        )

    def _dense(
        self, logits: torch.Tensor, chunk: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """The same of a divergence over the whole vocabulary, which has no tail."""
        assert self.teacher_head is not None
        with torch.no_grad():
            states = chunk["teacher_hidden"].to(self.teacher_head.weight.dtype)
            teacher = self.teacher_head.logits(states)[:, : self.vocabulary_size]
            if self.stop_ids:
                teacher = merge_ids(teacher, self.stop_ids)
        heat = self.settings.temperature
        divergence = dense(chosen(self.settings), logits / heat, teacher / heat)
        known = logits.detach().log_softmax(-1)
        nothing = torch.zeros(len(known), device=known.device)
        entropy = -torch.linalg.vecdot(known.exp(), known.clamp(min=FLOOR))
        realised = known.gather(1, chunk["realised"][:, None])[:, 0]
        return divergence, realised, nothing, nothing, entropy


@torch.no_grad()
def _sums(measures: tuple[torch.Tensor, ...], chunk: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sums over a chunk, in the order of SUMS; `measures` are those of MEANS, [n] each."""
    closes, stops, mass = chunk["closes"], chunk["stops"], measures[1].exp()
    others = [
        (measures[0] * chunk["sequence_weight"]).sum(),
        (mass * closes).sum(),
        closes.sum(),
        (mass * stops).sum(),
        stops.sum(),
        mass.new_tensor(len(mass)),
    ]
    return torch.stack([*(values.sum() for values in measures), *others]).float()
