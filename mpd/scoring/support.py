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
# How many most probable ids of each model the overlap compares where there is no support:
# arXiv 2610.11291.
OVERLAP_IDS = 64
EMPTY_MASS = 1e-37  # of an empty bucket: a normal float32, whose logarithm is finite


@dataclass(frozen=True)
class Distributions:
    """What a model says of N positions.

    `logits` [N, V] have their peaks at 0, `masses` [N, V] are their exponentials, and `totals`
    [N, 1] are the sums of these, by which nothing of size V is divided.
    """

    logits: torch.Tensor
    masses: torch.Tensor
    totals: torch.Tensor

    @classmethod
    def of(cls, logits: torch.Tensor, peaks: torch.Tensor) -> "Distributions":
        """The distributions of logits [N, V], which are overwritten; `peaks` [N, 1] are theirs."""
        masses = logits.sub_(peaks).exp()
        return cls(logits, masses, masses.sum(-1, keepdim=True))

    def logprobs(self, ids: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [N, K] of ids [N, K]."""
        return self.logits.gather(1, ids) - self.totals.log()

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The expectation [N] of values [N, V], which are overwritten."""
        return values.mul_(self.masses).sum(-1) / self.totals[:, 0]


def score(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    realised: torch.Tensor,
    control: torch.Tensor,
    settings: Logits,
) -> dict[str, torch.Tensor]:
    """What the cache holds of N positions, from float32 logits [N, V] of both models.

    The logits are overwritten, since tensors of their size take most of the time and memory: two
    more are made, one for each model.

    `realised` [N] and `control` [C] ids have columns of their own. Log-probabilities are in nats;
    `divergence` is the exact dense reverse KL. With `cache: sparse` there are also `candidates`
    (int32), their `logprobs` and whether they are `kept`, all [N, J], `tail_logprobs` [N, B], the
    `overlap` [N] of the most probable ids, and the masses [N] of the whole support. With
    `cache: realised` there is the overlap alone, of OVERLAP_IDS ids of each model.
    """
    num_ids = {"hidden": (0, 0), "realised": (OVERLAP_IDS, OVERLAP_IDS)}
    top_k, student_top_k = num_ids.get(settings.cache, (settings.top_k, settings.student_top_k))
    second, peaks = _most_probable(student_logits, student_top_k)
    student = Distributions.of(student_logits, peaks)
    first, peaks = _most_probable(teacher_logits, top_k)
    teacher = Distributions.of(teacher_logits, peaks)
    fixed = torch.cat([realised[:, None], control.expand(len(realised), -1)], 1)
    candidates, is_free, overlap = _candidates(first, second, fixed, settings)
    ids = torch.cat([fixed, candidates], 1)
    log_p, log_q = student.logprobs(ids), teacher.logprobs(ids)
    # Overwrites the logits of the student, and the next line those of the teacher.
    mean_difference = student.mean(student.logits.sub_(teacher.logits))
    log_total = teacher.totals.log()[:, 0]
    scores = {
        "realised_logprob": log_q[:, 0],
        "control_logprobs": log_q[:, 1 : fixed.shape[1]],
        "student_logprob": log_p[:, 0],
        "divergence": mean_difference + log_total - student.totals.log()[:, 0],
        "teacher_entropy": log_total - teacher.mean(teacher.logits),
    }
    if settings.cache == "realised":
        return {**scores, "overlap": overlap}
    if settings.cache == "hidden":
        return scores
    tails = Tails.outside(student, teacher, ids, settings.tail_buckets)
    tolerance = settings.min_contribution * scores["divergence"].clamp(min=1)[:, None]
    sparse = _sparse_scores(log_p, log_q, fixed, is_free, tails, tolerance, settings)
    return {**scores, "candidates": candidates.int(), "overlap": overlap, **sparse}


def _most_probable(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The most probable ids [N, J], in falling order, and the greatest logits [N, 1]."""
    if not count:
        return torch.empty_like(logits[:, :0], dtype=torch.long), logits.amax(-1, keepdim=True)
    top = logits.topk(min(count, logits.shape[-1]), -1)
    return top.indices, top.values[:, :1]


def _candidates(
    first: torch.Tensor, second: torch.Tensor, fixed: torch.Tensor, settings: Logits
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Candidate ids [N, J], whether each appears nowhere before or in `fixed`, and the overlap [N].

    `first` are the teacher's most probable ids, `second` the student's. The overlap is the share of
    the student's that are the teacher's too.
    """
    is_shared = (second[:, :, None] == first[:, None, :]).any(-1)
    overlap = is_shared.float().mean(-1)
    candidates, is_free = first, torch.ones_like(first, dtype=torch.bool)
    if settings.support == "union":
        candidates = torch.cat([first, second], 1)
        is_free = torch.cat([is_free, ~is_shared], 1)
    is_free = is_free & ~(candidates[:, :, None] == fixed[:, None, :]).any(-1)
    return candidates, is_free, overlap


def _sparse_scores(
    log_p: torch.Tensor,
    log_q: torch.Tensor,
    fixed: torch.Tensor,
    is_free: torch.Tensor,
    tails: "Tails",
    tolerance: torch.Tensor,
    settings: Logits,
) -> dict[str, torch.Tensor]:
    """The scores of support and tail, from log-probabilities [N, K] of both models.

    The K entries are the ids `fixed` [N, 1 + C], then the candidates, of which those that `is_free`
    [N, J] repeat no other; `tolerance` [N, 1] is what dropping an entry may change.
    """
    num_fixed = fixed.shape[1]
    is_fixed = torch.ones_like(fixed, dtype=torch.bool)
    is_fixed[:, 1:] = fixed[:, 1:] != fixed[:, :1]
    always = torch.cat([is_fixed, torch.zeros_like(is_free)], 1)
    distinct = torch.cat([is_fixed, is_free], 1)
    if settings.support == "teacher":
        kept = always | (distinct & (log_q.exp() > settings.min_contribution))
    else:
        kept = contributing(log_p, log_q, distinct, always, tails, tolerance)
    tail_p, tail_q = tails.joined_by(log_p.exp(), log_q.exp(), distinct & ~kept)
    return {
        "logprobs": log_q[:, num_fixed:],
        "kept": kept[:, num_fixed:],
        "tail_logprobs": tail_q.log().clamp(min=LOGPROB_FLOOR),
        "student_mass": 1 - tail_p.sum(-1),
        "teacher_mass": 1 - tail_q.sum(-1),
    }


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
        cls, student: Distributions, teacher: Distributions, ids: torch.Tensor, num_buckets: int
    ) -> "Tails":
        """The tails outside the entries `ids` [N, K]; the masses of both models are overwritten."""
        rest = (
            bucket_sums(model.masses.scatter_(1, ids, 0.0), num_buckets) / model.totals
            for model in (student, teacher)
        )
        return cls(ids // bucket_width(student.masses.shape[1], num_buckets), *rest)

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
