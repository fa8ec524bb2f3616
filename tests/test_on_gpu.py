"""What runs on a card has the results of a CPU. Skipped where there is no GPU."""

import importlib

import pytest
import torch

from mpd.scoring.attention import PACKED
from mpd.scoring.forward import completion_states, pack
from mpd.scoring.output_head import head_of
from mpd.scoring.packed_model import prepare
from mpd.training.master_weights import MasterWeights
from mpd.training.recomputation import Recomputation
from tests.scoring.test_attention import sequences, states_one_by_one, tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]
ARCHITECTURES = {"Llama": "llama", "Qwen3": "qwen3", "Mistral": "mistral", "Gemma3Text": "gemma3"}
# Kernels for packed sequences take heads of 16 and more.
SIZES = {"hidden_size": 64, "head_dim": 32, "intermediate_size": 96}


@pytest.fixture(autouse=True)
def plain_classes():
    """Kernels replace the classes and functions of a modelling module: put them back."""
    modules = [
        importlib.import_module(f"transformers.models.{name}.modeling_{name}")
        for name in ARCHITECTURES.values()
    ]
    before = [dict(vars(module)) for module in modules]
    yield
    for module, names in zip(modules, before, strict=True):
        vars(module).update(names)


@torch.no_grad()
@pytest.mark.parametrize("kernels", ["auto", "none"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_packed_states_are_those_of_a_cpu(architecture, kernels, dtype, limit):
    prompts, completions = sequences()
    expected = states_one_by_one(tiny(architecture, "eager", **SIZES), prompts, completions)
    model = tiny(architecture, PACKED, **SIZES).to("cuda", dtype)
    prepare(model, kernels)
    states = completion_states(model, pack(prompts, completions)).float().cpu()
    assert (states - expected).norm() < limit * expected.norm()


@torch.no_grad()
def test_logits_in_bfloat16_are_not_rounded_twice():
    model = tiny("Qwen3", PACKED, **SIZES).to("cuda", torch.bfloat16)
    hidden = torch.randn(40, 64, device="cuda", dtype=torch.bfloat16)
    logits = head_of(model, 90).logits(hidden)
    exact = hidden.double() @ model.get_output_embeddings().weight[:90].double().T
    assert (logits - exact).norm() < 1e-5 * exact.norm()


def test_as_many_layers_are_recomputed_as_memory_asks_for():
    model = tiny("Qwen3", PACKED, num_hidden_layers=6, **SIZES).to("cuda").train()
    recomputation = Recomputation(model, "auto", 64, torch.optim.AdamW(model.parameters()))
    recomputation.before_step()
    recomputation.before_micro_batch(1000)
    assert recomputation.number == 0
    recomputation.before_micro_batch(10**9)
    assert recomputation.number == 6


def test_trained_adapters_come_to_the_cpu_and_frozen_weights_are_rounded():
    from peft import LoraConfig, get_peft_model

    model = tiny("Qwen3", PACKED, **SIZES).to("cuda")
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    values = MasterWeights(adapted, torch.bfloat16).values()
    assert {weight.device.type for weight in values.values()} == {"cpu"}
    assert {weight.dtype for weight in values.values()} == {torch.float32}
    assert {weight.dtype for weight in adapted.parameters()} == {torch.bfloat16}
