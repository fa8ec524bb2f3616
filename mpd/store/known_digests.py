"""Digests of large files, computed once for each file and machine.

A marker says by its name that a file, known by device, inode, size and time, had a digest.
"""

import time
from collections.abc import Callable
from pathlib import Path

from mpd.store.digests import file_digest
from mpd.store.markers import is_marked, mark

KIND = "digests"

_hashed: dict[str, str] = {}  # digests that this process computed, by the marks of the files


def fresh_digest(path: Path) -> str:
    """The digest of a file's bytes; a file that this process has hashed is not read again."""
    before = _marks(path)
    digest = _hashed.get(before) or file_digest(path)
    if _marks(path) == before:
        _hashed[before] = digest
    return digest


def digest_like(path: Path, expected: str, compute: Callable[[Path], str] = file_digest) -> str:
    """`expected` where the file is known to have this digest, else what `compute` gives.

    What it gives is remembered.
    """
    marks = _marks(path)
    if is_marked(KIND, f"{marks}-{expected}"):
        return expected
    digest = compute(path)
    if digest == expected and _marks(path) == marks and not _is_just_written(path):
        remember(path, digest)
    return digest


def remember(path: Path, digest: str) -> None:
    """Leave a marker that a file has this digest."""
    mark(KIND, f"{_marks(path)}-{digest}")


def _marks(path: Path) -> str:
    status = path.stat()
    return f"{status.st_dev}-{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"


def _is_just_written(path: Path) -> bool:
    """Whether a write in the same tick of the clock would leave the time as it is."""
    return abs(time.time() - path.stat().st_mtime) < 1
