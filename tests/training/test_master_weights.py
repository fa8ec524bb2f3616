"""Float32 weights beside a bfloat16 model: rounding happens once, sums are float32."""

import copy

import pytest
import torch

from mpd.scoring.attention import PACKED
from mpd.training.master_weights import MasterWeights
from tests.embedded import random
from tests.scoring.test_attention import tiny


def network(frozen=()):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.GELU(), torch.nn.Linear(16, 3))
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number not in frozen)
    return model


def loss_of(model, inputs):
    return model(inputs).float().square().mean()


INPUTS = [random(5, 6, seed=seed) for seed in range(3)]


def test_in_float32_the_masters_are_the_parameters():
    model = network()
    weights = MasterWeights(model, torch.float32)
    assert all(one is other for one, other in zip(weights.trained, model.parameters(), strict=True))
    for number, inputs in enumerate(INPUTS):
        weights.backward(loss_of(model, inputs), is_last=number == 2)
    plain = network()
    sum(loss_of(plain, inputs) for inputs in INPUTS).backward()
    for weight, parameter in zip(weights.trained, plain.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, parameter.grad)


def test_a_model_cast_once_is_like_autocast():
    """Loss and gradients of rounded weights are those of casts in every forward pass."""
    model, plain = network(), network()
    weights = MasterWeights(model, torch.bfloat16)
    losses = []
    for number, inputs in enumerate(INPUTS):
        loss = loss_of(model, inputs.bfloat16())
        weights.backward(loss, is_last=number == 2)
        with torch.autocast("cpu", torch.bfloat16):
            expected = loss_of(plain, inputs)
        expected.backward()
        losses.append((loss.item(), expected.item()))
    for found, expected in losses:
        assert found == pytest.approx(expected, rel=0.01)
    for weight, parameter in zip(weights.trained, plain.parameters(), strict=True):
        assert weight.grad.dtype == torch.float32
        assert (weight.grad - parameter.grad).norm() < 0.02 * parameter.grad.norm()


def test_gradients_are_summed_in_float32():
    """64 gradients of one half and one of 2^-9, which a sum in bfloat16 would lose."""
    model = torch.nn.Linear(1, 1, bias=False)
    weights = MasterWeights(model, torch.bfloat16)
    for value in [0.5] * 64 + [2.0**-9]:
        inputs = torch.tensor([[value]], dtype=torch.bfloat16)
        weights.backward(model(inputs).sum(), is_last=False)
    assert weights.trained[0].grad.item() == 32 + 2.0**-9
    assert next(model.parameters()).grad is None


def test_small_updates_reach_the_model_together():
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    weights = MasterWeights(model, torch.bfloat16)
    (master,) = weights.trained
    seen = []
    for _ in range(4):  # bfloat16 has steps of 2^-7 above 1
        with torch.no_grad():
            master.add_(2.0**-9)
        weights.copy_to_model()
        seen.append(model.weight.item())
    assert master.item() == 1 + 2.0**-7
    assert seen == [1.0, 1.0, 1 + 2.0**-7, 1 + 2.0**-7]


def test_what_is_saved_is_float32_and_what_computes_stays_rounded():
    model = network()
    before = copy.deepcopy(list(model.parameters()))
    weights = MasterWeights(model, torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    with weights.in_model():
        for parameter, exact in zip(model.parameters(), before, strict=True):
            assert parameter.equal(exact)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_frozen_weights_have_no_float32_copy():
    model = network(frozen=[0])
    weights = MasterWeights(model, torch.bfloat16)
    assert model[0].weight.dtype == torch.bfloat16
    assert list(weights.values()) == ["0.bias", "2.weight", "2.bias"]
    assert weights.is_rounded
    assert not MasterWeights(network(frozen=[0]), torch.float32).is_rounded


def test_buffers_stay_exact():
    """Rounded rotary frequencies would turn a position of 10,000 by several radians."""
    model = tiny("Qwen3", PACKED)
    frequencies = model.model.rotary_emb.inv_freq.clone()
    MasterWeights(model, torch.bfloat16)
    assert model.model.rotary_emb.inv_freq.equal(frequencies)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_a_state_is_loaded_as_it_was():
    one, other = (MasterWeights(network(), torch.bfloat16) for _ in range(2))
    with torch.no_grad():
        for weight in one.trained:
            weight.add_(0.3)
    other.load_state_dict(one.state_dict())
    for weight, same in zip(one.trained, other.trained, strict=True):
        assert weight.equal(same)
    for parameter, weight in zip(other.parameters, one.trained, strict=True):
        assert parameter.equal(weight.bfloat16())
