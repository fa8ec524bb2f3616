"""The outcomes of a sparse distribution: support entries, and the tail in buckets.

N positions, K support entries, B tail buckets, V vocabulary. Bucket b is the ids from b·w up to
(b+1)·w, w = ⌈V/B⌉, without those of the support. Merged outcomes keep every divergence between
zero and its dense value; several buckets lose less than one, since student and teacher differ
by other factors on frequent ids (small, in a byte-pair vocabulary) than on rare ones.
"""

import math
from typing import Any

import torch

from mpd.scoring.divergence import FLOOR

NO_MASS = -1e30  # as a logit; finite, since 0 · -inf is no number


def bucket_width(size: int, num_buckets: int) -> int:
    """Ids of a bucket, of a vocabulary of `size`; the last buckets may have fewer."""
    return math.ceil(size / num_buckets)


def bucket_sums(values: torch.Tensor, num_buckets: int) -> torch.Tensor:
    """Sums of values [N, V] over the buckets: [N, B]."""
    size = values.shape[-1]
    width = bucket_width(size, num_buckets)
    whole = size // width
    sums = [values[:, : whole * width].unflatten(1, (whole, width)).sum(-1)]
    if whole * width < size:
        sums.append(values[:, whole * width :].sum(-1, keepdim=True))
    found = torch.cat(sums, 1)
    return torch.nn.functional.pad(found, (0, num_buckets - found.shape[1]))


def times_of_bucket(values: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Values [N, V], each times the factor [N, B] of its bucket."""
    size = values.shape[-1]
    width = bucket_width(size, factors.shape[1])
    whole = size // width
    product = torch.empty_like(values)
    torch.mul(
        values[:, : whole * width].unflatten(1, (whole, width)),
        factors[:, :whole, None],
        out=product[:, : whole * width].unflatten(1, (whole, width)),
    )
    if whole * width < size:
        product[:, whole * width :] = values[:, whole * width :] * factors[:, whole : whole + 1]
    return product


class _Outcomes(torch.autograd.Function):
    """Log-probabilities of the outcomes, with a backward pass of one product over [N, V].

    Left to autograd, two logsumexps and a masked copy would hold several tensors [N, V].
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
        entries = (logits.gather(1, ids) - normaliser).masked_fill(~distinct, FLOOR)
        # The tail is summed over the complement: 1 - Σ would be noise where it is small.
        masses.scatter_(1, ids, 0.0)
        tails = bucket_sums(masses, num_buckets)
        outcomes = torch.cat([entries, (tails / total).log()], 1).clamp(min=FLOOR)
        ctx.save_for_backward(masses, total, tails, ids, outcomes)
        ctx.mark_non_differentiable(entropy)
        return outcomes, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        masses, total, tails, ids, outcomes = ctx.saved_tensors
        # At the floor an outcome has no mass, and no gradient.
        gradient = gradients[0].masked_fill(outcomes <= FLOOR, 0.0)
        sums = gradient.sum(-1, keepdim=True)
        of_entries, of_tails = gradient.split([ids.shape[1], tails.shape[1]], 1)
        # d log p_v / d logit_v is 1 - p_v, and that of a bucket its share of the bucket's mass.
        shares = torch.where(of_tails == 0, 0.0, of_tails / tails)
        result = times_of_bucket(masses, shares - sums / total)
        probabilities = outcomes[:, : ids.shape[1]].exp()
        at_entries = torch.where(
            outcomes[:, : ids.shape[1]] <= FLOOR, 0.0, of_entries - probabilities * sums
        )
        result.scatter_add_(1, ids, at_entries)
        return result, None, None, None


def outcomes_of(
    logits: torch.Tensor, ids: torch.Tensor, distinct: torch.Tensor, num_buckets: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of entries and tail buckets, and the entropy, of logits [N, V].

    `ids` [N, K] name the support; an entry that repeats another is not `distinct` [N, K] and has
    the log-probability FLOOR. Returns [N, K + B], differentiable, and the entropy [N] in nats,
    which is a diagnostic without gradient.
    """
    return _Outcomes.apply(logits, ids, distinct, num_buckets)


def merge_ids(logits: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Logits [N, V] in which the first of `ids` stands for all of them; the others have no mass."""
    together = logits[:, ids].logsumexp(-1)
    merged = logits.index_fill(1, torch.tensor(ids, device=logits.device), NO_MASS)
    merged[:, ids[0]] = together
    return merged


def merge_entries(
    ids: torch.Tensor, distinct: torch.Tensor, logprobs: torch.Tensor, merged: list[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A support [N, K] and its log-probabilities [N, K + B] with the ids `merged` as one outcome.

    They all stand in every support. The first that does takes over the mass, and the first name.
    """
    known = torch.isin(ids, torch.tensor(merged, device=ids.device)) & distinct
    entries = logprobs[:, : ids.shape[1]]
    together = entries.masked_fill(~known, float("-inf")).logsumexp(-1, keepdim=True)
    first = known.int().argmax(-1, keepdim=True)
    keeps = torch.zeros_like(known).scatter(1, first, True)
    entries = torch.where(keeps, together, entries.masked_fill(known, FLOOR))
    ids = torch.where(keeps, ids.new_tensor(merged[0]), ids)
    return ids, distinct & (~known | keeps), torch.cat([entries, logprobs[:, ids.shape[1] :]], 1)
