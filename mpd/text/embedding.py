"""Embeddings of texts: the mean of a model's last hidden states, of norm 1, on the processor."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpd.store.files import json_object
from mpd.store.foreign_code import SAFE_WEIGHTS, code_refused
from mpd.store.loading import loading
from mpd.store.model_folder import read_manifest, require_weights
from mpd.store.tokenizer_files import load_tokenizer

BATCH_SIZE = 64
LENGTH_FILE = "sentence_bert_config.json"  # of models of the library sentence-transformers


class Embedder:
    """A model that embeds texts, as sentence-transformers does with mean pooling.

    A text is cut at the length that the model was trained for. The model is loaded for the first
    text.
    """

    def __init__(self, manifest: Path, threads: int) -> None:
        self.manifest, self.threads = manifest, threads
        self.model: Any = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """The vectors of texts, in order: rows of float32."""
        if self.model is None:
            self._load()
        import torch

        order = sorted(range(len(texts)), key=lambda place: (len(texts[place]), texts[place]))
        rows: list[np.ndarray] = [np.zeros(0)] * len(texts)
        for start in range(0, len(order), BATCH_SIZE):
            places = order[start : start + BATCH_SIZE]
            inputs = self.tokenizer(
                [texts[place] for place in places],
                padding=True,
                truncation=True,
                max_length=self.length,
                return_tensors="pt",
            )
            with torch.no_grad():
                states = self.model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
            means = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            vectors = torch.nn.functional.normalize(means, dim=1).numpy()
            for place, vector in zip(places, vectors, strict=True):
                rows[place] = vector
        return np.stack(rows) if rows else np.zeros((0, 1), dtype=np.float32)

    def _load(self) -> None:
        """Load model and tokenizer.

        Raises ValueError where the files are not those of the manifest, or need code of their own.
        """
        with loading():
            import torch
            from transformers import AutoModel
            from transformers.utils.logging import disable_progress_bar

            disable_progress_bar()
            torch.set_num_threads(self.threads)
            folder = self.manifest.parent
            require_weights(folder)
            self.tokenizer: Any = load_tokenizer(folder)
            if self.tokenizer.pad_token is None:
                self.tokenizer.pad_token = self.tokenizer.eos_token
            self.length = min(_length(self.manifest), self.tokenizer.model_max_length)
            with code_refused(folder):
                model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32, **SAFE_WEIGHTS)
            self.model = model.eval()


def require_embeddings(manifest: Path, threads: int) -> None:
    """Raise ValueError where a model gives no embeddings, of the longest text that it takes too."""
    try:
        vectors = Embedder(manifest, threads)(["a", "a " * _length(manifest)])
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"{manifest.parent}: its model cannot embed texts ({error}); take an encoder such as "
            "sentence-transformers/all-MiniLM-L6-v2"
        ) from error
    if not np.isfinite(vectors).all():
        raise ValueError(f"{manifest.parent}: its embeddings are not finite; take another model")


def _length(manifest: Path) -> int:
    """The tokens of a text that a model takes: as many as it has positions, or was trained for."""
    length, path = read_manifest(manifest)["context_length"], manifest.parent / LENGTH_FILE
    trained = json_object(path).get("max_seq_length") if path.is_file() else None
    return min(length, trained) if isinstance(trained, int) else int(length)
