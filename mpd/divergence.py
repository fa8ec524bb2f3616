"""Divergences between a student and a teacher, dense and on a sparse support.

N positions, K support entries, V vocabulary. A sparse distribution has K + 1 outcomes: the
entries of the support, and the tail, which is everything outside it (methods: tail bucket).
All log-probabilities are float32, in nats.
"""

import torch

# Below exp(-100) a probability is zero in float32; the floor keeps 0 · (log 0 - log q) finite.
FLOOR = -100.0


def dense_reverse_kl(student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """KL(student ‖ teacher) over the whole vocabulary: logits [N, V] to [N]."""
    student = torch.log_softmax(student_logits.float(), -1)
    teacher = torch.log_softmax(teacher_logits.float(), -1)
    return (student.exp() * (student - teacher)).sum(-1)


def on_support(logits: torch.Tensor, ids: torch.Tensor, distinct: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the support and of the tail: logits [N, V] to [N, K + 1].

    `ids` [N, K] name the support; `distinct` [N, K] is false for an entry that repeats another
    one, which then has the log-probability FLOOR. The tail is a logsumexp over the complement of
    the support, not 1 - Σ, which at small tails is noise.
    """
    logits = logits.float()
    total = logits.logsumexp(-1, keepdim=True)
    entries = (logits.gather(-1, ids) - total).masked_fill(~distinct, FLOOR)
    outside = logits.scatter(-1, ids, float("-inf"))
    tail = outside.logsumexp(-1, keepdim=True) - total
    return torch.cat([entries, tail], -1).clamp(min=FLOOR)


def renormalise(logprobs: torch.Tensor) -> torch.Tensor:
    """Make the outcomes [N, K + 1] sum to one, so that rounding in a cache can't go below zero."""
    return (logprobs - logprobs.logsumexp(-1, keepdim=True)).clamp(min=FLOOR)


def reverse_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Reverse KL with tail bucket: log-probabilities [N, K + 1] of both to [N].

    Σ_S p (log p - log q) + p̄ (log p̄ - log q̄). Non-negative, at most the dense one
    (coarsening), equal to it when the support is the vocabulary. Gradient flows to `student`.
    """
    return (student.exp() * (student - teacher)).sum(-1)
