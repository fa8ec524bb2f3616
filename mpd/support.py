"""Which outcomes the cache holds of a position: its support, and the tail in buckets.

N positions, V vocabulary, F fixed ids (the realised one and the control ids), C candidates,
B tail buckets. The candidates are the teacher's most probable ids, with the current student's;
of those the ones stay without which the gradient would be another.
"""

from collections.abc import Mapping
from typing import Any

import torch

from mpd.divergence import dense, reverse_kl
from mpd.outcomes import bucket_sums, outcomes_of

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
    scores = {
        "realised_logprob": teacher.gather(1, realised[:, None])[:, 0],
        "control_logprobs": teacher[:, control],
        "student_logprob": student.gather(1, realised[:, None])[:, 0],
        "divergence": dense(reverse_kl, student_logits, teacher_logits),
        "teacher_entropy": -(teacher.exp() * teacher).sum(-1),
    }
    if settings["cache"] == "hidden":
        return scores
    fixed = torch.cat([realised[:, None], control.expand(len(realised), -1)], 1)
    fixed_distinct = torch.ones_like(fixed, dtype=torch.bool)
    fixed_distinct[:, 1:] = fixed[:, 1:] != fixed[:, :1]
    candidates, free, overlap = _candidates(student, teacher, fixed, settings)
    tolerance = settings["min_contribution"] * scores["divergence"].clamp(min=1)[:, None]
    if settings["support"] == "teacher":
        kept = free & (teacher.gather(1, candidates).exp() > settings["min_contribution"])
    else:
        ids = torch.cat([fixed, candidates], 1)
        distinct = torch.cat([fixed_distinct, free], 1)
        kept = _contributing(student, teacher, ids, distinct, tolerance, settings["tail_buckets"])
        kept = free & kept[:, fixed.shape[1] :]
    ids = torch.cat([fixed, candidates.where(kept, fixed[:, :1])], 1)
    distinct = torch.cat([fixed_distinct, kept], 1)
    width = ids.shape[1]
    tails = {
        name: outcomes_of(logits, ids, distinct, settings["tail_buckets"])[0][:, width:]
        for name, logits in (("student", student_logits), ("teacher", teacher_logits))
    }
    return {
        **scores,
        "candidates": candidates,
        "logprobs": teacher.gather(1, candidates),
        "kept": kept,
        "tail_logprobs": tails["teacher"],
        "overlap": overlap,
        "teacher_mass": 1 - tails["teacher"].exp().sum(-1),
        "student_mass": 1 - tails["student"].exp().sum(-1),
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


def _contributing(
    student: torch.Tensor,
    teacher: torch.Tensor,
    ids: torch.Tensor,
    distinct: torch.Tensor,
    tolerance: torch.Tensor,
    num_buckets: int,
) -> torch.Tensor:
    """Which entries [N, K] change the gradient by more than the tolerance [N, 1].

    Of reverse KL the gradient at a logit is p (log p/q - KL). An entry that is merged into its
    tail bucket gets the bucket's ratio in place of its own, so p |log p/q - log p̄/q̄| is what
    merging it costs. Dropping entries moves the buckets' ratios: two rounds settle them.
    """
    log_p, log_q = student.gather(1, ids), teacher.gather(1, ids)
    p, q = log_p.exp(), log_q.exp()
    of_student = bucket_sums(student.exp(), num_buckets)
    of_teacher = bucket_sums(teacher.exp(), num_buckets)
    bucket = ids // -(-student.shape[-1] // num_buckets)
    probable = torch.maximum(p, q) > ALWAYS_KEPT
    kept = distinct
    for _ in range(2):
        tail_p = of_student.scatter_add(1, bucket, -p * kept).clamp(min=NOISE)
        tail_q = of_teacher.scatter_add(1, bucket, -q * kept).clamp(min=NOISE)
        ratio = (tail_p.log() - tail_q.log()).gather(1, bucket)
        cost = p * (log_p - log_q - ratio).abs()
        kept = distinct & (probable | (cost > tolerance))
    return kept
