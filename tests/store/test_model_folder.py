"""What a model folder must hold, and what its manifest says."""

import hashlib
import json
import shutil

import pytest
from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import Whitespace

from mpd.store.digests import file_digest
from mpd.store.model_folder import (
    load_model,
    read_manifest,
    require_same_tokens,
    write_manifest,
)
from mpd.store.tokenizer_files import chat_template, load_tokenizer, stop_ids, token_map


@pytest.fixture
def folder(student, tmp_path):
    """A copy of the student's folder, without its manifest."""
    shutil.copytree(student.parent, tmp_path / "model", ignore=lambda *_: ["manifest.json"])
    return tmp_path / "model"


def digest_of(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def test_the_manifest_says_what_the_model_is(folder, tokenizer):
    write_manifest(folder)
    manifest = read_manifest(folder / "manifest.json")
    files = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
    contents = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    expected = {
        "weights": digest_of({"model.safetensors": contents["model.safetensors"]}),
        "tokenizer": digest_of(
            [
                {name: contents[name] for name in ("tokenizer.json", "tokenizer_config.json")},
                [tokenizer.eos_token_id],
            ]
        ),
        "token_map": digest_of(tokenizer.get_vocab()),
        "chat_template": digest_of(tokenizer.chat_template),
        "digest": digest_of(contents),
        "context_length": 256,
        "turn_end": tokenizer.eos_token_id,
        "files": {path.name: len(path.read_bytes()) for path in files},
        "digests": contents,
    }
    assert manifest == {**expected, "checksum": digest_of(expected)}


UNKNOWN = "<unk>"
TOKENIZERS = {
    "BPE": (models.BPE(), trainers.BpeTrainer(vocab_size=60, show_progress=False)),
    "Unigram": (
        models.Unigram(),
        trainers.UnigramTrainer(
            vocab_size=30, unk_token=UNKNOWN, special_tokens=[UNKNOWN], show_progress=False
        ),
    ),
    "WordLevel": (
        models.WordLevel(unk_token=UNKNOWN),
        trainers.WordLevelTrainer(special_tokens=[UNKNOWN], show_progress=False),
    ),
    "WordPiece": (
        models.WordPiece(unk_token=UNKNOWN),
        trainers.WordPieceTrainer(vocab_size=60, special_tokens=[UNKNOWN], show_progress=False),
    ),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_token_map_is_that_of_the_tokenizer(kind, tmp_path):
    model, trainer = TOKENIZERS[kind]
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.train_from_iterator(["hello world 1+2=3 and other words"] * 9, trainer)
    tokenizer.add_special_tokens(["<eos>", "hello"])
    tokenizer.add_tokens(["zebra"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert token_map(tmp_path) == tokenizer.get_vocab(with_added_tokens=True)


def test_a_manifest_does_not_depend_on_an_older_one(folder):
    write_manifest(folder)
    first = (folder / "manifest.json").read_bytes()
    write_manifest(folder)
    assert (folder / "manifest.json").read_bytes() == first


def test_padding_and_weights_do_not_change_the_token_map(student, teacher):
    one, other = read_manifest(student), read_manifest(teacher)
    require_same_tokens(one, other)
    for key in ("weights", "digest"):
        assert one[key] != other[key]
    for key in ("chat_template", "tokenizer"):
        assert one[key] == other[key]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokenizer.json", {"normalizer": {"type": "NFC"}}),
        ("tokenizer_config.json", {"eos_token": "<|endoftext|>"}),
        ("generation_config.json", {"eos_token_id": [1, 2]}),
    ],
)
def test_what_cuts_or_ends_text_changes_the_tokenizer_and_not_the_token_map(folder, name, change):
    write_manifest(folder)
    before = read_manifest(folder / "manifest.json")
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    write_manifest(folder)
    after = read_manifest(folder / "manifest.json")
    assert after["tokenizer"] != before["tokenizer"]
    assert after["token_map"] == before["token_map"]
    assert after["weights"] == before["weights"]


def test_one_stop_id_is_the_same_as_a_list_of_it(folder, tokenizer):
    digests = []
    for listed in (tokenizer.eos_token_id, [tokenizer.eos_token_id]):
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": listed}))
        write_manifest(folder)
        digests.append(read_manifest(folder / "manifest.json")["tokenizer"])
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("model.safetensors", r"model: no \*\.safetensors in it"),
        ("tokenizer.json", r"model: no tokenizer\.json"),
        ("chat_template.jinja", r"model: no chat template"),
        ("config.json", r"model: no config\.json"),
    ],
)
def test_a_folder_without_a_file_is_refused(folder, missing, message):
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=message):
        write_manifest(folder)
    assert not (folder / "manifest.json").exists()


