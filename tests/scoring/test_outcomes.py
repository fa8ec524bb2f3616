"""Outcomes of a support and its tail: sums over buckets, log-probabilities, merged ids."""

import math

import numpy as np
import pytest
import torch

from mpd.scoring.divergence import LOGPROB_FLOOR, forward_kl, reverse_kl
from mpd.scoring.outcomes import bucket_sums, merge_entries, merge_ids, outcomes_of, times_of_bucket

each_cut = pytest.mark.parametrize(
    ("size", "num_buckets"),
    [(12, 1), (12, 3), (12, 12), (10, 3), (10, 4), (10, 7), (10, 9), (5, 8), (1, 1), (1, 4)],
)


def random_logits(*shape, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale


@each_cut
def test_bucket_sums_are_those_of_a_loop(size, num_buckets):
    values = torch.arange(3.0 * size).view(3, size) ** 2
    width = math.ceil(size / num_buckets)
    expected = torch.zeros(3, num_buckets)
    for row in range(3):
        for token in range(size):
            expected[row, token // width] += values[row, token]
    assert bucket_sums(values, num_buckets).equal(expected)


@each_cut
def test_times_of_bucket_is_that_of_a_loop(size, num_buckets):
    values = torch.arange(1.0, 3 * size + 1).view(3, size)
    factors = torch.arange(1.0, 3 * num_buckets + 1).view(3, num_buckets)
    width = math.ceil(size / num_buckets)
    before, expected = values.clone(), torch.empty_like(values)
    for row in range(3):
        for token in range(size):
            expected[row, token] = values[row, token] * factors[row, token // width]
    assert times_of_bucket(values, factors).equal(expected)
    assert values.equal(before)


def test_bucket_sums_by_hand():
    values = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0]])
    assert bucket_sums(values, 1).tolist() == [[31.0]]
    assert bucket_sums(values, 2).tolist() == [[7.0, 24.0]]
    assert bucket_sums(values, 3).tolist() == [[3.0, 12.0, 16.0]]
    assert bucket_sums(values, 4).tolist() == [[3.0, 12.0, 16.0, 0.0]]
    assert bucket_sums(values, 6).tolist() == [[1.0, 2.0, 4.0, 8.0, 16.0, 0.0]]


