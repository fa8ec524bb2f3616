"""The outcomes of a sparse distribution: support entries, and the tail in buckets.

Bucket b is the ids from b·w up to (b+1)·w, w = ⌈V/B⌉, without those of the support. Merged outcomes
keep every divergence between zero and its dense value. Several buckets lose less than one: student
and teacher differ by other factors on frequent ids (small, in a byte-pair vocabulary) than on rare
ones.
"""

import math
from typing import Any

import torch

from mpd.scoring.divergence import LOGPROB_FLOOR

NO_MASS = -1e30  # as a logit; finite, since 0 · -inf is not a number


def bucket_width(size: int, num_buckets: int) -> int:
    """The number of ids in a bucket of a vocabulary of `size`; the last buckets may have fewer."""
    return math.ceil(size / num_buckets)


def bucket_sums(values: torch.Tensor, num_buckets: int) -> torch.Tensor:
    """Sums of values [N, V] over the buckets: [N, B]."""
    size = values.shape[-1]
    width = bucket_width(size, num_buckets)
    num_full = size // width
    sums = [values[:, : num_full * width].unflatten(1, (num_full, width)).sum(-1)]
    if num_full * width < size:
        sums.append(values[:, num_full * width :].sum(-1, keepdim=True))
    filled = torch.cat(sums, 1)
    return torch.nn.functional.pad(filled, (0, num_buckets - filled.shape[1]))


def times_of_bucket(values: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Values [N, V], each times the factor [N, B] of its bucket."""
    size = values.shape[-1]
    width = bucket_width(size, factors.shape[1])
    num_full = size // width
    end = num_full * width
    product = torch.empty_like(values)
    torch.mul(
        values[:, :end].unflatten(1, (num_full, width)),
        factors[:, :num_full, None],
        out=product[:, :end].unflatten(1, (num_full, width)),
    )
    if end < size:
        product[:, end:] = values[:, end:] * factors[:, num_full : num_full + 1]
    return product


class _Outcomes(torch.autograd.Function):
    """Log-probabilities of the outcomes, with a backward pass of one product over [N, V].

    Autograd would hold several tensors [N, V] for two logsumexps and a masked copy.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        ids: torch.Tensor,
        distinct: torch.Tensor,
        num_buckets: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        peak = logits.amax(-1, keepdim=True)
        masses = (logits - peak).exp_()  # [N, V], the probabilities times `total`
        total = masses.sum(-1, keepdim=True)
        normaliser = peak + total.log()
        mean_logit = torch.linalg.vecdot(masses, logits)[:, None] / total
        entropy = (normaliser - mean_logit)[:, 0]
        entries = (logits.gather(1, ids) - normaliser).masked_fill(~distinct, LOGPROB_FLOOR)
        # The tail is summed over the complement: 1 - Σ would be noise where it is small.
        masses.scatter_(1, ids, 0.0)
        tails = bucket_sums(masses, num_buckets)
        outcomes = torch.cat([entries, (tails / total).log()], 1).clamp(min=LOGPROB_FLOOR)
        ctx.save_for_backward(masses, total, tails, ids, outcomes)
        ctx.mark_non_differentiable(entropy)
        return outcomes, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        masses, total, tails, ids, outcomes = ctx.saved_tensors
        num_entries = ids.shape[1]
        # At the floor an outcome has no mass, and no gradient.
        gradient = gradients[0].masked_fill(outcomes <= LOGPROB_FLOOR, 0.0)
        gradient_sum = gradient.sum(-1, keepdim=True)
        entry_gradient, tail_gradient = gradient.split([num_entries, tails.shape[1]], 1)
        # d log p_v / d logit_v is 1 - p_v, and that of a bucket its share of the bucket's mass.
        shares = torch.where(tail_gradient == 0, 0.0, tail_gradient / tails)
        result = times_of_bucket(masses, shares - gradient_sum / total)
        entries = outcomes[:, :num_entries]
        at_entries = torch.where(
            entries <= LOGPROB_FLOOR, 0.0, entry_gradient - entries.exp() * gradient_sum
        )
        result.scatter_add_(1, ids, at_entries)
        return result, None, None, None


def outcomes_of(
    logits: torch.Tensor, ids: torch.Tensor, distinct: torch.Tensor, num_buckets: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities [N, K + B] of entries and tail buckets, and the entropy [N], both in nats.

    `ids` [N, K] name the support in logits [N, V]. An entry that repeats another is not `distinct`
    [N, K] and has the log-probability LOGPROB_FLOOR. The log-probabilities are differentiable; the
    entropy is a diagnostic without gradient.
    """
    return _Outcomes.apply(logits, ids, distinct, num_buckets)


def merge_ids(logits: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Logits [N, V] in which the first of `ids` stands for all of them; the others have no mass."""
    merged_logit = logits[:, ids].logsumexp(-1)
    merged = logits.index_fill(1, torch.tensor(ids, device=logits.device), NO_MASS)
    merged[:, ids[0]] = merged_logit
    return merged


def merge_entries(
    ids: torch.Tensor, distinct: torch.Tensor, logprobs: torch.Tensor, merged: list[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A support [N, K] and its log-probabilities [N, K + B] with the ids `merged` as one outcome.

    Every support has all of them. The first of them in a support gets the mass, and the id
    `merged[0]`.
    """
    num_entries = ids.shape[1]
    is_merged = torch.isin(ids, torch.tensor(merged, device=ids.device)) & distinct
    entries = logprobs[:, :num_entries]
    merged_logprob = entries.masked_fill(~is_merged, float("-inf")).logsumexp(-1, keepdim=True)
    first = is_merged.int().argmax(-1, keepdim=True)
    stays = torch.zeros_like(is_merged).scatter(1, first, True)
    entries = torch.where(stays, merged_logprob, entries.masked_fill(is_merged, LOGPROB_FLOOR))
    ids = torch.where(stays, ids.new_tensor(merged[0]), ids)
    return ids, distinct & (~is_merged | stays), torch.cat([entries, logprobs[:, num_entries:]], 1)
