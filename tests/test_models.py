"""models: where a model comes from, and the folder that stages read."""

import json
import os
import shutil

import pytest

from mpd import models
from mpd.store.model_folder import load_model, read_manifest


@pytest.fixture
def run(tmp_path):
    """A function that runs the stage; it returns the resolved folder."""

    def run(*more, **settings):
        output = tmp_path / "resolved" / "manifest.json"
        arguments = ["--settings", json.dumps(settings), "--output", str(output), *more]
        models.main([*arguments, "--store", str(tmp_path / "store")])
        return output.parent

    return run


@pytest.fixture
def user_model(student, tmp_path):
    """A folder as a user has it: weights, tokenizer, other files, no manifest."""
    folder = tmp_path / "user_model"
    shutil.copytree(student.parent, folder)
    (folder / "manifest.json").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"not taken")
    (folder / "original").mkdir()
    return folder


def test_a_folder_is_copied_and_left_alone(run, user_model, student):
    modes = {path.name: path.stat().st_mode for path in user_model.iterdir()}
    folder = run(source="folder", path=str(user_model))
    assert read_manifest(folder / "manifest.json") == read_manifest(student)
    taken = {path.name for path in user_model.iterdir()} - {"pytorch_model.bin", "original"}
    ours = {"manifest.json", "provenance.json", ".provenance.receipt"}
    assert {path.name for path in folder.iterdir()} == taken | ours
    for name in taken:
        assert (folder / name).read_bytes() == (user_model / name).read_bytes()
        assert not (folder / name).samefile(user_model / name)
        assert oct((folder / name).stat().st_mode & 0o777) == "0o644"
    assert {path.name: path.stat().st_mode for path in user_model.iterdir()} == modes
    assert all(path.stat().st_nlink == 1 for path in user_model.iterdir() if path.is_file())
    (user_model / "config.json").write_text("{}")  # the user may go on with it
    assert load_model(folder, "float32").config.hidden_size == 32


def test_changed_weights_are_another_model(run, user_model, teacher):
    first = read_manifest(run(source="folder", path=str(user_model)) / "manifest.json")
    shutil.copyfile(teacher.parent / "model.safetensors", user_model / "model.safetensors")
    second = read_manifest(run(source="folder", path=str(user_model)) / "manifest.json")
    assert first["weights"] != second["weights"]
    assert first["token_map"] == second["token_map"]


def test_a_model_is_resolved_once(run, user_model, caplog):
    settings = {"source": "folder", "path": str(user_model)}
    with caplog.at_level("INFO", "mpd"):
        run(**settings)
        run(**settings)
    assert [message.split()[0] for message in caplog.messages] == ["computed", "reused"]


@pytest.mark.parametrize("damage", ["missing", "truncated", "truncated with the store's"])
def test_a_damaged_resolved_model_is_repaired_as_its_message_says(run, user_model, student, damage):
    settings = {"source": "folder", "path": str(user_model)}
    folder = run(**settings)
    weights, manifest = folder / "model.safetensors", folder / "manifest.json"
    if damage != "truncated with the store's":
        weights.unlink()
    if damage == "truncated":
        weights.write_bytes(b"")
    elif damage != "missing":
        weights.chmod(0o644)
        os.truncate(weights, 10)
    with pytest.raises(ValueError, match=rf"--forcerun {manifest} --config store=refresh"):
        read_manifest(manifest)
    run("--mode", "refresh", **settings)
    assert read_manifest(manifest) == read_manifest(student)
    assert weights.read_bytes() == (student.parent / "model.safetensors").read_bytes()


def test_the_provenance_of_a_student_of_ours_stays_with_it(run, user_model, student):
    (user_model / "provenance.json").write_text('{"kind": "student"}')
    folder = run(source="folder", path=str(user_model))
    assert read_manifest(folder / "manifest.json") == read_manifest(student)
    assert json.loads((folder / "provenance.json").read_text())["kind"] == "models"


def test_a_folder_without_a_chat_template_is_refused(run, user_model, tmp_path):
    (user_model / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=f"^{user_model}: no chat template"):
        run(source="folder", path=str(user_model))
    assert not (tmp_path / "resolved").exists()
    assert not list((tmp_path / "store").rglob("*.safetensors"))  # before weights are copied


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("model.safetensors", r"no \*\.safetensors in it; save the weights as safetensors"),
        ("tokenizer.json", r"no tokenizer\.json"),
        ("config.json", r"no config\.json"),
    ],
)
def test_an_incomplete_folder_is_refused(run, user_model, tmp_path, missing, message):
    (user_model / missing).unlink()
    with pytest.raises(ValueError, match=f"^{user_model}: {message}"):
        run(source="folder", path=str(user_model))
    assert not (tmp_path / "resolved").exists()


def test_a_folder_without_a_model_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(ValueError, match=f"{name}: not a model folder"):
            run(source="folder", path=str(tmp_path / name))


