"""Which outcomes the cache holds of a position: its support, and the tail in buckets.

N positions, V vocabulary, F fixed ids (the realised one and the control ids), C candidates,
B tail buckets. The candidates are the teacher's most probable ids, with the current student's;
of those the ones stay without which the gradient would be another.
"""

from collections.abc import Mapping
from typing import Any

import torch

from mpd.divergence import FLOOR
from mpd.outcomes import bucket_sums

# A probable entry stays whatever it contributes now: the student may move away from it.
ALWAYS_KEPT = 0.01
# Masses below are the noise of a difference of float32 sums.
NOISE = 1e-7


def score(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    realised: torch.Tensor,
    control: torch.Tensor,
    settings: Mapping[str, Any],
) -> dict[str, torch.Tensor]:
    """What the cache holds of N positions, from float32 logits [N, V] of both models.

    `realised` [N] and `control` ids stand in columns of their own. `settings` are those of the
    section logits. Log-probabilities are in nats; `divergence` is the exact dense reverse KL. With
    `cache: sparse` there are `candidates`, their `logprobs` and whether they are `kept`, all
    [N, C], and `tail_logprobs` [N, B]; masses are those of the whole support.
    """
    student = torch.log_softmax(student_logits, -1)
    teacher = torch.log_softmax(teacher_logits, -1)
    p, q = student.exp(), teacher.exp()
    dot = torch.linalg.vecdot  # a sum of products without a tensor of products
    scores = {
        "realised_logprob": teacher.gather(1, realised[:, None])[:, 0],
        "control_logprobs": teacher[:, control],
        "student_logprob": student.gather(1, realised[:, None])[:, 0],
        "divergence": dot(p, student - teacher),
        "teacher_entropy": -dot(q, teacher),
    }
    if settings["cache"] == "hidden":
        return scores
    fixed = torch.cat([realised[:, None], control.expand(len(realised), -1)], 1)
    distinct = torch.ones_like(fixed, dtype=torch.bool)
    distinct[:, 1:] = fixed[:, 1:] != fixed[:, :1]
    candidates, free, overlap = _candidates(student, teacher, fixed, settings)
    if settings["support"] == "teacher":
        kept = free & (q.gather(1, candidates) > settings["min_contribution"])
    else:
        tolerance = settings["min_contribution"] * scores["divergence"].clamp(min=1)[:, None]
        ids = torch.cat([fixed, candidates], 1)
        kept = contributing(
            student.gather(1, ids),
            teacher.gather(1, ids),
            torch.cat([distinct, free], 1),
            ids // -(-p.shape[1] // settings["tail_buckets"]),
            bucket_sums(p, settings["tail_buckets"]),
            bucket_sums(q, settings["tail_buckets"]),
            tolerance,
        )[:, fixed.shape[1] :]
    # Summed over what is outside: 1 - Σ would be noise where the tail is small.
    outside = torch.cat([fixed, candidates.where(kept, fixed[:, :1])], 1)
    tails = [
        bucket_sums(masses.scatter_(1, outside, 0.0), settings["tail_buckets"]) for masses in (p, q)
    ]
    return {
        **scores,
        "candidates": candidates,
        "logprobs": teacher.gather(1, candidates),
        "kept": kept,
        "tail_logprobs": tails[1].log().clamp(min=FLOOR),
        "overlap": overlap,
        "student_mass": 1 - tails[0].sum(-1),
        "teacher_mass": 1 - tails[1].sum(-1),
    }


def _candidates(
    student: torch.Tensor, teacher: torch.Tensor, fixed: torch.Tensor, settings: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Candidate ids [N, C], which of them stand nowhere else, and the overlap [N].

    The overlap is the share of the student's most probable ids that are the teacher's too.
    """
    size = teacher.shape[-1]
    first = teacher.topk(min(settings["top_k"], size), -1).indices
    second = student.topk(min(settings["student_top_k"], size), -1).indices
    shared = (second[:, :, None] == first[:, None, :]).any(-1)
    overlap = shared.float().mean(-1)
    candidates, free = first, torch.ones_like(first, dtype=torch.bool)
    if settings["support"] == "union":
        candidates = torch.cat([first, second], 1)
        free = torch.cat([free, ~shared], 1)
    free = free & ~(candidates[:, :, None] == fixed[:, None, :]).any(-1)
    return candidates, free, overlap


def contributing(
    log_p: torch.Tensor,
    log_q: torch.Tensor,
    distinct: torch.Tensor,
    buckets: torch.Tensor,
    of_student: torch.Tensor,
    of_teacher: torch.Tensor,
    tolerance: torch.Tensor,
) -> torch.Tensor:
    """Which entries [N, K] change the gradient by more than the tolerance [N, 1].

    `log_p` and `log_q` are the entries' log-probabilities, `buckets` the tail buckets that they
    would join, `of_student` and `of_teacher` [N, B] the whole masses of the buckets.

    Of reverse KL the gradient at a logit is p (log p/q - KL). An entry that is merged into its
    tail bucket gets the bucket's ratio in place of its own, so p |log p/q - log p̄/q̄| is what
    merging it costs. Dropping entries moves the buckets' ratios: two rounds settle them.
    """
    p, q = log_p.exp(), log_q.exp()
    probable = torch.maximum(p, q) > ALWAYS_KEPT
    kept = distinct
    for _ in range(2):
        tail_p = of_student.scatter_add(1, buckets, -p * kept).clamp(min=NOISE)
        tail_q = of_teacher.scatter_add(1, buckets, -q * kept).clamp(min=NOISE)
        ratio = (tail_p.log() - tail_q.log()).gather(1, buckets)
        cost = p * (log_p - log_q - ratio).abs()
        kept = distinct & (probable | (cost > tolerance))
    return kept
