"""What the cache holds of a position, against loops and sums in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mpd.config.logits import Logits
from mpd.scoring import support
from mpd.scoring.divergence import LOGPROB_FLOOR
from mpd.scoring.support import ALWAYS_KEPT, Tails, contributing
from tests.changes import with_changes

SETTINGS = Logits(top_k=6, student_top_k=4, tail_buckets=3)
CONTROL = [17, 3]
SIZE = 20


def probabilities(logits):
    """Of one position, in float64."""
    masses = np.exp(np.float64(logits) - np.max(np.float64(logits)))
    return masses / masses.sum()


def most_probable(values, count):
    return np.argsort(-values, kind="stable")[:count].tolist()


@st.composite
def positions(draw):
    """Logits of student and teacher, and realised ids; a third of them are control ids."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    # About a grid, so that no two are equal in float32.
    grid = torch.arange(SIZE) + 0.4 * torch.rand(2, 6, SIZE, generator=generator)
    order = torch.rand(2, 6, SIZE, generator=generator).argsort(-1)
    if draw(st.booleans()):  # a student near its teacher
        order[0] = order[1]
    both = grid.gather(-1, order) * draw(st.sampled_from([0.02, 0.2, 0.6, 2.0]))
    if draw(st.booleans()):  # one that has forgotten the control ids
        both[0, :, CONTROL] -= 12
    realised = torch.randint(SIZE, (6,), generator=generator)
    realised[:2] = torch.tensor(CONTROL)
    return both[0], both[1], realised


def score(student, teacher, *others):
    """Scores of logits that a test goes on with."""
    return support.score(student.clone(), teacher.clone(), *others)


def scored(drawn, **changes):
    return score(*drawn, torch.tensor(CONTROL), with_changes(SETTINGS, **changes))


def in_float64(drawn):
    """Of each position the probabilities of student and teacher, and the fixed ids."""
    student, teacher, realised = drawn
    for place, token in enumerate(realised.tolist()):
        p, q = probabilities(student[place]), probabilities(teacher[place])
        yield place, p, q, {token, *CONTROL}


def kept_ids(scores, place):
    return scores["candidates"][place][scores["kept"][place]].tolist()


