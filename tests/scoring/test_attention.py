"""Attention over packed sequences: that of each sequence alone, whatever the architecture asks."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import transformers

from mpd.scoring.attention import PACKED, packed_attention
from mpd.scoring.forward import completion_states, pack
from mpd.scoring.packed_model import prepare
from tests.embedded import random

WINDOW = 4
SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
MIXED = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "head_dim": 4,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 6,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 8,
    "first_k_dense_replace": 1,
}
ARCHITECTURES = {
    "Llama": {},
    "Qwen3": {},
    "Qwen2": {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    "Mistral": {"sliding_window": WINDOW},
    "Phi3": {"sliding_window": WINDOW},
    "Gemma3Text": MIXED | {"query_pre_attn_scalar": 3},
    # Gemma 2 without its cap.
    "Gemma2": MIXED | {"attn_logit_softcapping": None, "query_pre_attn_scalar": 3},
    "Cohere2": MIXED,
    "Olmo2": {},
    "Olmo3": MIXED,
    "Exaone4": MIXED,
    "Afmoe": MIXED | EXPERTS,
    "Granite": {"attention_multiplier": 0.3, "logits_scaling": 2.0},
    "SmolLM3": {"no_rope_layers": [1, 0]},
    "Glm4": {},
    "Starcoder2": {"sliding_window": WINDOW},
    "Mixtral": EXPERTS | {"sliding_window": WINDOW},
    "Qwen3Moe": EXPERTS,
    "DeepseekV3": LATENT,  # values are smaller than keys
}
LENGTHS = [(3, 9), (1, 1), (5, 17), (2, 3)]


def tiny(architecture, attention, **changes):
    """A small random model of an architecture, with the attention of this name."""
    config_class = getattr(transformers, f"{architecture}Config")
    name = architecture.removesuffix("Text")
    config = config_class(**SMALL | ARCHITECTURES.get(architecture, {}) | changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model_class = getattr(transformers, f"{name}ForCausalLM")
        model = model_class._from_config(config, attn_implementation=attention)
    return model.eval()


def sequences(seed=0):
    generator = torch.Generator().manual_seed(seed)
    whole = [torch.randint(1, 96, (sum(pair),), generator=generator).tolist() for pair in LENGTHS]
    prompts = [ids[:cut] for ids, (cut, _) in zip(whole, LENGTHS, strict=True)]
    return prompts, [ids[cut:] for ids, (cut, _) in zip(whole, LENGTHS, strict=True)]


def states_one_by_one(model, prompts, completions):
    """Hidden states by the plain attention of transformers, which has a dense mask."""
    states = []
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = torch.tensor([prompt + completion], device=model.device)
        hidden = model.base_model(ids, use_cache=False).last_hidden_state
        states.append(hidden[0, len(prompt) - 1 : -1])
    return torch.cat(states)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_sequences_are_as_each_alone(architecture):
    model, plain = tiny(architecture, PACKED), tiny(architecture, "eager")
    prepare(model, "auto")
    prompts, completions = sequences()
    packed = completion_states(model, pack(prompts, completions))
    expected = states_one_by_one(plain, prompts, completions)
    torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-5)
    weights = random(*expected.shape, seed=1)
    for states in (packed, expected):
        (states * weights).sum().backward()
    for parameter, other in zip(model.parameters(), plain.parameters(), strict=True):
        found, gradient = parameter.grad, other.grad
        assert (found is None) == (gradient is None)
        if gradient is not None:
            assert (found - gradient).norm() <= 1e-4 * (1 + gradient.norm())


@pytest.mark.parametrize("architecture", ["Mistral", "Gemma3Text"])
def test_a_window_is_seen(architecture):
    """The same model without its window has other states: the case above tells them apart."""
    prompts, completions = sequences()
    narrow, wide = (
        completion_states(
            tiny(architecture, PACKED, sliding_window=window), pack(prompts, completions)
        )
        for window in (WINDOW, 64)
    )
    assert (narrow - wide).abs().max() > 1e-3


def test_bfloat16_is_float32_within_its_rounding():
    prompts, completions = sequences()
    exact = completion_states(tiny("Qwen3", PACKED), pack(prompts, completions))
    rounded = completion_states(tiny("Qwen3", PACKED).bfloat16(), pack(prompts, completions))
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        ("Nemotron", {}, "NemotronAttention: its model does not hand on which sequences"),
        ("Gemma3Text", {"use_bidirectional_attention": True}, "attention in both directions"),
        ("Lfm2", {"layer_types": ["conv", "full_attention"]}, "Lfm2ForCausalLM: layers with conv"),
        ("Gemma2", {"attn_logit_softcapping": 30.0}, "Gemma2Attention: attention with softcap"),
        ("GptOss", {"num_local_experts": 2}, "GptOssAttention: attention with s_aux"),
        ("Llama4Text", {"attention_chunk_size": 8}, "takes no packed sequences"),
        ("Bloom", {"n_layer": 1}, "takes no packed sequences"),
    ],
)
def test_what_no_kernel_can_do_is_refused_by_name(architecture, changes, message):
    model = tiny(architecture, PACKED if architecture != "Bloom" else "eager", **changes)
    with pytest.raises(ValueError, match=message):
        prepare(model, "auto")


def test_other_kinds_of_layers_are_refused_by_name():
    model = tiny("Qwen3", PACKED)
    model.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(ValueError, match="Qwen3ForCausalLM: layers with linear_attention"):
        prepare(model, "auto")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout": 0.1}, r"Layer: attention with dropout \(.*\) is not supported"),
        ({"is_causal": False}, "attention in both directions"),
        ({"attention_mask": torch.zeros(1, 1, 3, 3)}, "a mask of its own"),
        ({"position_bias": torch.zeros(1)}, "position_bias"),
        ({"packed": None}, "does not hand on which sequences are packed"),
    ],
)
def test_options_of_a_layer_are_refused_by_name(changes, message):
    class Layer(torch.nn.Module):
        is_causal = True

    heads = torch.zeros(1, 2, 3, 4)
    options = {"attention_mask": None, "packed": pack([[1]], [[2, 3]])} | changes
    with pytest.raises(ValueError, match=message):
        packed_attention(Layer(), heads, heads, heads, **options)


def test_causal_attention_by_hand():
    """Equal scores: each position has the mean of the values that it sees."""
    zeros, values = (
        torch.zeros(1, 1, 5, 2),
        torch.arange(5.0)[None, None, :, None].expand(1, 1, 5, 2),
    )
    packed = SimpleNamespace(lengths=[3, 2])
    layer = torch.nn.Module()
    found, _ = packed_attention(layer, zeros, zeros, values, None, packed=packed)
    assert found[0, :, 0, 0].tolist() == [0, 0.5, 1, 3, 3.5]
    found, _ = packed_attention(layer, zeros, zeros, values, None, packed=packed, sliding_window=2)
    assert found[0, :, 0, 0].tolist() == [0, 0.5, 1.5, 3, 3.5]


def test_a_rotary_embedding_that_depends_on_the_batch_is_refused():
    """Phi 3 takes other factors for all positions of a batch if its longest sequence is long."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0}
    rope |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    rope |= {"original_max_position_embeddings": 16}
    changes = {"rope_parameters": rope, "original_max_position_embeddings": 16}
    model, plain = (tiny("Phi3", name, **changes) for name in (PACKED, "eager"))
    prepare(model, "auto")
    prompts, completions = sequences()
    for numbers in ([0, 1, 3], [2]):  # of 12, 2 and 5 tokens, and of 22
        part = [[ids[number] for number in numbers] for ids in (prompts, completions)]
        packed, expected = completion_states(model, pack(*part)), states_one_by_one(plain, *part)
        torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-5)
    message = "Phi3ForCausalLM: its rotary embedding .* has sequences of 2 and 22; set"
    with pytest.raises(ValueError, match=message):
        completion_states(model, pack(prompts, completions))


LONG = """
import resource, torch
from tests.scoring.test_attention import tiny
from mpd.scoring.attention import PACKED
from mpd.scoring.forward import completion_states, pack
torch.set_num_threads(2)
model = tiny("Qwen3", PACKED, num_hidden_layers=1, max_position_embeddings=40_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
states = completion_states(model, pack([[1] * 100], [[2] * 32_668]))
states.square().sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_square_of_a_sequence():
    """One trajectory of 32,768 tokens; its square in float32 has 4 GB a head."""
    command = [sys.executable, "-c", LONG]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(output) < 1_000_000  # kilobytes
