"""The policy gradient of realised tokens: by hand, and against a dense reference in float64."""

import math

import numpy as np
import pytest
import torch

from mpd.config.distill import DistillSettings, FixedAdvantageSettings, RelaxedSettings
from mpd.config.policy_gradient import FixedAdvantage, Relaxed
from mpd.training.objective import SUMS, Objective
from mpd.training.policy_gradient import PolicyGradient
from tests.embedded import Embedded
from tests.training.test_objective import batch_of, without_teacher

PLAIN = DistillSettings(learning_rate=1.0, divergence="policy_gradient")
LENGTHS, NUM_IDS = [4, 3, 5], 12


def relaxed(**changes):
    options = Relaxed(**changes)
    return RelaxedSettings(
        learning_rate=1.0,
        divergence="relaxed_policy_gradient",
        relaxed=options,
        reward_floor=options.reward_floor,
    )


def fixed(**changes):
    return FixedAdvantageSettings(
        learning_rate=1.0,
        divergence="fixed_advantage",
        fixed_advantage=FixedAdvantage(**changes),
    )


@pytest.mark.parametrize(
    ("mixture", "log_odds", "scaled_log"),
    [(0.1, -2.197, -2.558), (0.2, -1.386, -2.012), (0.3, -0.847, -1.720)],
)
def test_both_readings_of_the_floor_are_those_of_the_published_table(mixture, log_odds, scaled_log):
    assert Relaxed(mixture=mixture).reward_floor == pytest.approx(log_odds, abs=5e-4)
    other = Relaxed(mixture=mixture, floor="scaled_log")
    assert other.reward_floor == pytest.approx(scaled_log, abs=5e-4)


def test_a_floor_that_the_mixture_does_not_give_is_refused():
    with pytest.raises(ValueError, match=r"reward_floor is -2\.0, but mixture 0\.3"):
        RelaxedSettings(learning_rate=1.0, divergence="relaxed_policy_gradient", reward_floor=-2.0)


# Four tokens: log p, log q, log p_old and entropy of each.
LOGPROBS = torch.tensor([-1.0, -2.0, -0.5, -3.0])
SCORES = {
    "teacher_logprob": torch.tensor([-0.5, -5.0, -1.0, -3.5]),
    "old_logprob": torch.tensor([-1.0, -1.0, -0.5, -4.0]),
}
ENTROPY = torch.tensor([0.1, 2.0, 0.7, 0.4])


def by_hand(settings, threshold=None):
    """Losses, which count, and the gradient of their sum at the log-probabilities."""
    policy = PolicyGradient(settings)
    policy.threshold = threshold
    logprobs = LOGPROBS.clone().requires_grad_()
    losses, counts = policy(logprobs, ENTROPY, SCORES)
    (gradient,) = torch.autograd.grad(losses.sum(), logprobs)
    return losses.detach().tolist(), counts.tolist(), gradient.tolist()


def test_plain_rewards_by_hand():
    """A = log q - log p is 0.5, -3, -0.5, -0.5; the gradient of -A log p at log p is -A."""
    losses, counts, gradient = by_hand(PLAIN)
    assert losses == pytest.approx([-0.5, 3.0, 0.5, 0.5])
    assert gradient == pytest.approx(losses)
    assert counts == [True] * 4


def test_the_first_phase_by_hand():
    """The second token is under the floor, log(0.3 / 0.7); ρ is 1, e^-1, 1 and e."""
    losses, counts, gradient = by_hand(relaxed())
    assert counts == [True, False, True, True]
    assert losses == pytest.approx([-0.5, 0.0, 0.5, 0.5 * math.e])
    assert gradient == pytest.approx(losses)


def test_the_second_phase_by_hand():
    """Tokens of an entropy of 0.5 and more count; the second has the floor as its reward."""
    losses, counts, gradient = by_hand(relaxed(), threshold=0.5)
    assert counts == [False, True, True, False]
    assert losses == pytest.approx([0.0, -math.log(0.3 / 0.7) / math.e, 0.5, 0.0])
    assert gradient == pytest.approx(losses)
    losses, _, gradient = by_hand(relaxed(importance_ratio=False), threshold=0.5)
    assert losses == pytest.approx([0.0, -math.log(0.3 / 0.7), 0.5, 0.0])
    assert gradient == pytest.approx(losses)


def test_a_fixed_advantage_by_hand():
    """Tokens less probable than 0.2 are those of log p under -1.61."""
    losses, counts, gradient = by_hand(fixed(max_probability=0.2, advantage=-0.5))
    assert losses == gradient == pytest.approx([0.0, 0.5, 0.0, 0.5])
    assert counts == [True] * 4