@settings(max_examples=30, deadline=None)
@given(positions(), st.sampled_from([1, 3, 7, SIZE, 30]))
def test_measures_are_those_of_float64_sums(drawn, num_buckets):
    scores = scored(drawn, tail_buckets=num_buckets)
    width = math.ceil(SIZE / num_buckets)
    for place, p, q, fixed in in_float64(drawn):
        realised = drawn[2][place].item()
        expected = {
            "realised_logprob": math.log(q[realised]),
            "student_logprob": math.log(p[realised]),
            "divergence": (p * np.log(p / q)).sum(),
            "teacher_entropy": -(q * np.log(q)).sum(),
        }
        support = sorted(fixed | {*kept_ids(scores, place)})
        expected["student_mass"], expected["teacher_mass"] = p[support].sum(), q[support].sum()
        for name, value in expected.items():
            assert scores[name][place].item() == pytest.approx(value, rel=1e-5, abs=1e-5), name
        logs = np.log(q)
        found = scores["control_logprobs"][place].tolist()
        assert found == pytest.approx(logs[CONTROL].tolist(), abs=1e-5)
        found = scores["logprobs"][place].tolist()
        assert found == pytest.approx(logs[scores["candidates"][place]].tolist(), abs=1e-5)
        tails = np.zeros(num_buckets)
        for token in set(range(SIZE)) - {*support}:
            tails[token // width] += q[token]
        with np.errstate(divide="ignore"):
            expected_tails = np.maximum(np.log(tails), LOGPROB_FLOOR)
        found = scores["tail_logprobs"][place].tolist()
        assert found == pytest.approx(expected_tails.tolist(), abs=2e-5)


@settings(max_examples=30, deadline=None)
@given(positions(), st.sampled_from(["union", "teacher"]), st.sampled_from([0, 1e-3]))
def test_kept_candidates_stand_once_and_are_no_fixed_ids(drawn, support, min_contribution):
    scores = scored(drawn, support=support, min_contribution=min_contribution)
    for place, p, q, fixed in in_float64(drawn):
        own = kept_ids(scores, place)
        assert len({*own}) == len(own)
        assert not {*own} & fixed
        candidates = most_probable(q, 6)
        if support == "union":
            candidates += most_probable(p, 4)
        assert scores["candidates"][place].tolist() == candidates
        shared = {*most_probable(q, 6)} & {*most_probable(p, 4)}
        assert scores["overlap"][place].item() == pytest.approx(len(shared) / 4)


def test_union_and_teacher_by_hand():
    # The student's own best id, 5, is none of the teacher's two; 0 is realised and 7 controls.
    teacher = torch.tensor([[0.4, 0.3, 0.2, 0.02, 0.02, 0.02, 0.02, 0.02]]).log()
    student = torch.tensor([[0.1, 0.3, 0.1, 0.02, 0.02, 0.4, 0.02, 0.04]]).log()
    few = with_changes(SETTINGS, top_k=2, student_top_k=2, min_contribution=0.0)
    given = torch.tensor([0]), torch.tensor([7])
    union = score(student, teacher, *given, few)
    assert union["candidates"].tolist() == [[0, 1, 5, 1]]
    assert union["kept"].tolist() == [[False, True, True, False]]
    assert union["overlap"].tolist() == [0.5]
    assert union["student_mass"].item() == pytest.approx(0.1 + 0.3 + 0.4 + 0.04)
    assert union["teacher_mass"].item() == pytest.approx(0.4 + 0.3 + 0.02 + 0.02)
    # Buckets 0-2, 3-5, 6-7.
    assert union["tail_logprobs"].exp()[0].tolist() == pytest.approx([0.2, 0.04, 0.02])
    alone = score(student, teacher, *given, with_changes(few, support="teacher"))
    assert alone["candidates"].tolist() == [[0, 1]]
    assert alone["kept"].tolist() == [[False, True]]
    assert alone["overlap"].tolist() == [0.5]
    assert alone["tail_logprobs"].exp()[0].tolist() == pytest.approx([0.2, 0.06, 0.02])
    # Of the teacher alone, what is less probable than the setting joins the tail.
    for least, expected in ((0.29, [[False, True]]), (0.31, [[False, False]])):
        settings = with_changes(few, support="teacher", min_contribution=least)
        assert score(student, teacher, *given, settings)["kept"].tolist() == expected


def test_no_control_ids():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    nothing = torch.tensor([], dtype=torch.long)
    scores = score(logits, logits, torch.tensor([0]), nothing, with_changes(SETTINGS, top_k=2))
    assert scores["control_logprobs"].shape == (1, 0)
    assert scores["kept"].tolist() == [[True, True, False, False, False]]


def test_more_candidates_than_ids():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    settings = with_changes(SETTINGS, top_k=10, student_top_k=10, tail_buckets=2)
    scores = score(logits, logits, torch.tensor([0]), torch.tensor([1]), settings)
    assert scores["candidates"].tolist() == [[2, 1, 0, 2, 1, 0]]
    assert scores["kept"].tolist() == [[True] + [False] * 5]
    assert scores["tail_logprobs"].tolist() == [[LOGPROB_FLOOR, LOGPROB_FLOOR]]
    assert scores["teacher_mass"].item() == scores["student_mass"].item() == 1.0


def cost_of_merging(p, q, token, tail):
    """p |log p/q - log p̄/q̄|, with p̄ and q̄ the masses of the ids of the tail."""
    of_tail = [max(values[sorted(tail)].sum(), 1e-37) for values in (p, q)]
    return p[token] * abs(math.log(p[token] / q[token]) - math.log(of_tail[0] / of_tail[1]))


def noise(p, q, token, tail):
    """What float32 sums may make of the same."""
    return p[token] * 5e-7 * sum(1 / max(values[sorted(tail)].sum(), 1e-37) for values in (p, q))


def bucket_of(token, num_buckets):
    width = math.ceil(SIZE / num_buckets)
    return {*range(token // width * width, min((token // width + 1) * width, SIZE))}


def probable(p, q, token):
    return max(p[token], q[token]) > ALWAYS_KEPT


@settings(max_examples=50, deadline=None)
@given(positions(), st.sampled_from([1e-4, 1e-3, 1e-2]), st.sampled_from([1, 3]))
def test_trimming_follows_the_rule(drawn, min_contribution, num_buckets):
    """Costs by loops in float64: two rounds, with the fixed ids never in the tail."""
    scores = scored(drawn, min_contribution=min_contribution, tail_buckets=num_buckets)
    for place, p, q, fixed in in_float64(drawn):
        tolerance = min_contribution * max(1.0, scores["divergence"][place].item())
        free = {*most_probable(q, 6), *most_probable(p, 4)} - fixed
        kept, clear = free, True
        for _ in range(2):
            tails = {token: bucket_of(token, num_buckets) - fixed - kept for token in free}
            kept = set()
            for token, tail in tails.items():
                cost = cost_of_merging(p, q, token, tail)
                kept |= {token} if probable(p, q, token) or cost > tolerance else set()
                doubt = noise(p, q, token, tail) + 1e-4 * tolerance
                clear &= abs(cost - tolerance) > doubt
        if clear:  # float32 may decide otherwise
            assert {*kept_ids(scores, place)} == kept


def test_a_dropped_entry_costs_less_than_the_tolerance():
    """Fixed ids are never in the tail, however little they cost: they must not set its ratio.

    The student has forgotten the control ids. The tail has the ratio 1, but with the control ids
    in it about 1/3; the entry has 1/4, and is near only to the latter.
    """
    size, entry, control = 100, 10, [3, 4]
    p, q = np.full(size, 1e-4), np.full(size, 1e-4)
    p[entry], q[entry] = 0.0024, 0.0096
    p[control], q[control] = 1e-9, 0.009
    p[0], q[0] = 0.6, 0.6
    p[1], q[1] = 1 - p.sum() + p[1], 1 - q.sum() + q[1]
    student, teacher = (torch.from_numpy(np.log(values)).float()[None] for values in (p, q))
    settings = with_changes(SETTINGS, tail_buckets=1, top_k=5, student_top_k=5)
    scores = score(student, teacher, torch.tensor([0]), torch.tensor(control), settings)
    tail = {*range(size)} - {0, 1, *control}
    assert not probable(p, q, entry)
    assert cost_of_merging(p, q, entry, tail - {entry}) == pytest.approx(0.0024 * math.log(4))
    assert cost_of_merging(p, q, entry, tail) > 2 * settings.min_contribution
    assert entry in kept_ids(scores, 0)


@settings(max_examples=50, deadline=None)
@given(positions(), st.sampled_from([1e-4, 1e-3]), st.sampled_from([1, 3]))
def test_what_is_dropped_costs_little(drawn, min_contribution, num_buckets):
    """In the tail of the final set, which the second of two rounds comes near."""
    scores = scored(drawn, min_contribution=min_contribution, tail_buckets=num_buckets)
    for place, p, q, fixed in in_float64(drawn):
        tolerance = min_contribution * max(1.0, scores["divergence"][place].item())
        own = {*kept_ids(scores, place)}
        for token in {*most_probable(q, 6), *most_probable(p, 4)} - fixed - own:
            tail = bucket_of(token, num_buckets) - fixed - own
            assert not probable(p, q, token)
            cost = cost_of_merging(p, q, token, tail)
            assert cost < 1.5 * tolerance + noise(p, q, token, tail)


@settings(max_examples=30, deadline=None)
@given(positions())
def test_without_a_tolerance_whatever_costs_is_kept(drawn):
    scores = scored(drawn, min_contribution=0.0)
    for place, p, q, fixed in in_float64(drawn):
        candidates = {*most_probable(q, 6), *most_probable(p, 4)} - fixed
        assert {*kept_ids(scores, place)} == candidates


def test_equal_models_keep_what_is_probable():
    """Nothing contributes to the gradient, yet the student will move."""
    logits = torch.tensor([[0.5, 0.3, 0.1, 0.06, 0.02, 0.009, 0.006, 0.005]]).log()
    control = torch.tensor([7])
    scores = score(logits, logits, torch.tensor([1]), control, with_changes(SETTINGS, top_k=8))
    assert kept_ids(scores, 0) == [0, 2, 3, 4]
    assert scores["divergence"].item() == pytest.approx(0.0, abs=1e-7)
    assert scores["teacher_mass"].item() == pytest.approx(0.985)


def test_contributing_by_hand():
    """Three entries of one bucket whose rest has the ratio 1; the tolerance is 0.001."""
    p = torch.tensor([[0.5, 0.004, 0.004, 0.004]])
    q = torch.tensor([[0.25, 0.004, 0.0036, 0.001]])  # costs: probable, 0, 0.0004, 0.0055
    distinct = torch.ones(1, 4, dtype=torch.bool)
    buckets = torch.zeros(1, 4, dtype=torch.long)
    tails = Tails(buckets, torch.tensor([[0.2]]), torch.tensor([[0.2]]))
    always, tolerance = torch.zeros_like(distinct), torch.tensor([[0.001]])
    found = contributing(p.log(), q.log(), distinct, always, tails, tolerance)
    assert found.tolist() == [[True, False, False, True]]


class Large(TorchDispatchMode):
    """Counts the tensors of at least so many numbers that operations make."""

    def __init__(self, size):
        super().__init__()
        self.size, self.count = size, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {tensor.untyped_storage().data_ptr() for tensor in flattened(args)}
        for tensor in flattened(result):
            is_new = tensor.untyped_storage().data_ptr() not in given
            self.count += is_new and tensor.numel() >= self.size
        return result


def flattened(values):
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("cache", ["sparse", "hidden"])
def test_two_tensors_of_the_size_of_the_logits_are_made(cache):
    logits = [torch.randn(50, 1000) for _ in range(2)]
    few = with_changes(SETTINGS, cache=cache)
    with Large(50 * 1000) as made:
        support.score(*logits, torch.zeros(50, dtype=torch.long), torch.tensor(CONTROL), few)
    assert made.count == 2


def test_a_slice_of_wider_logits_scores_alike():
    """Rows of a matrix with more columns, as the product of a padded output head."""
    drawn = torch.randn(3, SIZE), torch.randn(3, SIZE), torch.tensor([0, 3, 5])
    slices = [torch.cat([logits, torch.full((3, 4), 99.0)], 1)[:, :SIZE] for logits in drawn[:2]]
    found = support.score(*slices, drawn[2], torch.tensor(CONTROL), SETTINGS)
    assert all(values.equal(found[name]) for name, values in scored(drawn).items())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 0.1, 3.0]), st.sampled_from([0.0, 60.0]))
