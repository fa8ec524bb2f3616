"""Operations of a forward pass by hand-computed values, and the peaks of cards by name."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    Qwen3Config,
)

from mpd.job.flops import forward_flops, peak_flops


def model_of(config):
    """A model without weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def qwen3(request):
    """The shape of Qwen3-1.7B.

    A layer has 2048·2048 weights for queries and as many for outputs, 2048·1024 for keys and for
    values, and 3·2048·6144 in the MLP: 50,331,648.
    """
    config = Qwen3Config(
        hidden_size=2048,
        intermediate_size=6144,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151_936,
        tie_word_embeddings=request.param,
    )
    return model_of(config)


MATRICES = 28 * 50_331_648


def test_every_matrix_counts_twice_for_each_token(qwen3):
    found = forward_flops(qwen3, [1] * 1000, 0)
    attention = 28 * 1000 * 2 * 16 * 128
    assert found == 2 * MATRICES * 1000 + attention == 2_818_686_976_000


def test_the_head_counts_at_the_positions_that_need_it(qwen3):
    without = forward_flops(qwen3, [300, 200], 0)
    assert forward_flops(qwen3, [300, 200], 400) - without == 2 * 400 * 2048 * 151_936


def test_attention_counts_the_square_of_each_sequence(qwen3):
    together = forward_flops(qwen3, [3000], 0)
    apart = forward_flops(qwen3, [1000, 2000], 0)
    assert together - apart == 28 * 2 * 16 * 128 * (3000**2 - 1000**2 - 2000**2)
    assert apart - 2 * MATRICES * 3000 == 28 * 2 * 16 * 128 * 5_000_000 == 573_440_000_000


@pytest.mark.parametrize(("kind", "num_matrices"), [(LlamaConfig, 3), (GPTNeoXConfig, 2)])
def test_heads_without_a_size_share_the_width(kind, num_matrices):
    """An MLP may have a gate or none."""
    config = kind(
        hidden_size=64,
        intermediate_size=100,
        num_hidden_layers=1,
        num_attention_heads=4,
        vocab_size=50,
    )
    layer = 4 * 64 * 64 + num_matrices * 64 * 100
    expected = 2 * layer * 10 + 2 * 4 * 16 * 100 + 2 * 64 * 50 * 10
    assert forward_flops(model_of(config), [10], 10) == expected


def test_a_window_counts_what_it_lets_through():
    def attention(length, kind):
        config = Gemma3TextConfig(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=8,
            sliding_window=100,
            layer_types=[kind],
        )
        return forward_flops(model_of(config), [length], 0) - length * 2 * (4 * 64 + 3 * 64)

    assert attention(100, "sliding_attention") == attention(100, "full_attention") == 2 * 8 * 10_000
    assert attention(1000, "full_attention") == 2 * 8 * 1_000_000
    assert attention(1000, "sliding_attention") == 2 * 8 * (2 * 1000 * 100 - 100**2)


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA B200", 2250e12),
        ("NVIDIA GeForce RTX 3060", None),
        ("NVIDIA L40", None),
        ("NVIDIA A10", None),
        ("cpu", None),
    ],
)
def test_peaks_by_the_name_of_the_card(device, peak):
    assert peak_flops(device) == peak