def test_phases_and_thresholds():
    policy = PolicyGradient(relaxed(exploration=0.3, entropy_share=0.2))
    assert [policy.is_exploring(step, 10) for step in range(4)] == [True, True, True, False]
    assert PolicyGradient(PLAIN).is_exploring(9, 10)
    policy = PolicyGradient(relaxed(exploration=0.55, entropy_share=0.2))
    assert sum(policy.is_exploring(step, 100) for step in range(100)) == 55
    entropies = torch.randn(1001, generator=torch.Generator().manual_seed(0)).abs()
    threshold = policy.threshold_of(entropies)
    assert threshold == entropies.sort().values[800].item()
    assert (entropies >= threshold).sum() == 201


def scored_batch(seed=0):
    """A micro-batch with log-probabilities of a teacher and of an older student in float32."""
    batch = batch_of(LENGTHS, NUM_IDS, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    values = -4 * torch.rand(2, sum(LENGTHS), generator=generator)
    return without_teacher(batch, teacher_logprob=values[0], old_logprob=values[1])


def dense_reference(model, batch, settings, threshold):
    """Loss and gradient at the head in float64, by a loop over positions and ids."""
    weight = model.head.weight.detach().double().numpy()
    hidden = model.base_model.weight.detach().double().numpy()
    inputs = batch.packed.ids[0, batch.packed.predicts].tolist()
    loss, gradient, counted = 0.0, np.zeros_like(weight), 0
    for place, token in enumerate(inputs):
        logits = weight @ hidden[token]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        realised = batch.places["realised"][place].item()
        reward = batch.places["teacher_logprob"][place].item() - math.log(p[realised])
        ratio, counts = 1.0, True
        if isinstance(settings, FixedAdvantageSettings):
            options = settings.fixed_advantage
            reward = options.advantage if p[realised] < options.max_probability else 0.0
        if isinstance(settings, RelaxedSettings):
            counts = reward >= settings.reward_floor
            if threshold is not None:
                counts = -(p * np.log(p)).sum() >= threshold
            reward = max(reward, settings.reward_floor)
            ratio = p[realised] / math.exp(batch.places["old_logprob"][place].item())
        if counts:
            counted += 1
            loss -= ratio * reward
            one = np.zeros(len(p))
            one[realised] = 1
            gradient -= np.outer(ratio * reward * (one - p), hidden[token])
    count = len(inputs)
    return loss / count, gradient / count, counted / count


@pytest.mark.parametrize("chunk_size", [2, 64])
@pytest.mark.parametrize(
    ("settings", "threshold"),
    [
        (PLAIN, None),
        (relaxed(mixture=0.1), None),
        (relaxed(floor="scaled_log"), 1.5),
        (fixed(max_probability=0.05), None),
    ],
    ids=["plain", "first phase", "second phase", "fixed"],
)
def test_loss_and_gradient_are_those_of_float64(settings, threshold, chunk_size):
    model, batch = Embedded(NUM_IDS, 4), scored_batch()
    objective = Objective(model, NUM_IDS, [5], settings, chunk_size)
    objective.policy.threshold = threshold
    loss, sums = objective(batch)
    loss.backward()
    expected, gradient, counted = dense_reference(model, batch, settings, threshold)
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(model.head.weight.grad, gradient, rtol=1e-3, atol=2e-6)
    named = dict(zip(SUMS, sums.tolist(), strict=True))
    assert named["counted"] / named["positions"] == pytest.approx(counted)
    assert named["divergence"] / named["positions"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    if isinstance(settings, RelaxedSettings):
        assert 0 < counted < 1


def test_entropies_are_those_of_the_loss():
    model, batch = Embedded(NUM_IDS, 4), scored_batch()
    objective = Objective(model, NUM_IDS, [5], relaxed(), 5)
    entropies = objective.entropies(batch)
    _, sums = objective(batch)
    assert not entropies.requires_grad
    named = dict(zip(SUMS, sums.tolist(), strict=True))
    assert entropies.sum().item() == pytest.approx(named["student_entropy"], rel=1e-6)


def test_rewards_are_those_of_the_current_student():
    """After its weights changed, a student has other rewards for the same cache."""
    model, batch = Embedded(NUM_IDS, 4), scored_batch()
    objective = Objective(model, NUM_IDS, [5], PLAIN, 64)
    before = objective(batch)[0].item()
    with torch.no_grad():
        model.head.weight.mul_(0.5)
    expected, _, _ = dense_reference(model, batch, PLAIN, None)
    assert objective(batch)[0].item() == pytest.approx(expected, rel=1e-4) != before
