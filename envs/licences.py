"""The page of licences: one row for each package of the lock files, from its metadata."""

import re
from typing import Any

CLASSIFIER = "License :: "
# Licences that ask for no more than that their text and the names of authors are kept.
PERMISSIVE = re.compile(
    r"\b(MIT|MIT-0|MIT-CMU|Apache|BSD|0BSD|ISC|PSF|Python Software Foundation|HPND|Unlicense|CC0|"
    r"Zlib|BSL-1\.0|CNRI-Python|Python-2\.0|NCSA|Public Domain|ZPL|Historical Permission)\b",
    re.IGNORECASE,
)
OTHER = re.compile(r"GPL|MPL|Mozilla|EPL|CDDL|EUPL|NVIDIA|Proprietary|Other/Proprietary", re.I)

INTRODUCTION = """# Licences of dependencies

Written by envs/lock.py from the metadata of every package in envs/locks/: what its authors say, not
legal advice. A wheel may bundle libraries under licences of their own, which it then has in its
folder `.dist-info`.
"""


def licence_of(metadata: dict[str, Any]) -> str:
    """The licence as the metadata of a package says it; "not stated" where it does not."""
    short = str(metadata.get("license") or "").strip()
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in metadata.get("classifier", [])
        if line.startswith(CLASSIFIER) and line != "License :: OSI Approved"
    ]
    if metadata.get("license_expression"):
        return metadata["license_expression"]
    if short and "\n" not in short and len(short) <= 60 and short.upper() != "UNKNOWN":
        return short
    return ", ".join(sorted(classifiers)) or (short.splitlines() or ["not stated"])[0].strip()


def is_permissive(licence: str) -> bool:
    """Whether every part of a licence, or one of a choice, is known to be permissive."""
    choices = re.split(r"\bOR\b", licence)
    return any(PERMISSIVE.search(part) and not OTHER.search(part) for part in choices)


def table(packages: dict[str, dict[str, Any]]) -> str:
    """The page of pins and their metadata: those that are not permissive, then all."""
    rows = [
        (*pin.split("=="), licence_of(metadata).replace("|", "/"))
        for pin, metadata in packages.items()
    ]
    others = [f"- {name}: {licence}" for name, _, licence in rows if not is_permissive(licence)]
    lines = [
        INTRODUCTION,
        "Not permissive, or not stated in a form that is known to be:",
        "",
        *(others or ["- none"]),
        "",
        "| package | version | licence |",
        "| --- | --- | --- |",
        *(f"| {name} | {version} | {licence} |" for name, version, licence in rows),
    ]
    return "\n".join(lines) + "\n"
