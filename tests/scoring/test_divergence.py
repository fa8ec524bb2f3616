"""Divergences: hand-computed constants, an independent formula in float64, and gradients."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpd.config.distill import ClampedSettings, DistillSettings
from mpd.scoring.divergence import LOGPROB_FLOOR, dense, divergence_of, reverse_kl
from mpd.scoring.outcomes import outcomes_of
from mpd.scoring.output_head import OutputHead, chunked_loss

DIVERGENCES = {
    "reverse": {"divergence": "reverse_kl"},
    "forward": {"divergence": "forward_kl"},
    "jensen-shannon": {"divergence": "jensen_shannon"},
    "jensen-shannon 1/4": {"divergence": "jensen_shannon", "beta": 0.25},
    "mix": {"divergence": "mix", "forward_share": 0.25},
}
each_divergence = pytest.mark.parametrize("name", DIVERGENCES)


def of(name, num_entries=None, **changes):
    """A divergence by its name in DIVERGENCES."""
    settings = DistillSettings(learning_rate=1.0, **{**DIVERGENCES[name], **changes})
    return divergence_of(settings, num_entries)


def sparse(divergence, student_logits, teacher_logits, ids, num_buckets=1):
    """A divergence on a support of distinct ids, the same in all rows."""
    ids = torch.tensor(ids).expand(len(student_logits), -1)
    distinct = torch.ones_like(ids, dtype=torch.bool)
    student, teacher = (
        outcomes_of(logits, ids, distinct, num_buckets)[0]
        for logits in (student_logits, teacher_logits)
    )
    return divergence(student, teacher)


def probabilities(logits):
    """Of one position, in float64."""
    masses = np.exp(np.float64(logits) - np.max(np.float64(logits)))
    return masses / masses.sum()


def clamped(p, q, bound):
    """The clamped forward KL by its definition, one id after another."""
    terms = [b * (math.log(b) - math.log(a)) for a, b in zip(p, q, strict=True)]
    return sum(min(term, bound) for term in terms)


CLAMPED = ClampedSettings(learning_rate=1.0, divergence="clamped_forward_kl", max_entry=0.05)


def test_the_clamped_forward_kl_by_hand():
    """q = (.5, .3, .2) and p = (.2, .2, .6): terms .4581 and .1216 are clamped, -.2197 is not."""
    student, teacher = torch.tensor([[0.2, 0.2, 0.6]]).log(), torch.tensor([[0.5, 0.3, 0.2]]).log()
    found = divergence_of(CLAMPED)(student, teacher)
    assert found.item() == pytest.approx(0.05 + 0.05 + 0.2 * math.log(0.2 / 0.6), abs=1e-6)
    wide = CLAMPED.model_copy(update={"max_entry": 1.0})
    forward = 0.5 * math.log(2.5) + 0.3 * math.log(1.5) + 0.2 * math.log(1 / 3)
    assert divergence_of(wide)(student, teacher).item() == pytest.approx(forward, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 1.1])
def test_the_clamped_forward_kl_and_its_gradient_in_float64(temperature):
    """Against a loop over the ids, and a gradient of differences, at the paper's temperature."""
    rng = np.random.default_rng(0)
    student_logits, teacher_logits = 3 * rng.standard_normal((2, 9, 50))

    def expected(values):
        pairs = zip(values / temperature, teacher_logits / temperature, strict=True)
        return [clamped(probabilities(one), probabilities(other), 0.05) for one, other in pairs]

    student = torch.tensor(student_logits, dtype=torch.float32, requires_grad=True)
    teacher = torch.tensor(teacher_logits, dtype=torch.float32)
    found = dense(divergence_of(CLAMPED), student / temperature, teacher / temperature)
    np.testing.assert_allclose(found.detach().numpy(), expected(student_logits), atol=2e-6)
    found.sum().backward()
    step = 1e-6
    for token in range(0, 50, 7):
        change = np.zeros(50)
        change[token] = step
        higher, lower = expected(student_logits + change), expected(student_logits - change)
        slopes = (np.array(higher) - np.array(lower)) / (2 * step)
        np.testing.assert_allclose(student.grad[:, token].numpy(), slopes, atol=1e-5)


