"""Structural rationales, and an embedder whose vectors can be computed by hand."""

import json
from pathlib import Path

import numpy as np


def rationale(category="Sums", intent=("sum",), path=("Start", "Now"), budget=None, answer="2"):
    """A teacher's JSON along a path; its difficulty is 1 for a budget of two steps, else 2."""
    budget = len(path) if budget is None else budget
    intent = list(intent) if isinstance(intent, tuple) else intent
    route = {
        "category": category,
        "intent": intent,
        "difficulty": 1 if budget <= 2 else 2,
        "budget": budget,
        "reasoning_path": list(path),
    }
    steps = dict.fromkeys(path, "1+3=4.")
    return json.dumps({"route": route, "rationale": steps, "ans": answer}, ensure_ascii=False)


class FakeEmbedder:
    """Texts to unit vectors in the plane, at the angle in degrees that a test gives each of them.

    `asked` are the lists of texts that were embedded.
    """

    def __init__(self, **angles):
        self.angles, self.asked = {name.replace("_", " "): at for name, at in angles.items()}, []

    def __call__(self, texts):
        self.asked.append(list(texts))
        radians = np.radians([self.angles[text] for text in texts])
        return np.stack([np.cos(radians), np.sin(radians)], axis=1)


WORDS = (
    "add",
    "take",
    "sum",
    "of",
    "two",
    "three",
    "numbers",
    "start",
    "now",
    "then",
    "1",
    "2",
    "3",
)


def write_embedder(folder: Path, words=WORDS) -> Path:
    """A model folder that embeds a text as the mean of its words: each has an axis of its own.

    A model of the kind of BERT without layers, with weights that leave the words as they are. The
    mean of all axes is taken away by its norm, so that unlike words are not quite at right angles.
    """
    import torch
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words])}
    backend = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split(
        Regex("[A-Za-z]+|[0-9]|[+-]"), "removed", invert=True
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"
    )
    config = BertConfig(
        vocab_size=len(ids),
        hidden_size=len(ids),
        num_hidden_layers=0,
        num_attention_heads=1,
        intermediate_size=1,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
    )
    model = BertModel(config)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.copy_(torch.eye(len(ids)))
        model.embeddings.position_embeddings.weight.zero_()
        model.embeddings.token_type_embeddings.weight.zero_()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
