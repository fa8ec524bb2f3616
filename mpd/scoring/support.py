"""Which outcomes the cache holds of a position: its support, and the tail in buckets.

The candidates are the teacher's most probable ids, with the current student's. Those are kept
without which the gradient would change. p is the student's distribution, q the teacher's.
"""

from dataclasses import dataclass

import torch

from mpd.config.logits import Logits
from mpd.scoring.divergence import LOGPROB_FLOOR
from mpd.scoring.outcomes import bucket_sums, bucket_width

# A probable entry is kept whatever it contributes now: the student may move away from it.
ALWAYS_KEPT = 0.01
EMPTY_MASS = 1e-37  # of an empty bucket: a normal float32, whose logarithm is finite


def score(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    realised: torch.Tensor,
    control: torch.Tensor,
    settings: Logits,
) -> dict[str, torch.Tensor]:
    """What the cache holds of N positions, from float32 logits [N, V] of both models.

    `realised` [N] and `control` [C] ids have columns of their own. Log-probabilities are in nats;
    `divergence` is the exact dense reverse KL. With `cache: sparse` there are also `candidates`,
    their `logprobs` and whether they are `kept`, all [N, J], `tail_logprobs` [N, B], the `overlap`
    [N] of the most probable ids, and the masses [N] of the whole support.
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
    tolerance = settings.min_contribution * scores["divergence"].clamp(min=1)[:, None]
    return {**scores, **_sparse_scores(student, teacher, p, q, fixed, tolerance, settings)}


def _sparse_scores(
    student: torch.Tensor,
    teacher: torch.Tensor,
    p: torch.Tensor,
    q: torch.Tensor,
    fixed: torch.Tensor,
    tolerance: torch.Tensor,
    settings: Logits,
) -> dict[str, torch.Tensor]:
    """The scores of support and tail, from log-probabilities and probabilities [N, V] of models.

    `p` and `q` are overwritten. `fixed` [N, 1 + C] are ids; `tolerance` [N, 1] is what dropping an
    entry may change.
    """
    num_fixed = fixed.shape[1]
    candidates, is_free, overlap = _candidates(student, teacher, fixed, settings)
    ids = torch.cat([fixed, candidates], 1)
    always = torch.zeros_like(ids, dtype=torch.bool)
    always[:, 0] = True
    always[:, 1:num_fixed] = fixed[:, 1:] != fixed[:, :1]
    distinct = torch.cat([always[:, :num_fixed], is_free], 1)
    log_p, log_q = student.gather(1, ids), teacher.gather(1, ids)
    tails = Tails.outside(p, q, ids, settings.tail_buckets)
    if settings.support == "teacher":
        kept = always | (distinct & (log_q.exp() > settings.min_contribution))
    else:
        kept = contributing(log_p, log_q, distinct, always, tails, tolerance)
    tail_p, tail_q = tails.joined_by(log_p.exp(), log_q.exp(), distinct & ~kept)
    return {
        "candidates": candidates,
        "logprobs": log_q[:, num_fixed:],
        "kept": kept[:, num_fixed:],
        "tail_logprobs": tail_q.log().clamp(min=LOGPROB_FLOOR),
        "overlap": overlap,
        "student_mass": 1 - tail_p.sum(-1),
        "teacher_mass": 1 - tail_q.sum(-1),
    }


def _candidates(
    student: torch.Tensor, teacher: torch.Tensor, fixed: torch.Tensor, settings: Logits
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Candidate ids [N, J], whether each appears nowhere before or in `fixed`, and the overlap [N].

    The overlap is the share of the student's most probable ids that are the teacher's too.
    """
    size = teacher.shape[-1]
    first = teacher.topk(min(settings.top_k, size), -1).indices
    second = student.topk(min(settings.student_top_k, size), -1).indices
    is_shared = (second[:, :, None] == first[:, None, :]).any(-1)
    overlap = is_shared.float().mean(-1)
    candidates, is_free = first, torch.ones_like(first, dtype=torch.bool)
    if settings.support == "union":
        candidates = torch.cat([first, second], 1)
        is_free = torch.cat([is_free, ~is_shared], 1)
    is_free = is_free & ~(candidates[:, :, None] == fixed[:, None, :]).any(-1)
    return candidates, is_free, overlap


@dataclass(frozen=True)
class Tails:
    """The tail buckets of both models, which dropped entries join.

    `buckets` [N, K] says which bucket each entry would join; `rest_p` and `rest_q` [N, B] are the
    masses of the buckets without any entry. Tails are sums: 1 - Σ would be noise where they are
    small.
    """

    buckets: torch.Tensor
    rest_p: torch.Tensor
    rest_q: torch.Tensor

    @classmethod
    def outside(
        cls, p: torch.Tensor, q: torch.Tensor, ids: torch.Tensor, num_buckets: int
    ) -> "Tails":
        """The tails outside the entries `ids` [N, K]; `p` and `q` [N, V] are overwritten."""
        buckets = ids // bucket_width(p.shape[1], num_buckets)
        rest = (bucket_sums(masses.scatter_(1, ids, 0.0), num_buckets) for masses in (p, q))
        return cls(buckets, *rest)

    def joined_by(
        self, p: torch.Tensor, q: torch.Tensor, dropped: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The masses [N, B] of the buckets with the `dropped` entries; all arguments are [N, K]."""
        tail_p = self.rest_p.scatter_add(1, self.buckets, p * dropped)
        tail_q = self.rest_q.scatter_add(1, self.buckets, q * dropped)
        return tail_p, tail_q


def contributing(
    log_p: torch.Tensor,
    log_q: torch.Tensor,
    distinct: torch.Tensor,
    always: torch.Tensor,
    tails: Tails,
    tolerance: torch.Tensor,
) -> torch.Tensor:
    """Which entries [N, K] change the gradient by more than the tolerance [N, 1].

    `log_p` and `log_q` are the entries' log-probabilities; those of `always` are kept whatever
    they contribute.

    The gradient of reverse KL at a logit is p (log p/q - KL). An entry that is merged into its
    tail bucket gets the bucket's ratio in place of its own, so p |log p/q - log p̄/q̄| is what
    merging it costs. Dropping entries changes the buckets' ratios: two rounds settle them.
    """
    p, q = log_p.exp(), log_q.exp()
    stays = always | (torch.maximum(p, q) > ALWAYS_KEPT)
    kept = distinct
    for _ in range(2):
        tail_p, tail_q = (
            masses.clamp(min=EMPTY_MASS) for masses in tails.joined_by(p, q, distinct & ~kept)
        )
        ratio = (tail_p.log() - tail_q.log()).gather(1, tails.buckets)
        cost = p * (log_p - log_q - ratio).abs()
        kept = distinct & (stays | (cost > tolerance))
    return kept
