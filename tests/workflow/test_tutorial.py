"""The tutorial's files do what it says: its problems, its overlay, its edit, at a small size."""

import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from mpd.why import __main__ as why
from tests.workflow.project import WORLD, Project, copied, merged

TUTORIAL = (Path(__file__).parents[2] / "docs/tutorial.md").read_text()


def block(language: str) -> str:
    """The only code block of a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)
    return found


# The overlay of the tutorial with the models and sizes of the small world.
SMALL = {key: value for key, value in WORLD.items() if key not in ("experiment", "problems")}
CHANGES = merged(SMALL, yaml.safe_load(block("yaml")))
CHANGES["problems"] |= {"num_train": 8, "num_dev": 4}


@pytest.fixture(scope="module")
def project(tmp_path_factory, finished_store):
    made = Project(tmp_path_factory.mktemp("tutorial"))
    (made.folder / "results").mkdir()
    copied(finished_store, made.folder / "results/store")
    subprocess.run([sys.executable, "-c", block("python")], cwd=made.folder, check=True)
    test = made.folder / "test.jsonl"
    test.write_text("".join(test.read_text().splitlines(keepends=True)[:4]))
    return made


def test_the_problems_are_those_of_the_tutorial(project):
    lines = (project.folder / "train.jsonl").read_text().splitlines()
    assert "\n".join(["$ head -n 3 train.jsonl", *lines[:3]]) in TUTORIAL
    assert len(lines) == 400


def test_its_run_and_its_edit(project, monkeypatch, capsys):
    printed = project.run(**CHANGES)
    assert "report: results/mine/report.html" in printed
    sample = project.folder / "results/mine/mpd/seed_0/round_1/sample/shard_0.parquet"
    assert len(pl.read_parquet(sample)) == 8

    (edit,) = re.findall(r"^filter: .*$", TUTORIAL, re.MULTILINE)
    edited = merged(CHANGES, yaml.safe_load(edit))
    project.command(**edited)
    monkeypatch.chdir(project.folder)
    why.main(["--configfile", "overlay.yaml"])
    expected = re.findall(r"^\$ python -m mpd.why .*\n((?:.*\n)*?)```", TUTORIAL, re.MULTILINE)[0]
    before = f"was {CHANGES['filter']['max_ratio']}, is 0.3"
    assert capsys.readouterr().out == expected.replace("was 1.0, is 0.3", before)