def test_outcomes_by_hand():
    logits = torch.tensor([[0.4, 0.1, 0.2, 0.05, 0.25]]).log() + 7
    ids, distinct = torch.tensor([[2, 0, 2]]), torch.tensor([[True, True, False]])
    found, entropy = outcomes_of(logits, ids, distinct, 2)
    expected = [0.2, 0.4, 0.0, 0.1, 0.3]
    assert found.exp()[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert found[0, 2].item() == LOGPROB_FLOOR
    values = [0.4, 0.1, 0.2, 0.05, 0.25]
    assert entropy.item() == pytest.approx(-sum(p * math.log(p) for p in values), abs=1e-6)


@each_cut
def test_outcomes_sum_to_one(size, num_buckets):
    logits = torch.cat([random_logits(20, size, scale=scale) for scale in (0.01, 3, 40)])
    before = logits.clone()
    generator = torch.Generator().manual_seed(1)
    for count in {1, (size + 1) // 2, size}:
        ids = torch.stack([torch.randperm(size, generator=generator)[:count] for _ in logits])
        ids = torch.cat([ids, ids[:, :1]], 1)
        distinct = torch.ones_like(ids, dtype=torch.bool)
        distinct[:, -1] = False
        for exact, tolerance in ((logits, 1e-12), (logits.float(), 1e-5)):
            found, _ = outcomes_of(exact, ids, distinct, num_buckets)
            assert found.shape == (len(logits), count + 1 + num_buckets)
            assert found.logsumexp(-1).abs().max() < tolerance
    assert logits.equal(before)


def test_a_small_tail_is_summed_and_not_a_difference():
    """One minus the mass of the support would be zero or noise in float32."""
    logits = torch.tensor([[30.0, 29.0, 1.0, 0.5, -2.0, 3.0]])
    ids = torch.tensor([[0, 1]])
    found, _ = outcomes_of(logits, ids, torch.ones_like(ids, dtype=torch.bool), 1)
    masses = np.exp(np.float64(logits[0]))
    assert found[0, 2].item() == pytest.approx(math.log(masses[2:].sum() / masses.sum()), abs=1e-5)
    assert found[0, 2] < -26


def test_an_entry_that_repeats_another_has_no_gradient():
    logits = random_logits(4, 9).requires_grad_()
    distinct = torch.tensor([[True, True, False, True, False]]).expand(4, -1)
    repeated, _ = outcomes_of(logits, torch.tensor([[3, 8, 3, 0, 3]]).expand(4, -1), distinct, 2)
    plain_ids = torch.tensor([[3, 8, 0]]).expand(4, -1)
    plain, _ = outcomes_of(logits, plain_ids, torch.ones_like(plain_ids, dtype=torch.bool), 2)
    counting = [0, 1, 3, 5, 6]
    assert repeated[:, [2, 4]].eq(LOGPROB_FLOOR).all()
    assert repeated[:, counting].equal(plain)
    factors = torch.arange(1.0, 8.0, dtype=torch.float64)
    (one,) = torch.autograd.grad((repeated * factors).sum(), logits)
    (other,) = torch.autograd.grad((plain * factors[counting]).sum(), logits)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    repeated, _ = outcomes_of(logits, torch.tensor([[3, 8, 3, 0, 3]]).expand(4, -1), distinct, 2)
    (nothing,) = torch.autograd.grad(repeated[:, [2, 4]].sum(), logits)
    assert not nothing.any()


@pytest.mark.parametrize("num_buckets", [1, 3, 4, 11])
def test_gradient_agrees_with_finite_differences(num_buckets):
    logits = random_logits(3, 8, scale=1.0).requires_grad_()
    ids = torch.tensor([[7, 2, 7], [0, 4, 5], [1, 1, 3]])
    distinct = torch.tensor([[True, True, False], [True, True, True], [True, False, True]])

    def outcomes(values):
        return outcomes_of(values, ids, distinct, num_buckets)[0]

    assert torch.autograd.gradcheck(outcomes, logits)


@pytest.mark.parametrize("scale", [0.01, 3.0, 30.0])
def test_entropy_is_that_of_torch(scale):
    logits = random_logits(50, 40, scale=scale).float().requires_grad_()
    ids = torch.arange(3).expand(50, -1)
    _, entropy = outcomes_of(logits, ids, torch.ones_like(ids, dtype=torch.bool), 4)
    expected = torch.distributions.Categorical(logits=logits.double()).entropy()
    torch.testing.assert_close(entropy.double(), expected.detach(), rtol=0, atol=2e-5)
    assert not entropy.requires_grad


def test_merge_ids_by_hand():
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.25, 0.15]]).log()
    merged = merge_ids(logits, [3, 0])
    expected = [0.0, 0.2, 0.3, 0.35, 0.15]
    assert merged.softmax(-1)[0].tolist() == pytest.approx(expected, abs=1e-7)
    assert torch.isfinite(merged).all()
    _, entropy = outcomes_of(merged, torch.tensor([[1]]), torch.tensor([[True]]), 2)
    of_expected = -sum(p * math.log(p) for p in expected if p)
    assert entropy.item() == pytest.approx(of_expected, abs=1e-6)
    assert merge_ids(logits, [4]).softmax(-1).allclose(logits.softmax(-1))


STOPS = [5, 9, 2]
THINK_CLOSE = 7
CONTROL = [THINK_CLOSE, *STOPS]
# Realised ids that are: no control id, the first stop, a later one, the end of thinking; and
# entries, where some rows have one to fill up.
REALISED = [0, 5, 2, 7, 11]
ENTRIES = [[1, 10], [8], [3], [4, 8], [6]]
SIZE = 12


def support_of(place):
    """Ids and whether they are distinct, as mpd.scoring.cache lays out a position."""
    realised, entries = REALISED[place], ENTRIES[place]
    fill = 2 - len(entries)
    ids = [realised, *CONTROL, *entries, *[realised] * fill]
    repeats = [token != realised for token in CONTROL]
    return ids, [True, *repeats, *[True] * len(entries), *[False] * fill]


