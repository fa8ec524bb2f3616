"""models: a model of the hub on a machine without a network, from the Hugging Face cache."""

import json
import shutil

import pytest

from mpd.store.model_folder import load_model, read_manifest
from tests.hub_cache import OTHER, REVISION, run_offline, write_repository

NAME = "somebody/small-model"
DOWNLOAD = (
    f"download it where there is a network (hf download {NAME} --revision {REVISION}), or set "
    "HF_HOME to the folder of a cache that has it"
)


@pytest.fixture
def user_model(student, tmp_path):
    """A folder as the hub has it, with weights in a folder that nobody loads."""
    folder = tmp_path / "user_model"
    shutil.copytree(student.parent, folder)
    (folder / "manifest.json").unlink()
    (folder / "original").mkdir()
    (folder / "original" / "consolidated.safetensors").write_bytes(b"another format")
    (folder / "README.md").write_text("a model\n")
    return folder


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def offline(tmp_path, home):
    """A function that runs the stage without a network: its manifest, or its last line."""

    def run(path=NAME, revision=REVISION, **changes):
        output = tmp_path / "resolved" / "manifest.json"
        settings = {"source": "hub", "path": path, "revision": revision}
        arguments = ["--settings", json.dumps(settings), "--output", str(output)]
        arguments += ["--store", str(tmp_path / "store")]
        done = run_offline(home, "mpd.models", *arguments, **changes)
        assert "Traceback" not in done.stderr
        if done.returncode:
            return done.stderr.splitlines()[-1].removeprefix("models: error: ")
        return output

    return run


@pytest.mark.parametrize("network", ["forbidden", "broken"])
def test_a_cached_model_is_resolved_without_a_network(user_model, home, offline, student, network):
    write_repository(home, "model", NAME, user_model)
    broken = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    manifest = offline(**(broken if network == "broken" else {}))
    assert read_manifest(manifest) == read_manifest(student)
    assert not any(path.is_symlink() for path in manifest.parent.iterdir())
    shutil.rmtree(home)  # later stages need only what was resolved
    assert load_model(manifest.parent, "float32").config.hidden_size == 32


def test_the_next_stages_run_offline_with_a_cached_model(user_model, home, offline, tmp_path):
    write_repository(home, "model", NAME, user_model)
    manifest = offline()
    problems = tmp_path / "problems.parquet"
    store = ("--store", str(tmp_path / "store"))
    settings = {"source": "tiny", "num_problems": 2}
    arguments = ["--settings", json.dumps(settings), "--output", str(problems), *store]
    done = run_offline(home, "mpd.problems", *arguments)
    assert done.returncode == 0, done.stderr
    decoding = {"num_samples": 1, "temperature": 0, "max_new_tokens": 4}
    settings = {"engine": "transformers", "benchmarks": {"held": decoding}}
    arguments = ["--settings", json.dumps(settings), "--student", str(manifest), *store]
    arguments += ["--benchmarks", f"held={problems}", "--output", str(tmp_path / "answers")]
    done = run_offline(home, "mpd.answers", *arguments)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "answers" / "held.parquet").is_file()


def test_an_incomplete_cache_is_named(user_model, home, offline):
    snapshot = write_repository(home, "model", NAME, user_model)
    (snapshot / "original" / "consolidated.safetensors").unlink()  # not needed
    weights = snapshot / "model.safetensors"
    weights.resolve().unlink()  # its download was stopped
    assert offline() == (
        f"{NAME}: HF_HUB_OFFLINE forbids a download, and its folder {snapshot} in the cache lacks "
        f"model.safetensors; {DOWNLOAD}"
    )
    weights.unlink()
    assert offline() == (
        f"{snapshot}: no *.safetensors in it; save the weights as safetensors; {DOWNLOAD}"
    )


def test_a_cache_that_lacks_a_file_of_its_list_is_named(user_model, home, offline, tmp_path):
    snapshot = write_repository(home, "model", NAME, user_model)
    trees = snapshot.parents[1] / "trees"
    trees.mkdir()
    names = [str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()]
    files = {name: {"size": 1, "blob_id": "0" * 40} for name in [*names, "not_taken.bin"]}
    (trees / f"{REVISION}.json").write_text(json.dumps({"format_version": 1, "files": files}))
    assert offline().name == "manifest.json"
    shutil.rmtree(tmp_path / "store")
    (snapshot / "generation_config.json").unlink()  # it would be a model with other stop ids
    assert f"{snapshot} in the cache lacks generation_config.json; {DOWNLOAD}" in offline()


def test_a_sharded_model_that_lacks_a_part_is_named(user_model, home, offline):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    (user_model / "model.safetensors.index.json").write_text(json.dumps(index))
    snapshot = write_repository(home, "model", NAME, user_model)
    assert offline() == (
        f"{snapshot}: no model-00001-of-00002.safetensors, which model.safetensors.index.json "
        f"names; copy it again; {DOWNLOAD}"
    )


def test_what_the_cache_lacks_is_one_sentence(user_model, home, offline):
    repository = home / "hub" / "models--somebody--small-model"
    assert offline() == (
        f"{NAME}: HF_HUB_OFFLINE forbids a download, and the cache has no folder {repository}; "
        f"{DOWNLOAD}"
    )
    write_repository(home, "model", NAME, user_model)
    message = offline(revision=OTHER)
    assert f"{repository} has other revisions: {REVISION}; download it" in message
    assert offline(path="a/b/c").startswith("Repo id must be in the form")