def test_the_context_length_is_found_or_asked_for(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({"text_config": {**config, "max_position_embeddings": 77}}))
    write_manifest(folder)
    assert read_manifest(folder / "manifest.json")["context_length"] == 77
    del config["max_position_embeddings"]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json: no max_position_embeddings"):
        write_manifest(folder)


DAMAGED = {
    "cut": (b'{"a": ', "not JSON ("),
    "empty": (b"", "not JSON ("),
    "Latin-1": ('{"a": "é"}'.encode("latin-1"), "not JSON ("),
    "marked": (b'\xef\xbb\xbf{"a": 1}', "not JSON ("),
    "deep": (b"[" * 100_000, "JSON that is nested too deep"),
    "list": (b"[]", "a JSON list, not an object"),
    "null": (b"null", "a JSON NoneType, not an object"),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "model.safetensors.index.json",
    ],
)
def test_a_damaged_file_is_one_sentence_with_its_name(folder, name, damage):
    content, message = DAMAGED[damage]
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError) as caught:
        write_manifest(folder)
    assert str(caught.value).startswith(f"{folder / name}: {message}")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_other_json_files_of_a_folder_are_not_looked_at(folder):
    (folder / "modules.json").write_text("[]")
    write_manifest(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b'{"max_position_embeddings": "2048"}', "no max_position_embeddings"),
        ("config.json", b'{"text_config": []}', "no max_position_embeddings"),
        ("config.json", b'{"text_config": [1]}', "no max_position_embeddings"),
        ("tokenizer.json", b'{"model": null}', "no vocabulary or no added tokens"),
        ("chat_template.jinja", "é".encode("latin-1"), "not UTF-8 ("),
        ("manifest.json", b'{"files": ', "not JSON ("),
    ],
)
def test_a_file_without_its_content_is_named(folder, name, content, message):
    write_manifest(folder)
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_manifest(folder / name) if name == "manifest.json" else write_manifest(folder)
    assert str(caught.value).startswith(f"{folder / name}: {message}")


def test_a_missing_manifest_is_refused(folder):
    with pytest.raises(ValueError, match=r"manifest\.json: no such manifest"):
        read_manifest(folder / "manifest.json")


def test_a_changed_or_missing_file_is_refused(folder):
    write_manifest(folder)
    weights = folder / "model.safetensors"
    size = weights.stat().st_size
    with weights.open("ab") as file:
        file.write(b"\0")
    manifest = folder / "manifest.json"
    for change, found in ((lambda: None, f"{size + 1} bytes"), (weights.unlink, "no file")):
        change()
        with pytest.raises(ValueError) as caught:
            read_manifest(manifest)
        assert str(caught.value) == (
            f"{weights}: expected the {size} bytes of {manifest}, found {found}; run again with "
            f"--forcerun {manifest} --config store=refresh, which computes it again"
        )


def test_different_token_maps_are_refused(folder, student):
    path = folder / "tokenizer.json"
    state = json.loads(path.read_text())
    vocabulary = state["model"]["vocab"]
    vocabulary["1"], vocabulary["2"] = vocabulary["2"], vocabulary["1"]
    path.write_text(json.dumps(state))
    write_manifest(folder)
    swapped = read_manifest(folder / "manifest.json")
    with pytest.raises(ValueError, match="different token maps"):
        require_same_tokens(read_manifest(student), swapped)


def test_the_chat_template_is_a_file_or_in_the_tokenizer_config(folder):
    written = (folder / "chat_template.jinja").read_text()
    assert chat_template(folder) == written
    (folder / "chat_template.jinja").unlink()
    config = folder / "tokenizer_config.json"
    inside = {**json.loads(config.read_text()), "chat_template": "{{ messages }}"}
    config.write_text(json.dumps(inside))
    assert chat_template(folder) == "{{ messages }}"


def test_stop_ids_come_from_tokenizer_and_generation_config(folder, tokenizer):
    path = folder / "generation_config.json"
    eos = tokenizer.eos_token_id
    for listed, expected in [([7, eos, 8], [eos, 7, 8]), (5, [eos, 5]), (None, [eos])]:
        path.write_text(json.dumps({"eos_token_id": listed}))
        assert stop_ids(folder, tokenizer) == expected
    path.unlink()
    assert stop_ids(folder, tokenizer) == [eos]
    mute = load_tokenizer(folder)
    mute.eos_token = None
    with pytest.raises(ValueError, match="neither tokenizer nor generation config"):
        stop_ids(folder, mute)


def test_file_digest_is_sha256(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_models_load_in_evaluation_mode_and_the_wanted_dtype(student):
    import torch

    for name in ("float32", "bfloat16"):
        model = load_model(student.parent, name)
        assert not model.training
        assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, name)}
