"""The index of packages: the files of a release and their hashes, and what it says of a package."""

import json
import re
import urllib.request
from collections.abc import Collection
from functools import cache
from typing import Any

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version
from pip._internal.models.index import PyPI  # where pip looks unless it is told otherwise

Target = tuple[str, str]  # Python and machine

# CPU builds of torch are in no index that pip asks by itself; these hashes are known.
CPU_BUILDS = {
    "torch==2.13.0+cpu": ["6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"]
}


def asked(url: str, kind: str) -> Any:
    """What the index answers, as JSON."""
    request = urllib.request.Request(url, headers={"Accept": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@cache
def files_of(name: str) -> list[dict[str, Any]]:
    """The files of a package, as the index lists them."""
    return asked(f"{PyPI.simple_url}/{name}/", "application/vnd.pypi.simple.v1+json")["files"]


def fits(filename: str, version: Version, target: Target) -> bool:
    """Whether a file is a wheel of a version that a target can install."""
    python, machine = target
    minor = int(python.partition(".")[2])
    try:
        _, built, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return False
    for tag in tags:
        is_native = re.fullmatch(rf"(manylinux|linux).*_{machine}", tag.platform)
        early = re.fullmatch(r"cp3(\d+)", tag.interpreter)
        is_stable = tag.abi == "abi3" and early and int(early[1]) <= minor
        is_exact = tag.abi in ("none", f"cp3{minor}") and (
            tag.interpreter in ("py3", f"py3{minor}", f"cp3{minor}")
        )
        if built == version and (tag.platform == "any" or is_native) and (is_stable or is_exact):
            return True
    return False


def hashes_of(pin: str, targets: Collection[Target]) -> list[str]:
    """The hashes of the files that targets may get: wheels, or the source where one has none.

    Raises ValueError where a target would get nothing.
    """
    name, _, version = pin.partition("==")
    if "+" in version:
        return CPU_BUILDS[pin]
    release = re.compile(rf".*-{re.escape(version)}(-|\.tar\.gz|\.zip)")
    files = [file for file in files_of(name) if release.match(file["filename"])]
    source = re.compile(rf"{name.replace('-', '[-_.]')}-{re.escape(version)}\.(tar\.gz|zip)")
    hashes = set()
    for target in targets:
        wheels = [file for file in files if fits(file["filename"], Version(version), target)]
        sources = [file for file in files if source.fullmatch(file["filename"].lower())]
        if not (wheels or sources):
            raise ValueError(f"{pin}: no file for Python {' on '.join(target)}")
        hashes |= {file["hashes"]["sha256"] for file in wheels or sources}
    return sorted(hashes)
