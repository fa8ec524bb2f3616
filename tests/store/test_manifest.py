"""Damaged and swapped files of a model folder: each is refused by name, by whoever reads it."""

import json
import os
import re
import shutil

import pytest

from mpd.config.resources import GenerationResources
from mpd.engines.transformers import TransformersEngine
from mpd.store.model_folder import load_model, read_manifest, require_weights

FIX = r"; run again with --forcerun \S+/manifest\.json --config store=refresh, which computes it a"
SIZE = r"expected the \d+ bytes of \S+"
HEX = "[0-9a-f]{12}"


@pytest.fixture(autouse=True)
def own_markers(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


@pytest.fixture
def folder(student, tmp_path):
    return shutil.copytree(student.parent, tmp_path / "model")


@pytest.fixture
def other(write_model, tmp_path):
    """A model of other weights of the same size, as that of another round."""
    return write_model(tmp_path / "other", seed=3).parent


def flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def remove(path, *keys):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: content[key] for key in content if key not in keys}))


MANIFEST = {
    "cut": (lambda path, _: os.truncate(path, 40), "not JSON ("),
    "empty": (lambda path, _: path.write_bytes(b""), "not JSON ("),
    "list": (lambda path, _: path.write_text("[]"), "a JSON list, not an object"),
    "a text for a number": (
        lambda path, _: edit(path, context_length="256"),
        "expected context_length to be int, found '256'",
    ),
    "a key missing": (
        lambda path, _: remove(path, "digest"),
        "expected digest to be str, found nothing",
    ),
    "edited": (
        lambda path, _: edit(path, context_length=4096),
        "expected the checksum of its other keys, found '",
    ),
    "flipped": (lambda path, _: flip(path, path.read_bytes().index(b"256")), "expected the check"),
    "without its checksum": (
        lambda path, _: remove(path, "checksum"),
        "expected the checksum of its other keys, found nothing",
    ),
    "of another model": (lambda path, other: shutil.copy(other / path.name, path), None),
}
FILES = {
    "missing": (lambda path, _: path.unlink(), rf"{SIZE}, found no file"),
    "cut": (
        lambda path, _: os.truncate(path, 40),
        rf"{SIZE}, found 40 bytes",
    ),
    "empty": (
        lambda path, _: os.truncate(path, 0),
        rf"{SIZE}, found 0 bytes",
    ),
    "flipped": (
        lambda path, _: flip(path),
        rf"expected the content with SHA-256 {HEX} of \S+, found {HEX}",
    ),
    "flipped in its first bytes": (
        lambda path, _: flip(path, 9),
        rf"expected the content with SHA-256 {HEX} of \S+, found {HEX}",
    ),
}
READERS = {
    "of digests": lambda folder: read_manifest(folder / "manifest.json"),
    "that samples": lambda folder: (
        TransformersEngine(folder / "manifest.json", "float32", GenerationResources()).model
    ),
    "that loads": lambda folder: load_model(folder, "float32"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", MANIFEST)
def test_a_damaged_manifest_is_refused(folder, other, damage, reader):
    change, message = MANIFEST[damage]
    path = folder / "manifest.json"
    change(path, other)
    if message is None and reader == "of digests":
        # Whoever loads the model sees it; others compare the digest with their other inputs.
        assert read_manifest(path)["digest"] == read_manifest(other / path.name)["digest"]
        return
    with pytest.raises(ValueError) as caught:
        READERS[reader](folder)
    if message is None:
        assert str(caught.value).startswith(f"{folder}/model.safetensors: expected the content")
    else:
        assert str(caught.value).startswith(f"{path}: {message}")
    assert re.search(FIX, str(caught.value))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", FILES)
@pytest.mark.parametrize(
    "name", ["tokenizer.json", "config.json", "chat_template.jinja", "generation_config.json"]
)
def test_a_damaged_small_file_is_refused(folder, other, name, damage, reader):
    change, message = FILES[damage]
    change(folder / name, other)
    with pytest.raises(ValueError) as caught:
        READERS[reader](folder)
    assert re.match(f"{re.escape(str(folder / name))}: {message}{FIX}", str(caught.value))


@pytest.mark.parametrize("damage", [*FILES, "of another round"])
def test_damaged_weights_are_not_loaded(folder, other, damage):
    load_model(folder, "float32")
    path = folder / "model.safetensors"
    if damage == "of another round":
        message = FILES["flipped"][1]
        shutil.copy(other / path.name, path)
    else:
        change, message = FILES[damage]
        change(path, other)
    with pytest.raises(ValueError) as caught:
        load_model(folder, "float32")
    assert re.match(f"{re.escape(str(path))}: {message}{FIX}", str(caught.value))


@pytest.mark.parametrize("damage", ["none", "flipped"])
def test_a_manifest_of_an_earlier_version_names_its_weights(folder, damage):
    remove(folder / "manifest.json", "checksum", "digests")
    if damage == "none":
        load_model(folder, "float32")
        return
    flip(folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"/model\.safetensors: expected the content with SHA"):
        load_model(folder, "float32")


def test_weights_of_an_earlier_version_are_hashed_once(folder):
    remove(folder / "manifest.json", "checksum", "digests")
    for path in folder.glob("*.safetensors"):
        os.utime(path, (1, 1))
    require_weights(folder)
    weights = next(folder.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    with weights.open("r+b") as file:
        file.write(content)
    os.utime(weights, (1, 1))  # so that only reading it would tell
    require_weights(folder)
    os.utime(weights, (2, 2))
    with pytest.raises(ValueError, match=r"model\.safetensors: expected the content with SHA-256"):
        require_weights(folder)


def test_a_folder_without_a_manifest_is_the_users_own(folder):
    (folder / "manifest.json").unlink()
    require_weights(folder)
