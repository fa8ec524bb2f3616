"""Embeddings: the mean over the tokens of a text, of norm 1, whatever stands beside it."""

import json

import numpy as np
import pytest

from mpd.store.model_folder import write_manifest
from mpd.text import embedding
from mpd.text.embedding import Embedder
from tests.bank import WORDS, write_embedder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_embedder(tmp_path_factory.mktemp("embedder"))
    write_manifest(folder, is_chat_model=False)
    return folder


def expected(*words):
    """The vector of a text of these words: a layer norm of each axis, their mean, its norm 1."""
    size = len(WORDS) + 2
    axes = np.eye(size)[[WORDS.index(word) + 2 for word in words]]
    rows = axes - 1 / size
    rows /= np.sqrt((rows**2).mean(axis=1, keepdims=True))
    mean = rows.mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_a_vector_is_the_mean_over_its_own_tokens(folder, monkeypatch):
    embed = Embedder(folder / "manifest.json", threads=1)
    texts = ["Add, then take two numbers", "sum", "add take"]
    wanted = [
        expected("add", "then", "take", "two", "numbers"),
        expected("sum"),
        expected("add", "take"),
    ]
    assert embed(texts) == pytest.approx(np.stack(wanted), abs=1e-5)
    monkeypatch.setattr(embedding, "BATCH_SIZE", 1)
    assert embed(texts) == pytest.approx(np.stack(wanted), abs=1e-5)
    assert embed([]).shape[0] == 0


def test_a_text_is_cut_where_the_model_was(folder, tmp_path):
    embed = Embedder(folder / "manifest.json", threads=1)
    assert embed(["add " * 16 + "sum"]) == pytest.approx(embed(["add"]), abs=1e-6)
    short = write_embedder(tmp_path / "short")
    (short / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 1}))
    write_manifest(short, is_chat_model=False)
    assert Embedder(short / "manifest.json", 1)(["add sum"]) == pytest.approx(
        embed(["add"]), abs=1e-6
    )


def test_a_changed_model_is_refused(folder, tmp_path):
    other = write_embedder(tmp_path / "other")
    write_manifest(other, is_chat_model=False)
    config = other / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(ValueError, match=r"config\.json: expected"):
        Embedder(other / "manifest.json", 1)(["add"])