def coarse(values, place, num_buckets):
    """Outcomes of a position, the stop ids being one: a dictionary of masses, by loops."""
    width = math.ceil(SIZE / num_buckets)
    support = {REALISED[place], *CONTROL, *ENTRIES[place]}
    masses = {}
    for token in range(SIZE):
        outcome = token if token in support else f"bucket {token // width}"
        outcome = "stop" if token in STOPS else outcome
        masses[outcome] = masses.get(outcome, 0.0) + values[token]
    return masses


@pytest.mark.parametrize("num_buckets", [1, 4, 5])
@pytest.mark.parametrize("divergence", [reverse_kl, forward_kl])
def test_merged_stop_ids_are_one_outcome(divergence, num_buckets):
    ids, distinct = (
        torch.tensor(values) for values in zip(*map(support_of, range(5)), strict=True)
    )
    student, teacher = random_logits(5, SIZE, seed=2), random_logits(5, SIZE, seed=3)
    student.requires_grad_()
    cached, _ = outcomes_of(teacher, ids, distinct, num_buckets)
    before = [values.clone() for values in (ids, distinct, cached)]
    merged = merge_entries(ids, distinct, cached, STOPS)
    assert all(map(torch.equal, before, (ids, distinct, cached)))
    own, _ = outcomes_of(merge_ids(student, STOPS), *merged[:2], num_buckets)
    found = divergence(own, merged[2])

    p, q = student.softmax(-1), teacher.softmax(-1)
    expected = []
    for place in range(5):
        of_student, of_teacher = (coarse(values[place], place, num_buckets) for values in (p, q))
        one, other = (
            torch.stack([masses[outcome] for outcome in of_student])
            for masses in (of_student, of_teacher)
        )
        if divergence is forward_kl:
            one, other = other, one
        expected.append((one * (one / other).log()).sum())
    expected = torch.stack(expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    of_found, of_expected = (
        torch.autograd.grad(values.sum(), student)[0] for values in (found, expected)
    )
    torch.testing.assert_close(of_found, of_expected, rtol=0, atol=1e-12)
    # What was realised still stands first; of a stop id, the mass of all.
    for place, realised in enumerate(REALISED):
        kept = STOPS if realised in STOPS else [realised]
        for outcomes, masses in ((own, p), (merged[2], q)):
            assert outcomes[place, 0].exp().item() == pytest.approx(
                masses[place, kept].sum().item()
            )


def test_merged_outcomes_sum_to_one_and_stand_once():
    ids, distinct = (
        torch.tensor(values) for values in zip(*map(support_of, range(5)), strict=True)
    )
    teacher = random_logits(5, SIZE, seed=3)
    cached, _ = outcomes_of(teacher, ids, distinct, 4)
    merged_ids, kept, logprobs = merge_entries(ids, distinct, cached, STOPS)
    assert logprobs.logsumexp(-1).abs().max() < 1e-12
    assert logprobs[:, : ids.shape[1]][~kept].eq(LOGPROB_FLOOR).all()
    for place in range(5):
        counting = merged_ids[place, kept[place]].tolist()
        outside = {REALISED[place], THINK_CLOSE, *ENTRIES[place]} - {*STOPS}
        assert sorted(counting) == sorted({STOPS[0], *outside})


def test_merging_loses_at_most_what_it_merges():
    """One stop id alone is no merging at all."""
    ids, distinct = torch.tensor([support_of(0)[0]]), torch.tensor([support_of(0)[1]])
    student, teacher = random_logits(1, SIZE, seed=4), random_logits(1, SIZE, seed=5)
    cached, _ = outcomes_of(teacher, ids, distinct, 4)

    def loss(stops):
        merged = merge_entries(ids, distinct, cached, stops)
        own, _ = outcomes_of(merge_ids(student, stops), *merged[:2], 4)
        return reverse_kl(own, merged[2]).item()

    plain = reverse_kl(outcomes_of(student, ids, distinct, 4)[0], cached).item()
    assert loss([5]) == pytest.approx(plain, abs=1e-12)
    assert 0 <= loss(STOPS) <= loss([5, 9]) <= plain
    assert loss(STOPS) < plain - 1e-4