def coarse(values, ids, num_buckets):
    """Probabilities of the entries, then of the rest of every bucket: a loop over all ids."""
    width = math.ceil(len(values) / num_buckets)
    rest = [0.0] * num_buckets
    for token, value in enumerate(values):
        if token not in ids:
            rest[token // width] += value
    return np.array([*values[list(ids)], *rest])


def kl(one, other):
    """Of probabilities; what has none counts nothing, and none is below exp(LOGPROB_FLOOR)."""
    one, other = (
        np.maximum(one, math.exp(LOGPROB_FLOOR)),
        np.maximum(other, math.exp(LOGPROB_FLOOR)),
    )
    return (one * (np.log(one) - np.log(other))).sum()


def reference(name, p, q):
    """A divergence of DIVERGENCES between student p and teacher q, by its definition."""
    if name == "reverse":
        return kl(p, q)
    if name == "forward":
        return kl(q, p)
    if name == "mix":
        return 0.25 * kl(q, p) + 0.75 * kl(p, q)
    beta = {"jensen-shannon": 0.5, "jensen-shannon 1/4": 0.25}[name]
    between = beta * q + (1 - beta) * p
    return beta * kl(q, between) + (1 - beta) * kl(p, between)


# Student 1/2, 1/4, 1/8, 1/8 and teacher 1/4 each.
STUDENT = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
TEACHER = torch.tensor([[0.25, 0.25, 0.25, 0.25]]).log()


def test_reverse_kl_by_hand():
    # Entropy of the student: 1/2·1 + 1/4·2 + 2·1/8·3 = 7/4 bits, against 2 bits.
    found = dense(reverse_kl, STUDENT, TEACHER)
    assert found.tolist() == pytest.approx([math.log(2) / 4], abs=1e-7)
    # On the first id 1/2 log 2 + 1/2 log(2/3); with two buckets 1/2 log 2 + 0 + 1/4 log(1/2).
    one, two = (sparse(reverse_kl, STUDENT, TEACHER, [0], buckets).item() for buckets in (1, 2))
    assert one == pytest.approx(0.143841036, abs=1e-7)
    assert two == pytest.approx(math.log(2) / 4, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "whole", "first", "last"),
    [
        # Of the vocabulary: (1/2, 1/4, 1/8, 1/8) and (1/4, 1/4, 1/4, 1/4); of id 0 and one tail:
        # (1/2, 1/2) and (1/4, 3/4); of id 3 and two: (1/8, 3/4, 1/8) and (1/4, 1/2, 1/4).
        ("reverse", 0.173286795, 0.143841036, 0.130812036),
        ("forward", 0.173286795, 0.130812036, 0.143841036),
        ("jensen-shannon", 0.042474759, 0.033822076, 0.033822076),
        ("jensen-shannon 1/4", 0.032009323, 0.024870036, 0.026048221),
        ("mix", 0.173286795, 0.140583786, 0.134069286),
    ],
)
def test_constants(name, whole, first, last):
    divergence = of(name)
    assert dense(divergence, STUDENT, TEACHER).item() == pytest.approx(whole, abs=1e-7)
    assert sparse(divergence, STUDENT, TEACHER, [0], 1).item() == pytest.approx(first, abs=1e-7)
    assert sparse(divergence, STUDENT, TEACHER, [3], 2).item() == pytest.approx(last, abs=1e-7)


@each_divergence
def test_rows_are_independent_and_zero_where_equal(name):
    student, teacher = torch.cat([STUDENT, TEACHER]), torch.cat([TEACHER, TEACHER])
    for found in (
        dense(of(name), student, teacher),
        sparse(of(name), student, teacher, [3]),
    ):
        assert found[0] > 0.01
        assert found[1].item() == pytest.approx(0.0, abs=1e-7)


@each_divergence
def test_logits_may_be_shifted(name):
    for shift in (50.0, -1000.0):
        found = sparse(of(name), STUDENT + shift, TEACHER - shift, [0, 2], 2)
        same = sparse(of(name), STUDENT, TEACHER, [0, 2], 2)
        torch.testing.assert_close(found, same, rtol=0, atol=2e-4)


