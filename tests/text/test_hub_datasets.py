"""Datasets of the hub on a machine without a network: what the Hugging Face cache has."""

import json
import os
import re
import shutil

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hub_cache import OTHER, REVISION, run_offline, write_repository

NAME = "somebody/Math-Set"
CARD = """---
configs:
- {config_name: main, default: true, data_files: [{split: train, path: main/train-*}]}
- {config_name: other, data_files: [{split: train, path: other/train-*}]}
---
"""
DOWNLOAD = f"(hf download --repo-type dataset {NAME} --revision {REVISION}), or set HF_HOME to"


@pytest.fixture
def dataset(tmp_path):
    """A folder as the hub has it: two configurations, one with a split of two files."""
    folder = tmp_path / "dataset"
    for name, golds in {
        "main/train-00000-of-00002": "12",
        "main/train-00001-of-00002": "3",
        "other/train-00000-of-00001": "9",
    }.items():
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        questions = [f"{gold}?" for gold in golds]
        pq.write_table(pa.table({"question": questions, "answer": list(golds)}), path)
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture
def offline(tmp_path):
    """A function that runs the stage without a network: the gold answers, or its sentence."""

    def run(config="main", path=NAME, revision=REVISION, split="train", **changes):
        output = tmp_path / "a.parquet"
        settings = {"source": "hub", "path": path, "config": config, "revision": revision}
        arguments = ["--settings", json.dumps({**settings, "split": split})]
        arguments += ["--output", str(output), "--store", str(tmp_path / "store")]
        done = run_offline(tmp_path / "home", "mpd.problems", *arguments, **changes)
        assert "Traceback" not in done.stderr
        if done.returncode:
            # pyarrow's threads may add a line of their own when the process ends.
            (sentence,) = re.findall(r"^problems: error: (.*)$", done.stderr, re.MULTILINE)
            return sentence
        return pl.read_parquet(output)["gold"].to_list()

    return run


def prepare(tmp_path, config, gold, revision=REVISION):
    """Write what the library keeps of a dataset of the hub that it has loaded."""
    from datasets.packaged_modules.generator.generator import Generator

    def rows():
        yield {"question": "x?", "answer": gold}

    cache = tmp_path / "home" / "datasets"
    target = cache / "somebody___math-set" / config / "0.0.0" / revision
    builder = Generator(
        cache_dir=str(tmp_path / "made"),
        dataset_name="math-set",
        config_name=config,
        hash=revision,
        generator=rows,
    )
    builder.download_and_prepare()
    shutil.copytree(builder.cache_dir, target)
    assert json.loads((target / "dataset_info.json").read_text())["config_name"] == config


@pytest.mark.parametrize(
    ("changes", "golds"),
    [
        ({}, ["1", "2", "3"]),
        ({"config": None}, ["1", "2", "3"]),
        ({"config": "other"}, ["9"]),
        ({"split": "train[1:]"}, ["2", "3"]),
        ({"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}, ["1", "2", "3"]),
    ],
)
def test_a_downloaded_dataset_is_read_without_a_network(tmp_path, dataset, offline, changes, golds):
    write_repository(tmp_path / "home", "dataset", NAME, dataset)
    assert offline(**changes) == golds


def test_what_the_library_prepared_is_read_at_its_revision(tmp_path, offline):
    prepare(tmp_path, "main", "4")
    prepare(tmp_path, "main", "5", OTHER)  # the library alone takes the newest
    os.utime(tmp_path / "home" / "datasets" / "somebody___math-set" / "main" / "0.0.0" / OTHER)
    assert offline() == ["4"]
    assert offline(revision=OTHER) == ["5"]
    assert offline(revision="a" * 40).startswith(f"{NAME}: HF_HUB_OFFLINE forbids a download, and ")


def test_a_configuration_is_never_guessed(tmp_path, dataset, offline):
    prepare(tmp_path, "other", "9")
    message = offline(config=None)
    assert message.endswith("; or set config to what the cache has: other")
    write_repository(tmp_path / "home", "dataset", NAME, dataset)
    assert offline(config=None) == ["1", "2", "3"]


def test_an_incomplete_dataset_is_refused(tmp_path, dataset, offline):
    snapshot = write_repository(tmp_path / "home", "dataset", NAME, dataset)
    part = snapshot / "main" / "train-00001-of-00002.parquet"
    part.resolve().unlink()
    assert offline() == (
        f"{NAME}: HF_HUB_OFFLINE forbids a download, and its folder {snapshot} in the cache lacks "
        f"main/train-00001-of-00002.parquet; download it where there is a network {DOWNLOAD} the "
        "folder of a cache that has it"
    )
    part.unlink()
    message = offline()
    assert message.startswith(f"{NAME}: {snapshot} is incomplete (no main/train-00001-of-00002.")
    assert DOWNLOAD in message


def test_what_the_cache_lacks_is_one_sentence(tmp_path, dataset, offline):
    repository = tmp_path / "home" / "hub" / "datasets--somebody--Math-Set"
    message = offline()
    assert f"the cache has no folder {repository}; download it" in message and DOWNLOAD in message
    write_repository(tmp_path / "home", "dataset", NAME, dataset)
    message = offline(revision=OTHER)
    assert f"{repository} has other revisions: {REVISION}; download it" in message
    assert offline(config="none").startswith(f"{NAME}: BuilderConfig 'none' not found. Available:")
    assert offline(split="test").startswith(f'{NAME}: Unknown split "test". Should be one of')


def test_a_loading_script_is_refused(tmp_path, dataset, offline):
    canary = tmp_path / "canary"
    for name in ("Math-Set.py", f"{REVISION}.py"):
        (dataset / name).write_text(f"import pathlib; pathlib.Path({str(canary)!r}).touch()")
    write_repository(tmp_path / "home", "dataset", NAME, dataset)
    message = offline()
    assert message.startswith(f"{NAME}: Dataset scripts are no longer supported, but found ")
    assert message.endswith("; take a dataset of plain data files, such as Parquet")
    assert not canary.exists()


def test_tags_in_a_card_are_refused(tmp_path, dataset, offline):
    canary = tmp_path / "canary"
    tag = f"---\ntags: !!python/object/apply:os.system ['touch {canary}']\n"
    (dataset / "README.md").write_text(CARD.replace("---\n", tag, 1))
    write_repository(tmp_path / "home", "dataset", NAME, dataset)
    message = offline()
    assert message.startswith(f"{NAME}: could not determine a constructor for the tag")
    assert not canary.exists()
