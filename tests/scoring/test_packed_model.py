"""Models for packed sequences: passes that compare outputs run once on a machine."""

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from mpd.scoring.attention import PACKED
from mpd.scoring.packed_model import prepare

SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """A folder for markers of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def model(dtype=torch.float32, kind=Qwen3ForCausalLM, **changes):
    config = Qwen3Config(**(SMALL | changes), attn_implementation=PACKED)
    return kind(config).to(dtype).eval()


def passes_of(checked, kernels="none"):
    """How many passes the check of a model takes."""
    passes = []
    handle = checked.base_model.register_forward_hook(lambda *_: passes.append(1))
    prepare(checked, kernels)
    handle.remove()
    return len(passes)


def test_an_architecture_is_checked_once_for_all_its_weights():
    assert passes_of(model()) == 4  # two compare heads, two compare sequences
    assert passes_of(model()) == 0


@pytest.mark.parametrize("changes", [{"dtype": torch.bfloat16}, {"hidden_size": 24}])
def test_what_outputs_depend_on_is_checked_again(changes):
    passes_of(model())
    assert passes_of(model(**changes)) == 4


def test_a_model_that_was_refused_is_checked_again():
    class Scaled(Qwen3ForCausalLM):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits * 2 + 1
            return output

    for _ in range(2):
        with pytest.raises(ValueError, match="Scaled: its logits are not its output head"):
            prepare(model(kind=Scaled), "none")


def test_without_a_folder_for_markers_each_job_checks(caches, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert [passes_of(model()) for _ in range(2)] == [4, 4]
