"""Divergences: hand-computed constants, an independent formula in float64, and gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpd.divergence import FLOOR, dense_reverse_kl, on_support, renormalise, reverse_kl

# Student 1/2, 1/4, 1/8, 1/8 and teacher 1/4 each: KL = log 4 - H(student).
STUDENT = [0.5, 0.25, 0.125, 0.125]
TEACHER = [0.25, 0.25, 0.25, 0.25]


def logits_of(*rows):
    return torch.tensor(rows).log()


def sparse(student_logits, teacher_logits, ids, distinct=None):
    ids = torch.as_tensor(ids)
    distinct = torch.ones_like(ids, dtype=torch.bool) if distinct is None else distinct
    return reverse_kl(
        on_support(student_logits, ids, distinct), on_support(teacher_logits, ids, distinct)
    )


def reference(student_logits, teacher_logits, support=None):
    """Reverse KL of one position in float64; the tail is a sum over the complement."""
    student, teacher = (
        np.exp(x - x.max()) / np.exp(x - x.max()).sum()
        for x in (np.float64(student_logits), np.float64(teacher_logits))
    )
    pairs = list(zip(student, teacher, strict=True))
    if support is not None:
        outside = [place for place in range(len(student)) if place not in support]
        pairs = [pairs[place] for place in support]
        pairs.append((student[outside].sum(), teacher[outside].sum()))
    return sum(p * (math.log(p) - math.log(q)) for p, q in pairs if p > 0)


def test_constants():
    student, teacher = logits_of(STUDENT), logits_of(TEACHER)
    # Entropy of the student: 1/2·1 + 1/4·2 + 2·1/8·3 = 7/4 bits, against 2 bits.
    assert dense_reverse_kl(student, teacher).item() == pytest.approx(math.log(2) / 4, abs=1e-6)
    # On the first id: 1/2 log 2 + 1/2 log(2/3).
    assert sparse(student, teacher, [[0]]).item() == pytest.approx(0.143841036, abs=1e-6)
    # On the first two: 1/2 log 2 + 0 + 1/4 log(1/2) = 1/4 log 2, all of it: the rest is even.
    assert sparse(student, teacher, [[0, 1]]).item() == pytest.approx(0.173286795, abs=1e-6)
    # On the last: 1/8 log(1/2) + 7/8 log(7/6).
    assert sparse(student, teacher, [[3]]).item() == pytest.approx(0.048238447, abs=1e-6)


def test_on_support_gives_entries_and_tail():
    found = on_support(logits_of(STUDENT), torch.tensor([[2, 0]]), torch.ones(1, 2).bool())
    torch.testing.assert_close(found.exp(), torch.tensor([[0.125, 0.5, 0.375]]))


def test_logits_may_be_shifted():
    student, teacher = logits_of(STUDENT), logits_of(TEACHER)
    ids = [[0, 2]]
    for shift in (50.0, -1000.0):
        torch.testing.assert_close(
            sparse(student + shift, teacher - shift, ids), sparse(student, teacher, ids),
            rtol=0, atol=2e-4,
        )  # fmt: skip


def test_rows_are_independent_and_zero_where_equal():
    student, teacher = logits_of(STUDENT, TEACHER), logits_of(TEACHER, TEACHER)
    dense = dense_reverse_kl(student, teacher)
    assert dense.tolist() == pytest.approx([math.log(2) / 4, 0.0], abs=1e-7)
    assert sparse(student, teacher, [[0], [3]])[1].item() == pytest.approx(0.0, abs=1e-7)


def test_the_whole_vocabulary_is_the_dense_one():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(50, 40, generator=generator) * 3
    teacher = torch.randn(50, 40, generator=generator) * 3
    ids = torch.stack([torch.randperm(40, generator=generator) for _ in range(50)])
    dense = dense_reverse_kl(student, teacher)
    torch.testing.assert_close(sparse(student, teacher, ids), dense, rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0.01, 1.0, 4.0, 12.0]),
    size=st.integers(2, 40),
    share=st.floats(0, 1),
)
def test_sparse_is_between_zero_and_dense(seed, scale, size, share):
    rng = np.random.default_rng(seed)
    student, teacher = np.float32(rng.normal(size=(2, size)) * scale)
    support = rng.permutation(size)[: max(1, int(share * size))].tolist()
    both = torch.from_numpy(student)[None], torch.from_numpy(teacher)[None]
    dense = dense_reverse_kl(*both).item()
    found = sparse(*both, [support]).item()
    tolerance = 1e-5 * max(1.0, dense)
    assert dense == pytest.approx(reference(student, teacher), abs=tolerance)
    assert found == pytest.approx(reference(student, teacher, support), abs=tolerance)
    assert -1e-6 <= found <= dense + tolerance


def test_leaking_outside_the_support_costs():
    """The leak test of the methods: what the tail bucket is for."""
    vocabulary, support = 1000, list(range(4))
    teacher = torch.full((1, vocabulary), -math.inf)
    teacher[0, :4] = math.log(0.25 * (1 - 1e-3))
    teacher[0, 4:] = math.log(1e-3 / (vocabulary - 4))
    student = torch.full((1, vocabulary), math.log(0.5 / (vocabulary - 4)))
    student[0, :4] = math.log(0.125)
    found = sparse(student, teacher, [support]).item()
    # 1/2 log(0.5 / 0.999) + 1/2 log(0.5 / 0.001)
    assert found == pytest.approx(2.7612, abs=1e-3)
    log_p, log_q = student[0, :4].double(), teacher[0, :4].double()
    truncated = (log_p.exp() * (log_p - log_q)).sum().item()
    assert truncated == pytest.approx(0.5 * math.log(0.5 / 0.999), abs=1e-6)
    assert truncated < -0.34  # leaking would be rewarded
    # And the gradient brings mass back: descending raises the logits of the support.
    leaking = student.clone().requires_grad_()
    sparse(leaking, teacher, [support]).backward()
    assert (leaking.grad[0, :4] < 0).all()
    assert (leaking.grad[0, 4:] > 0).all()


def test_gradient_on_the_whole_vocabulary_is_the_dense_one():
    generator = torch.Generator().manual_seed(1)
    student = torch.randn(8, 12, generator=generator, requires_grad=True)
    teacher = torch.randn(8, 12, generator=generator)
    ids = torch.arange(12).expand(8, -1)
    (mine,) = torch.autograd.grad(sparse(student, teacher, ids).sum(), student)
    (dense,) = torch.autograd.grad(dense_reverse_kl(student, teacher).sum(), student)
    torch.testing.assert_close(mine, dense, rtol=1e-5, atol=1e-6)
    # By hand: p_v (log p_v - log q_v - KL).
    p, q = student.detach().double().softmax(-1), teacher.double().softmax(-1)
    ratio = p.log() - q.log()
    hand = p * (ratio - (p * ratio).sum(-1, keepdim=True))
    torch.testing.assert_close(dense.double(), hand, rtol=1e-5, atol=1e-6)


def test_gradient_with_a_tail_is_that_of_the_coarse_distribution():
    generator = torch.Generator().manual_seed(2)
    student = torch.randn(8, 12, generator=generator, requires_grad=True)
    teacher = torch.randn(8, 12, generator=generator)
    support = [1, 5, 6]
    sparse(student, teacher, [support] * 8).sum().backward()
    p, q = student.detach().double().softmax(-1), teacher.double().softmax(-1)
    ratio = torch.empty_like(p)
    outside = [place for place in range(12) if place not in support]
    tail_p, tail_q = p[:, outside].sum(-1), q[:, outside].sum(-1)
    ratio[:, support] = (p.log() - q.log())[:, support]
    ratio[:, outside] = (tail_p.log() - tail_q.log())[:, None]  # one outcome for all of them
    hand = p * (ratio - (p * ratio).sum(-1, keepdim=True))
    torch.testing.assert_close(student.grad.double(), hand, rtol=1e-4, atol=1e-6)


def test_gradient_agrees_with_finite_differences():
    generator = torch.Generator().manual_seed(3)
    student = torch.randn(1, 6, generator=generator)
    teacher = torch.randn(1, 6, generator=generator)
    moving = student.clone().requires_grad_()
    sparse(moving, teacher, [[0, 4]]).backward()
    step = 1e-4
    for place in range(6):
        up, down = np.float64(student[0].numpy()), np.float64(student[0].numpy())
        up[place] += step
        down[place] -= step
        slope = (
            reference(up, teacher[0].numpy(), [0, 4]) - reference(down, teacher[0].numpy(), [0, 4])
        ) / (2 * step)
        assert moving.grad[0, place].item() == pytest.approx(slope, abs=1e-5)


def with_tail(mass, size=10):
    """The log-probabilities of the support {0, 1} and of the tail, floored; logits for them."""
    inside = math.log((1 - mass) / 2) if mass < 1 else -1e4
    outside = math.log(mass) if mass > 0 else -1e4
    logits = [inside] * 2 + [outside - math.log(size - 2)] * (size - 2)
    return max(inside, FLOOR), max(outside, FLOOR), torch.tensor([logits])


@pytest.mark.parametrize("of_student", [0.0, 1e-12, 0.5, 1.0])
@pytest.mark.parametrize("of_teacher", [0.0, 1e-12, 0.5, 1.0])
@pytest.mark.parametrize("autocast", [False, True])
def test_value_and_gradient_are_finite_at_extreme_tails(of_student, of_teacher, autocast):
    inside, outside, student = with_tail(of_student)
    teacher_inside, teacher_outside, teacher = with_tail(of_teacher)
    student.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = sparse(student, teacher, [[0, 1]])
    found.sum().backward()
    expected = (1 - of_student) * (inside - teacher_inside)
    expected += of_student * (outside - teacher_outside)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_a_support_of_the_whole_vocabulary_has_a_finite_gradient(scale):
    student = (torch.tensor([[0.5, -1.0, 2.0]]) * scale).requires_grad_()
    found = sparse(student, torch.tensor([[1.0, 0.0, -1.0]]), [[0, 1, 2]])
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(student.grad).all()


def test_a_repeated_id_counts_once():
    student, teacher = logits_of(STUDENT), logits_of(TEACHER)
    distinct = torch.tensor([[True, False, True, False]])
    found = sparse(student, teacher, [[0, 0, 1, 1]], distinct)
    torch.testing.assert_close(found, sparse(student, teacher, [[0, 1]]))
    mass = on_support(student, torch.tensor([[0, 0, 1, 1]]), distinct)
    assert mass[0, 1].item() == mass[0, 3].item() == FLOOR
    assert mass.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
    # Counted twice, it would be another number.
    assert sparse(student, teacher, [[0, 0, 1, 1]]).item() != pytest.approx(found.item(), abs=1e-3)


def test_renormalise_makes_the_outcomes_sum_to_one():
    rounded = torch.tensor([[0.5, 0.3, 0.19], [0.7, 0.2, 0.15], [1.0, 0.0, 0.0]]).log()
    found = renormalise(rounded)
    assert found.exp().sum(-1).tolist() == pytest.approx([1.0, 1.0, 1.0], abs=1e-6)
    expected = [0.5 / 0.99, 0.3 / 0.99, 0.19 / 0.99]
    assert found[0].exp().tolist() == pytest.approx(expected, abs=1e-6)
    assert found[2].tolist() == [0.0, FLOOR, FLOOR]
