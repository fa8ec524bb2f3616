"""Divergences between a student and a teacher over the same outcomes.

The outcomes are either the whole vocabulary (dense, M = V), or a support and the buckets of its
tail (sparse, M = K + B): see mpd/scoring/outcomes.py. Every divergence takes log-probabilities
[N, M] in nats, of the student and of the teacher, and gives [N]. Gradient flows to the student.

A sparse divergence is never negative and at most the dense one, because merging outcomes loses
information (the data-processing inequality); the two are equal where the support is the
vocabulary. Log-probabilities are at least LOGPROB_FLOOR: an outcome to which a student gives no
mass has no gradient. Reverse and forward KL: arXiv 2306.13649, equations 2 and 3.
"""

import math
from collections.abc import Callable
from functools import partial

import torch

from mpd.config.distill import ClampedSettings, DistillSettings

Divergence = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# A probability of exp(-80) is nothing, but a normal float32 that may be divided by: the floor
# keeps 0 · (log 0 - log q) and its gradient finite.
LOGPROB_FLOOR = -80.0


def reverse_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(student ‖ teacher) = Σ p (log p - log q)."""
    return (student.exp() * (student - teacher)).sum(-1)


def forward_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(teacher ‖ student) = Σ q (log q - log p)."""
    return (teacher.exp() * (teacher - student)).sum(-1)


def clamped_forward_kl(
    student: torch.Tensor, teacher: torch.Tensor, max_entry: float
) -> torch.Tensor:
    """Σ min(q (log q - log p), max_entry); M = V.

    No divergence: its negative terms stay as they are, so that it may be below zero. The loss of
    arXiv 2605.09548 by its code, cisnlp/COPSD. A term above the bound has no gradient.
    """
    return (teacher.exp() * (teacher - student)).clamp(max=max_entry).sum(-1)


def jensen_shannon(student: torch.Tensor, teacher: torch.Tensor, beta: float) -> torch.Tensor:
    """β KL(q ‖ m) + (1 - β) KL(p ‖ m) with m = β q + (1 - β) p; 0 < β < 1.

    The generalised Jensen-Shannon divergence of arXiv 2306.13649, equation 1.
    """
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    teacher_kl = (teacher.exp() * (teacher - mixture)).sum(-1)
    student_kl = (student.exp() * (student - mixture)).sum(-1)
    return beta * teacher_kl + (1 - beta) * student_kl


def mix(student: torch.Tensor, teacher: torch.Tensor, forward_share: float) -> torch.Tensor:
    """forward_share · forward KL + (1 - forward_share) · reverse KL."""
    forward = forward_kl(student, teacher)
    return forward_share * forward + (1 - forward_share) * reverse_kl(student, teacher)


def divergence_of(settings: DistillSettings, num_entries: int | None = None) -> Divergence:
    """The divergence that the settings `divergence`, `beta`, `forward_share` and `tail` name.

    `num_entries` is K where the outcomes are sparse. `tail` is bucket, or one of two ablations
    that do not compare whole distributions: truncated leaves the tail out of the sum, which rewards
    a student for leaking mass into it; renormalised rescales both to the support, which hides the
    leak.
    """
    divergences: dict[str, Divergence] = {
        "reverse_kl": reverse_kl,
        "forward_kl": forward_kl,
        "jensen_shannon": partial(jensen_shannon, beta=settings.beta),
        "mix": partial(mix, forward_share=settings.forward_share),
    }
    if isinstance(settings, ClampedSettings):
        return partial(clamped_forward_kl, max_entry=settings.max_entry)
    divergence = divergences[settings.divergence]
    if num_entries is None or settings.tail == "bucket":
        return divergence

    def without_tail(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        student, teacher = student[:, :num_entries], teacher[:, :num_entries]
        if settings.tail == "renormalised":
            student, teacher = student.log_softmax(-1), teacher.log_softmax(-1)
        return divergence(student, teacher)

    return without_tail


def dense(
    divergence: Divergence, student_logits: torch.Tensor, teacher_logits: torch.Tensor
) -> torch.Tensor:
    """A divergence over the whole vocabulary: logits [N, V] to [N]."""
    student = torch.log_softmax(student_logits.float(), -1)
    teacher = torch.log_softmax(teacher_logits.float(), -1)
    return divergence(student.clamp(min=LOGPROB_FLOOR), teacher.clamp(min=LOGPROB_FLOOR))