def test_measures_over_a_large_vocabulary(seed, distance, offset):
    """However near the models are, and whatever is added to the logits of one of them."""
    generator = torch.Generator().manual_seed(seed)
    teacher = 4 * torch.randn(4, 5000, generator=generator)
    student = teacher + distance * torch.randn(4, 5000, generator=generator) + offset
    realised = torch.randint(5000, (4,), generator=generator)
    scores = score(student, teacher, realised, torch.tensor(CONTROL), SETTINGS)
    p, q = (logits.double().log_softmax(-1) for logits in (student, teacher))
    exact = {
        "divergence": (p.exp() * (p - q)).sum(-1),
        "teacher_entropy": -(q.exp() * q).sum(-1),
        "realised_logprob": q.gather(1, realised[:, None])[:, 0],
        "student_logprob": p.gather(1, realised[:, None])[:, 0],
        "logprobs": q.gather(1, scores["candidates"].long()),
    }
    for name, values in exact.items():
        # A logit of 80 in float32 is no more exact than 4e-6.
        torch.testing.assert_close(
            scores[name].double(), values, rtol=1e-6, atol=1e-6 if not offset else 5e-6
        )


def test_a_cache_of_realised_ids_has_exact_logprobs_and_the_overlap_of_64_ids():
    generator = torch.Generator().manual_seed(0)
    drawn = (*torch.randn(2, 3, 200, generator=generator), torch.tensor([0, 3, 150]))
    scores = scored(drawn, cache="realised", top_k=2, student_top_k=1)
    assert "candidates" not in scores
    for place, p, q, _ in in_float64(drawn):
        token = drawn[2][place].item()
        assert scores["realised_logprob"][place].item() == pytest.approx(
            math.log(q[token]), abs=1e-5
        )
        assert scores["student_logprob"][place].item() == pytest.approx(
            math.log(p[token]), abs=1e-5
        )
        shared = set(most_probable(p, 64)) & set(most_probable(q, 64))
        assert scores["overlap"][place].item() == pytest.approx(len(shared) / 64)


def test_a_cache_of_hidden_states_has_no_support():
    drawn = torch.randn(3, SIZE), torch.randn(3, SIZE), torch.tensor([0, 3, 5])
    scores, sparse = scored(drawn, cache="hidden"), scored(drawn)
    assert [*scores] == [
        *("realised_logprob", "control_logprobs", "student_logprob"),
        *("divergence", "teacher_entropy"),
    ]
    assert all(values.equal(sparse[name]) for name, values in scores.items())
