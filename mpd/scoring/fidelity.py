"""How far the loss and the gradient of a cached reverse KL are from the exact ones."""

from collections.abc import Callable, Mapping, Sequence

import torch

from mpd.scoring.cache import Support
from mpd.scoring.divergence import dense, reverse_kl
from mpd.scoring.outcomes import outcomes_of
from mpd.scoring.output_head import OutputHead


def fidelity_sums(
    head: OutputHead,
    states: torch.Tensor,
    teacher_logits: torch.Tensor,
    cached: Support | torch.Tensor,
) -> dict[str, float]:
    """Sums over N positions that compare a cached reverse KL with the exact one.

    `states` [N, H] are inputs of the student's `head`, `teacher_logits` [N, V] are exact, `cached`
    is a support, or logits [N, V] made from cached hidden states. Gradients are those at `states`.
    """
    masses = {"teacher_mass": float(len(states)), "student_mass": float(len(states))}

    def exact(logits: torch.Tensor) -> torch.Tensor:
        return dense(reverse_kl, logits, teacher_logits)

    def approximate(logits: torch.Tensor) -> torch.Tensor:
        if not isinstance(cached, Support):
            return dense(reverse_kl, logits, cached)
        entries = cached.ids.shape[1]
        num_buckets = cached.logprobs.shape[1] - entries
        student, _ = outcomes_of(logits, cached.ids.long(), cached.distinct, num_buckets)
        logprobs = {"teacher_mass": cached.logprobs, "student_mass": student.detach()}
        for name, outcomes in logprobs.items():
            masses[name] = float(outcomes[:, :entries].exp().sum())
        return reverse_kl(student, cached.logprobs)

    exact_loss, exact_gradient = _loss_and_gradient(head, states, exact)
    cached_loss, cached_gradient = _loss_and_gradient(head, states, approximate)
    return {
        "positions": float(len(states)),
        "exact_loss": float(exact_loss.sum()),
        "cached_loss": float(cached_loss.sum()),
        "product": float((exact_gradient * cached_gradient).sum()),
        "exact_square": float(exact_gradient.square().sum()),
        "cached_square": float(cached_gradient.square().sum()),
        "error_square": float((exact_gradient - cached_gradient).square().sum()),
        **masses,
    }


def _loss_and_gradient(
    head: OutputHead, states: torch.Tensor, divergence: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A divergence of logits, [N], and the gradient [N, H] of its sum at the states."""
    with torch.enable_grad():
        hidden = states.clone().requires_grad_()
        loss = divergence(head.logits(hidden))
        (gradient,) = torch.autograd.grad(loss.sum(), hidden)
    return loss.detach(), gradient.float()


def mean_fidelity(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over all positions, from the `fidelity_sums` of parts of them; losses are in nats.

    Cosine and error of the gradient are those of all positions together. Where the exact loss is
    zero, so are the errors.
    """
    total = {name: sum(part[name] for part in parts) for name in parts[0]}
    count, square = total["positions"], total["exact_square"]
    norms = (square * total["cached_square"]) ** 0.5
    return {
        "positions": count,
        "exact_loss": total["exact_loss"] / count,
        "loss_ratio": total["cached_loss"] / total["exact_loss"] if total["exact_loss"] else 1.0,
        "gradient_cosine": total["product"] / norms if norms else 1.0,
        "gradient_error": (total["error_square"] / square) ** 0.5 if square else 0.0,
        "teacher_mass": total["teacher_mass"] / count,
        "student_mass": total["student_mass"] / count,
    }
