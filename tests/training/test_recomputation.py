"""How many layers are computed twice, and which."""

import pytest
import torch

from mpd.scoring.attention import PACKED
from mpd.training.recomputation import Recomputation, layers_to_recompute
from tests.scoring.test_attention import tiny


@pytest.mark.parametrize(
    ("num_tokens", "budget", "number"),
    [
        (10, 1200, 0),  # 10 tokens in 10 + 2 layers of 10 bytes
        (10, 1199, 1),  # a recomputed layer saves 10 times 8 bytes
        (10, 1120, 1),
        (10, 1119, 2),
        (10, 0, 10),  # as many as there are
        (1, 0, 10),
    ],
)
def test_layers_to_recompute_by_hand(num_tokens, budget, number):
    assert layers_to_recompute(10, num_tokens, 10, 2, budget) == number


def test_layers_that_save_nothing_are_not_recomputed():
    assert layers_to_recompute(10, 100, 2, 2, 0) == 0


@pytest.fixture
def model():
    return tiny("Qwen3", PACKED, num_hidden_layers=6).train()


def recomputed(model):
    return [layer.gradient_checkpointing for layer in model.model.layers]


def of_model(model, choice):
    optimizer = torch.optim.AdamW(model.parameters())
    return Recomputation(model, choice, 64, optimizer)


def test_layers_are_spread_evenly(model):
    recomputation = of_model(model, True)
    assert recomputed(model) == [True] * 6
    recomputation.set(0)
    assert recomputed(model) == [False] * 6
    recomputation.set(2)
    assert recomputed(model) == [False, False, True, False, False, True]
    recomputation.set(5)
    assert sum(recomputed(model)) == 5


@pytest.mark.parametrize("choice", ["auto", False])
def test_a_cpu_recomputes_nothing_unless_it_is_told_to(model, choice):
    recomputation = of_model(model, choice)
    recomputation.before_step()
    recomputation.before_micro_batch(10**9)
    assert recomputed(model) == [False] * 6


def test_a_loss_over_the_whole_vocabulary_takes_more_memory(model):
    optimizer = torch.optim.AdamW(model.parameters())
    sparse, dense = (
        Recomputation(model, "auto", 64, optimizer, is_dense=is_dense).head_bytes
        for is_dense in (False, True)
    )
    assert dense - sparse == 96 * 64 * (66 - 18)
