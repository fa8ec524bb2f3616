"""The student and its loss: what is minimised, and what is measured with it.

No tensor [N, V] of a whole micro-batch exists, forward or backward: its positions are evaluated
chunk by chunk.
"""

from functools import partial

import torch

from mpd.config.distill import DistillSettings
from mpd.config.methods import REWARDED
from mpd.scoring.divergence import LOGPROB_FLOOR, dense, divergence_of
from mpd.scoring.forward import States, completion_states
from mpd.scoring.outcomes import merge_entries, merge_ids, outcomes_of
from mpd.scoring.output_head import OutputHead, chunked_loss, head_of
from mpd.training.batches import MicroBatch
from mpd.training.policy_gradient import PolicyGradient

# What is measured at every position; metrics.parquet has the means.
MEANS = (
    *("divergence", "realised_logprob", "teacher_tail_mass", "student_tail_mass"),
    "student_entropy",
)
SUMS = (
    *(*MEANS, "sequence_mean", "think_close_mass", "closes", "stop_mass", "stops", "positions"),
    # Of the tokens that count in a policy gradient: their number, and their part of sequence_mean.
    *("counted", "counted_share"),
)
NUM_SUMS = len(SUMS)


class Objective:
    """The loss of a student on micro-batches."""

    def __init__(
        self,
        model: torch.nn.Module,
        vocabulary_size: int,
        stop_ids: list[int],
        settings: DistillSettings,
        chunk_size: int,
    ) -> None:
        self.model = model
        self.vocabulary_size, self.chunk_size = vocabulary_size, chunk_size
        self.stop_ids = stop_ids if settings.merge_stop_ids else []
        self.settings = settings
        self.states: States = completion_states
        self.teacher_head: OutputHead | None = None  # needed where the cache holds hidden states
        self.policy = None
        if settings.divergence in (*REWARDED, "fixed_advantage"):
            self.policy = PolicyGradient(settings)

    def __call__(self, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted loss of a micro-batch, and the sums of SUMS over all positions."""
        hidden = self.states(self.model, batch.packed)
        compare = self._supervised
        if self.policy is not None:
            compare = partial(self._sampled, self.policy)
        elif self.settings.divergence != "cross_entropy":
            compare = self._dense if "teacher_hidden" in batch.places else self._sparse

        def evaluate(logits: torch.Tensor, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
            chunk = {name: values[part] for name, values in batch.places.items()}
            if self.stop_ids:
                logits = merge_ids(logits, self.stop_ids)
                stops = torch.tensor(self.stop_ids, device=logits.device)
                is_stop = torch.isin(chunk["realised"], stops)
                chunk["realised"] = chunk["realised"].masked_fill(is_stop, self.stop_ids[0])
            measures = compare(logits, chunk)
            return (measures[0] * chunk["weight"]).sum(), _sums(measures, chunk)

        head = head_of(self.model, self.vocabulary_size)
        return chunked_loss(hidden, head, evaluate, self.chunk_size)

    @torch.no_grad()
    def entropies(self, batch: MicroBatch) -> torch.Tensor:
        """The entropies [N] of the student at all positions of a micro-batch, without a loss."""
        hidden = self.states(self.model, batch.packed)
        head = head_of(self.model, self.vocabulary_size)  # which the pass gathered, if sharded
        ids = batch.places["realised"][:, None]
        parts = zip(hidden.split(self.chunk_size), ids.split(self.chunk_size), strict=True)
        return torch.cat([_of_ids(head.logits(states), part)[1] for states, part in parts])

    def _supervised(
        self, logits: torch.Tensor, chunk: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """The measures of MEANS, [N] each; the first, cross-entropy, has a gradient."""
        outcomes, entropy = _of_ids(logits, chunk["realised"][:, None])
        detached, zeros = outcomes.detach(), torch.zeros_like(entropy)
        return -outcomes[:, 0], detached[:, 0], zeros, detached[:, 1].exp(), entropy

    def _sampled(
        self, policy: PolicyGradient, logits: torch.Tensor, chunk: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """The same measures, where the first is the loss of a policy gradient.

        The chunk gets `counts` [N]: which positions count.
        """
        outcomes, entropy = _of_ids(logits, chunk["realised"][:, None])
        losses, chunk["counts"] = policy(outcomes[:, 0], entropy, chunk)
        detached, zeros = outcomes.detach(), torch.zeros_like(entropy)
        return losses, detached[:, 0], zeros, detached[:, 1].exp(), entropy

    def _sparse(
        self, logits: torch.Tensor, chunk: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """The same measures, where the first is a divergence on supports."""
        ids, distinct, teacher = chunk["support_ids"].long(), chunk["distinct"], chunk["teacher"]
        if self.stop_ids:
            ids, distinct, teacher = merge_entries(ids, distinct, teacher, self.stop_ids)
        num_entries = ids.shape[1]
        num_buckets = teacher.shape[1] - num_entries
        student, entropy = outcomes_of(logits, ids, distinct, num_buckets)
        divergence = divergence_of(self.settings, num_entries)(student, teacher)
        detached = student.detach()
        return (
            divergence,
            detached[:, 0],
            teacher[:, num_entries:].exp().sum(-1),
            detached[:, num_entries:].exp().sum(-1),
            entropy,
        )

    def _dense(
        self, logits: torch.Tensor, chunk: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """The same measures, where the first is a divergence over the vocabulary, without tail."""
        assert self.teacher_head is not None
        with torch.no_grad():
            states = chunk["teacher_hidden"].to(self.teacher_head.weight.dtype)
            teacher = self.teacher_head.logits(states)[:, : self.vocabulary_size]
            if self.stop_ids:
                teacher = merge_ids(teacher, self.stop_ids)
        temperature = self.settings.temperature
        divergence = dense(
            divergence_of(self.settings), logits / temperature, teacher / temperature
        )
        logprobs = logits.detach().log_softmax(-1)
        zeros = torch.zeros(len(logprobs), device=logprobs.device)
        entropy = -torch.linalg.vecdot(logprobs.exp(), logprobs.clamp(min=LOGPROB_FLOOR))
        realised = logprobs.gather(1, chunk["realised"][:, None])[:, 0]
        return divergence, realised, zeros, zeros, entropy


def _of_ids(logits: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities [N, 2] of ids [N, 1] and of all others, and the entropy [N]."""
    return outcomes_of(logits, ids, torch.ones_like(ids, dtype=torch.bool), 1)


@torch.no_grad()
def _sums(measures: tuple[torch.Tensor, ...], chunk: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sums over a chunk, in the order of SUMS; `measures` are those of MEANS, [N] each."""
    closes, stops, realised_mass = chunk["closes"], chunk["stops"], measures[1].exp()
    counts = chunk.get("counts", torch.ones_like(closes))
    others = [
        (measures[0] * chunk["sequence_weight"]).sum(),
        (realised_mass * closes).sum(),
        closes.sum(),
        (realised_mass * stops).sum(),
        stops.sum(),
        realised_mass.new_full((), len(realised_mass)),
        counts.sum(),
        (chunk["sequence_weight"] * counts).sum(),
    ]
    return torch.stack([*(values.sum() for values in measures), *others]).float()
