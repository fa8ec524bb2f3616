"""Models with random weights and tokenizers of the right size.

A model folder without weights has a configuration and a tokenizer. Where one is loaded, weights
are made on the device that computes: a model of 8 billion parameters is there in a second, and no
file of 16 GB is written or read.
"""

from pathlib import Path
from typing import Any

import shapes

# Logits are about as peaked as those of a trained model if this is their standard deviation.
LOGIT_SPREAD = 6.0
ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
NUM_ADDED = 26


def random_model(
    config: Any, dtype: Any = None, attn_implementation: str | None = None, **_: Any
) -> Any:
    """A model with random weights, made on the GPU where there is one.

    They are drawn in bf16, so that those of a model in float32 are the same.
    """
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    chosen = {"attn_implementation": attn_implementation} if attn_implementation else {}
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"), torch.no_grad():
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, **chosen)
        head = model.get_output_embeddings().weight
        head.normal_(std=LOGIT_SPREAD / head.shape[1] ** 0.5)
    return model.to(dtype or torch.bfloat16)


def make_weights_when_loading() -> None:
    """Let transformers make random weights for a folder that has none."""
    from transformers import AutoConfig, AutoModelForCausalLM

    read = AutoModelForCausalLM.from_pretrained

    def load(folder: Any, **options: Any) -> Any:
        if any(Path(folder).glob("*.safetensors")):
            return read(folder, **options)
        return random_model(AutoConfig.from_pretrained(folder), **options)

    AutoModelForCausalLM.from_pretrained = load


def write_model(folder: Path, name: str, dtype: str | None = None) -> Path:
    """A folder with the configuration and a tokenizer of a shape; with weights in a `dtype`."""
    if not folder.exists():
        fresh = folder.with_name(f"{folder.name}.unfinished")
        if dtype:
            import torch

            random_model(shapes.SHAPES[name].config(), getattr(torch, dtype)).save_pretrained(fresh)
        else:
            shapes.SHAPES[name].config().save_pretrained(fresh)
        tokenizer_of(shapes.SHAPES[name].num_tokens).save_pretrained(fresh)
        fresh.rename(folder)
    return folder


def tokenizer_of(num_tokens: int) -> Any:
    """A byte-pair tokenizer with so many tokens, and the control tokens of Qwen3."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces, merges = list(letters), []
    for piece in pieces:  # which grows: pairs of letters, then triples
        room = num_tokens - NUM_ADDED - len(pieces)
        merges += [(piece, letter) for letter in letters[:room]] if room > 0 else []
        pieces += [piece + letter for letter in letters[:room]] if room > 0 else []
        if room <= len(letters):
            break
    tokenizer = Tokenizer(
        models.BPE({piece: number for number, piece in enumerate(pieces)}, merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    others = [f"<|extra_{number}|>" for number in range(NUM_ADDED - len(ADDED))]
    tokenizer.add_special_tokens([*ADDED, *others])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