def test_a_link_to_nothing_in_a_folder_is_named(run, user_model):
    """As in a folder of the Hugging Face cache whose download was stopped, or copied by halves."""
    weights = user_model / "model.safetensors"
    weights.unlink()
    weights.symlink_to(user_model / "blobs" / "0")
    with pytest.raises(ValueError, match=f"^{weights}: no file, or a link to nothing; copy the"):
        run(source="folder", path=str(user_model))


def test_a_folder_of_links_is_a_model(run, user_model, student, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in user_model.glob("*.*"):
        (linked / path.name).symlink_to(path)
    folder = run(source="folder", path=str(linked))
    assert read_manifest(folder / "manifest.json") == read_manifest(student)
    assert not any(path.is_symlink() for path in folder.iterdir())


@pytest.mark.parametrize("content", ["cut", "pointer", "empty"])
def test_weights_that_are_none_are_named(run, user_model, content):
    weights = user_model / "model.safetensors"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    contents = {"cut": weights.read_bytes()[:-100], "pointer": pointer, "empty": b""}
    weights.write_bytes(contents[content])
    with pytest.raises(ValueError, match=f"^{weights}: damaged, or only the pointer of Git LFS"):
        run(source="folder", path=str(user_model))


def test_a_part_of_the_weights_that_is_missing_is_named(run, user_model):
    index = {"weight_map": {"a": "model-00002-of-00002.safetensors", "b": "model.safetensors"}}
    (user_model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=f"^{user_model}: no model-00002-of-00002.safetensors, wh"):
        run(source="folder", path=str(user_model))


def test_a_model_of_the_hub_is_downloaded_at_its_revision(run, user_model, monkeypatch):
    asked = []

    def snapshot_download(name, *, revision, local_dir, **_):
        asked.append((name, revision))
        shutil.copytree(user_model, local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    folder = run(source="hub", path="somebody/model", revision="0" * 40)
    assert asked == [("somebody/model", "0" * 40)]
    assert "model.safetensors" in read_manifest(folder / "manifest.json")["files"]
    assert not (folder / "pytorch_model.bin").exists()


def test_a_damaged_config_is_refused_by_its_own_name(run, user_model):
    (user_model / "config.json").write_text('{"model_type": "qwen3", ')
    with pytest.raises(ValueError) as caught:
        run(source="folder", path=str(user_model))
    assert str(caught.value).startswith(f"{user_model / 'config.json'}: not JSON (")


def test_a_config_without_context_length_is_refused_by_its_own_name(run, user_model):
    (user_model / "config.json").write_text("{}")
    with pytest.raises(
        ValueError, match=rf"^{user_model}/config\.json: no max_position_embeddings"
    ):
        run(source="folder", path=str(user_model))


@pytest.mark.parametrize("missing", ["chat_template.jinja", "model.safetensors"])
def test_an_incomplete_model_of_the_hub_is_named(run, user_model, monkeypatch, missing):
    (user_model / missing).unlink()
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda name, *, local_dir, **_: shutil.copytree(user_model, local_dir),
    )
    with pytest.raises(ValueError, match=r"^somebody/model: no "):
        run(source="hub", path="somebody/model", revision="0" * 40)


def test_a_gguf_file_without_a_chat_template_is_named(run, student, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = tmp_path / "model.gguf"
    path.touch()
    tokenizer = AutoTokenizer.from_pretrained(student.parent)
    tokenizer.chat_template = None
    model = AutoModelForCausalLM.from_pretrained(student.parent)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: model)
    with pytest.raises(ValueError, match=f"^{path}: no chat template"):
        run(source="gguf", path=str(path))


def test_a_gguf_file_that_is_not_there_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match=r"model\.gguf: no such GGUF file"):
        run(source="gguf", path=str(tmp_path / "model.gguf"))
    with pytest.raises(
        ValueError, match=r"absent/model\.gguf: no such package; pip install absent"
    ):
        run(source="gguf", path="package:absent/model.gguf")
    with pytest.raises(ValueError, match=r"mpd/model\.gguf: no such GGUF file"):
        run(source="gguf", path="package:mpd/model.gguf")


def test_a_package_is_looked_for_without_running_it(run, tmp_path, monkeypatch):
    (tmp_path / "loud").mkdir()
    (tmp_path / "loud" / "__init__.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"loud/model\.gguf: no such GGUF file"):
        run(source="gguf", path="package:loud/model.gguf")
    with pytest.raises(ValueError, match=r"loud\.part/model\.gguf: no such package"):
        run(source="gguf", path="package:loud.part/model.gguf")


def test_a_model_of_the_embedded_world_is_pretrained(run, tokenizer):
    settings = {"source": "tiny", "num_steps": 1}
    student = read_manifest(run(**settings, role="student", seed=0) / "manifest.json")
    other = read_manifest(run(**settings, role="student", seed=1) / "manifest.json")
    assert student["token_map"] == other["token_map"]
    assert student["weights"] != other["weights"]
