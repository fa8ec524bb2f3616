"""Which outcomes the cache holds of a position: its support, and the tail in buckets.

N positions, V vocabulary, F fixed ids (the realised one and the control ids), C candidates,
B tail buckets. The candidates are the teacher's most probable ids, with the current student's;
of those the ones stay without which the gradient would be another.
"""

import torch

from mpd.config.logits import Logits
from mpd.scoring.divergence import FLOOR
from mpd.scoring.outcomes import bucket_sums, bucket_width

# A probable entry stays whatever it contributes now: the student may move away from it.
ALWAYS_KEPT = 0.01
TINY = 1e-37  # the mass of an empty bucket: a normal float32, whose logarithm is finite


def score(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    realised: torch.Tensor,
    control: torch.Tensor,
    settings: Logits,
) -> dict[str, torch.Tensor]:
    """What the cache holds of N positions, from float32 logits [N, V] of both models.

    `realised` [N] and `control` ids stand in columns of their own. Log-probabilities are in nats;
    `divergence` is the exact dense reverse KL. With `cache: sparse` there are `candidates`, their
    `logprobs` and whether they are `kept`, all [N, C], and `tail_logprobs` [N, B]; masses are those
    of the whole support.
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
    if settings.cache == "hidden":
        return scores
    fixed = torch.cat([realised[:, None], control.expand(len(realised), -1)], 1)
    distinct = torch.ones_like(fixed, dtype=torch.bool)
    distinct[:, 1:] = fixed[:, 1:] != fixed[:, :1]
    candidates, free, overlap = _candidates(student, teacher, fixed, settings)
    ids, distinct = torch.cat([fixed, candidates], 1), torch.cat([distinct, free], 1)
    buckets = ids // bucket_width(p.shape[1], settings.tail_buckets)
    log_p, log_q = student.gather(1, ids), teacher.gather(1, ids)
    # Masses that no candidate has. Tails are sums of these and of what is dropped: 1 - Σ would
    # be noise where a tail is small.
    rest_p, rest_q = (
        bucket_sums(masses.scatter_(1, ids, 0.0), settings.tail_buckets) for masses in (p, q)
    )
    always = distinct & (torch.arange(ids.shape[1], device=ids.device) < fixed.shape[1])
    if settings.support == "teacher":
        kept = always | (distinct & (log_q.exp() > settings.min_contribution))
    else:
        tolerance = settings.min_contribution * scores["divergence"].clamp(min=1)[:, None]
        kept = contributing(log_p, log_q, distinct, always, buckets, rest_p, rest_q, tolerance)
    dropped = distinct & ~kept
    tail_p = rest_p.scatter_add(1, buckets, log_p.exp() * dropped)
    tail_q = rest_q.scatter_add(1, buckets, log_q.exp() * dropped)
    return {
        **scores,
        "candidates": candidates,
        "logprobs": log_q[:, fixed.shape[1] :],
        "kept": kept[:, fixed.shape[1] :],
        "tail_logprobs": tail_q.log().clamp(min=FLOOR),
        "overlap": overlap,
        "student_mass": 1 - tail_p.sum(-1),
        "teacher_mass": 1 - tail_q.sum(-1),
    }


def _candidates(
    student: torch.Tensor, teacher: torch.Tensor, fixed: torch.Tensor, settings: Logits
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Candidate ids [N, C], which of them stand nowhere else, and the overlap [N].

    The overlap is the share of the student's most probable ids that are the teacher's too.
    """
    size = teacher.shape[-1]
    first = teacher.topk(min(settings.top_k, size), -1).indices
    second = student.topk(min(settings.student_top_k, size), -1).indices
    shared = (second[:, :, None] == first[:, None, :]).any(-1)
    overlap = shared.float().mean(-1)
    candidates, free = first, torch.ones_like(first, dtype=torch.bool)
    if settings.support == "union":
        candidates = torch.cat([first, second], 1)
        free = torch.cat([free, ~shared], 1)
    free = free & ~(candidates[:, :, None] == fixed[:, None, :]).any(-1)
    return candidates, free, overlap


def contributing(
    log_p: torch.Tensor,
    log_q: torch.Tensor,
    distinct: torch.Tensor,
    always: torch.Tensor,
    buckets: torch.Tensor,
    rest_p: torch.Tensor,
    rest_q: torch.Tensor,
    tolerance: torch.Tensor,
) -> torch.Tensor:
    """Which entries [N, K] change the gradient by more than the tolerance [N, 1].

    `log_p` and `log_q` are the entries' log-probabilities; those of `always` stay whatever they
    cost. `buckets` are the tail buckets that entries would join, `rest_p` and `rest_q` [N, B] the
    masses of the buckets without any entry.

    Of reverse KL the gradient at a logit is p (log p/q - KL). An entry that is merged into its
    tail bucket gets the bucket's ratio in place of its own, so p |log p/q - log p̄/q̄| is what
    merging it costs. Dropping entries moves the buckets' ratios: two rounds settle them.
    """
    p, q = log_p.exp(), log_q.exp()
    stays = always | (torch.maximum(p, q) > ALWAYS_KEPT)
    kept = distinct
    for _ in range(2):
        dropped = distinct & ~kept
        tail_p = rest_p.scatter_add(1, buckets, p * dropped).clamp(min=TINY)
        tail_q = rest_q.scatter_add(1, buckets, q * dropped).clamp(min=TINY)
        ratio = (tail_p.log() - tail_q.log()).gather(1, buckets)
        cost = p * (log_p - log_q - ratio).abs()
        kept = distinct & (stays | (cost > tolerance))
    return kept