@st.composite
def distributions(draw, size=None):
    """Float32 logits of student and teacher, from flat to peaked, and a support."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = size or draw(st.integers(2, 40))
    scales = [[draw(st.sampled_from([0.01, 1.0, 4.0, 12.0]))] for _ in range(2)]
    student, teacher = np.float32(rng.normal(size=(2, size)) * scales)
    ids = rng.permutation(size)[: draw(st.integers(1, size))].tolist()
    return torch.from_numpy(student)[None], torch.from_numpy(teacher)[None], ids


@settings(max_examples=50, deadline=None)
@given(drawn=distributions(), num_buckets=st.integers(1, 45))
def test_sparse_is_between_zero_and_dense(drawn, num_buckets):
    student, teacher, ids = drawn
    p, q = probabilities(student[0]), probabilities(teacher[0])
    p_coarse, q_coarse = coarse(p, ids, num_buckets), coarse(q, ids, num_buckets)
    for name in DIVERGENCES:
        whole = dense(of(name), student, teacher).item()
        found = sparse(of(name), student, teacher, ids, num_buckets).item()
        tolerance = 1e-5 * max(1.0, whole)
        assert whole == pytest.approx(reference(name, p, q), abs=tolerance)
        assert found == pytest.approx(reference(name, p_coarse, q_coarse), abs=tolerance)
        assert -1e-6 <= found <= whole + tolerance


@settings(max_examples=50, deadline=None)
@given(drawn=distributions(size=24))
def test_more_buckets_lose_less(drawn):
    student, teacher, ids = drawn
    for name in DIVERGENCES:
        whole = dense(of(name), student, teacher).item()
        tolerance = 1e-5 * max(1.0, whole)
        # Each number of buckets cuts those of the one before.
        found = [
            sparse(of(name), student, teacher, ids, num_buckets).item()
            for num_buckets in (1, 2, 4, 12, 24)
        ]
        assert all(more >= less - tolerance for less, more in pairwise(found))
        assert found[-1] == pytest.approx(whole, abs=tolerance)


def random_logits(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator) * 3


@each_divergence
@pytest.mark.parametrize("num_buckets", [1, 7])
def test_the_whole_vocabulary_is_the_dense_one(name, num_buckets):
    student, teacher = random_logits(50, 40, seed=0), random_logits(50, 40, seed=1)
    student.requires_grad_()
    ids = torch.randperm(40, generator=torch.Generator().manual_seed(2)).tolist()
    found, whole = (
        sparse(of(name), student, teacher, ids, num_buckets),
        dense(of(name), student, teacher),
    )
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)
    of_found, of_whole = (torch.autograd.grad(of.sum(), student)[0] for of in (found, whole))
    torch.testing.assert_close(of_found, of_whole, rtol=1e-5, atol=1e-5)


@each_divergence
@pytest.mark.parametrize("num_buckets", [1, 3, 9])
def test_gradient_agrees_with_finite_differences(name, num_buckets):
    student = random_logits(4, 7, seed=3).double().requires_grad_()
    teacher = random_logits(4, 7, seed=4).double()

    def loss(logits):
        return sparse(of(name), logits, teacher, [4, 0, 5], num_buckets)

    assert torch.autograd.gradcheck(loss, student)


def test_gradient_with_a_tail_is_that_of_the_coarse_distribution():
    student, teacher = random_logits(8, 12, seed=5).requires_grad_(), random_logits(8, 12, seed=6)
    support, buckets = [1, 5, 6], [[0, 2, 3], [4, 7], [8, 9, 10, 11]]
    sparse(reverse_kl, student, teacher, support, 3).sum().backward()
    p, q = student.detach().double().softmax(-1), teacher.double().softmax(-1)
    ratio = p.log() - q.log()
    for inside in buckets:  # one outcome for all of them
        ratio[:, inside] = (p[:, inside].sum(-1) / q[:, inside].sum(-1)).log()[:, None]
    hand = p * (ratio - (p * ratio).sum(-1, keepdim=True))
    torch.testing.assert_close(student.grad.double(), hand, rtol=1e-4, atol=1e-6)


SIZE = 10


def with_tail(mass):
    """Logits [1, SIZE] with a mass outside the support {0, 1}, even inside and outside."""
    inside = math.log((1 - mass) / 2) if mass < 1 else -1e4
    outside = math.log(mass / (SIZE - 2)) if mass > 0 else -1e4
    return torch.tensor([[inside] * 2 + [outside] * (SIZE - 2)])


@each_divergence
@pytest.mark.parametrize("of_student", [0.0, 1e-12, 0.5, 1.0])
@pytest.mark.parametrize("of_teacher", [0.0, 1e-12, 0.5, 1.0])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_value_and_gradient_are_finite_at_extreme_tails(name, of_student, of_teacher, autocast):
    # An identity for weights makes logits of hidden states.
    hidden, teacher = with_tail(of_student).requires_grad_(), with_tail(of_teacher)
    head = OutputHead(torch.eye(SIZE).requires_grad_(), None, 1.0, None, SIZE)
    ids, distinct = torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool)
    cached = outcomes_of(teacher, ids, distinct, 2)[0]

    def evaluate(logits, part):
        assert logits.dtype == torch.float32
        found = of(name)(outcomes_of(logits, ids, distinct, 2)[0], cached)
        return found.sum(), found.detach()

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss, _ = chunked_loss(hidden, head, evaluate, 1)
    loss.backward()
    seen = hidden.detach().bfloat16() if autocast else hidden.detach()
    p, q = (coarse(probabilities(logits[0].float()), [0, 1], 2) for logits in (seen, teacher))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(reference(name, p, q), rel=1e-5, abs=1e-6)
    assert torch.isfinite(hidden.grad).all()
    assert torch.isfinite(head.weight.grad).all()


@each_divergence
@pytest.mark.parametrize("gap", [70, 77, 79, 80, 83, 89, 92, 95, 98, 101, 104, 300])
def test_a_vanishing_tail_of_the_student_has_a_finite_gradient(name, gap):
    """The inverse of a mass below the smallest normal float32 overflows."""
    student = torch.tensor([[0.0] * 2 + [-float(gap)] * (SIZE - 2)]).requires_grad_()
    found = sparse(of(name), student, with_tail(0.5), [0, 1], 2)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("scale", [1.0, 300.0])
@each_divergence
def test_a_support_of_the_whole_vocabulary_has_a_finite_gradient(name, scale):
    student = (torch.tensor([[0.5, -1.0, 2.0]]) * scale).requires_grad_()
    found = sparse(of(name), student, torch.tensor([[1.0, 0.0, -1.0]]), [0, 1, 2])
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(student.grad).all()


@pytest.fixture
def leak():
    """Student and teacher in float64: half of the student's mass is outside the support {0..3}.

    The teacher has 0.22 % outside, almost all of it in the first of two buckets, and the student
    leaks into the second.
    """
    q = np.full(1000, 7e-19 / 500)
    q[:500] = 0.0022 / 496
    q[:4] = 0.9978 / 4
    p = np.full(1000, 1e-9 / 496)
    p[:4] = 0.125
    p[500:] = 0.5 / 500
    return p / p.sum(), q / q.sum()


def test_leaking_outside_the_support_costs(leak):
    """The leak test of the methods: what the tail bucket is for, and the ablations miss."""
    p, q = leak
    student, teacher = (torch.from_numpy(np.log(values))[None] for values in leak)
    support = [0, 1, 2, 3]
    inside_p, inside_q = p[:4], q[:4]
    expected = {
        "bucket": kl(coarse(p, support, 1), coarse(q, support, 1)),
        "truncated": (inside_p * np.log(inside_p / inside_q)).sum(),
        "renormalised": kl(inside_p / inside_p.sum(), inside_q / inside_q.sum()),
    }
    printed = {"bucket": 2.37, "truncated": -0.35, "renormalised": 0.0}
    gradients = {}
    for tail, value in expected.items():
        leaking = student.clone().requires_grad_()
        found = sparse(of("reverse", 4, tail=tail), leaking, teacher, support)
        assert found.item() == pytest.approx(value, abs=1e-9)
        assert value == pytest.approx(printed[tail], abs=5e-3)
        found.backward()
        gradients[tail] = leaking.grad[0]
    full = kl(p, q)
    assert full == pytest.approx(20.2, abs=0.05)
    # Descending brings the mass back, rewards the leak, or does not see it.
    assert (gradients["bucket"][:4] < 0).all()
    assert (gradients["bucket"][500:] > 0).all()
    assert (gradients["truncated"][:4] > 0).all()
    assert (gradients["truncated"][500:] < 0).all()
    assert gradients["renormalised"].abs().max() < 1e-12
    # A second bucket sees nearly all of it.
    two = sparse(reverse_kl, student, teacher, support, 2).item()
    assert two == pytest.approx(kl(coarse(p, support, 2), coarse(q, support, 2)), abs=1e-9)
    assert full - 1e-6 < two <= full + 1e-9


@each_divergence
@pytest.mark.parametrize("tail", ["truncated", "renormalised"])
def test_ablations_leave_the_tail_out(name, tail):
    student, teacher = random_logits(1, 9, seed=7), random_logits(1, 9, seed=8)
    p, q = (probabilities(logits[0])[[2, 7, 1]] for logits in (student, teacher))
    if tail == "renormalised":
        p, q = p / p.sum(), q / q.sum()
    found = sparse(of(name, 3, tail=tail), student, teacher, [2, 7, 1], 4)
    assert found.item() == pytest.approx(reference(name, p, q), abs=1e-6)
