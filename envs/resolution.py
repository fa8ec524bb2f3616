"""What pip would install, by the metadata of packages alone: nothing is downloaded or installed."""

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from index import Target
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

Packages = dict[str, dict[str, Any]]  # metadata by canonical name


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
            if (name, part) in seen:
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


@contextmanager
def indexed_builds() -> Iterator[None]:
    """Let pip take the builds of the index alone, whatever folder of others a machine has."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as empty:
        os.environ["PIP_FIND_LINKS"] = empty
        try:
            yield
        finally:
            os.environ.pop("PIP_FIND_LINKS")
            os.environ.update(before)
