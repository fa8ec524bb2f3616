"""Digests of large files, computed once for each file and machine.

An empty file in a folder of caches says by its name that a file, known by device, inode, size and
time, had a digest. Several jobs may leave the same one at once; without it, a file is only hashed
again.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mpd.store.digests import file_digest

MAX_AGE = 90 * 86_400  # seconds since its last use after which a marker goes

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
    folder = _folder()
    marker = folder / f"{marks}-{expected}" if folder else None
    # Not Path.exists, which raises where a search is forbidden.
    if marker and os.access(marker, os.F_OK):
        with suppress(OSError):
            marker.touch()
        return expected
    digest = compute(path)
    if digest == expected and _marks(path) == marks and not _is_just_written(path):
        remember(path, digest)
    return digest


def remember(path: Path, digest: str) -> None:
    """Leave a marker that a file has this digest. Without a folder for it, nothing happens."""
    folder = _folder()
    if folder is None:
        return
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{_marks(path)}-{digest}").touch()
        for marker in folder.iterdir():
            with suppress(FileNotFoundError):  # another job may have been faster
                if time.time() - marker.stat().st_mtime > MAX_AGE:
                    marker.unlink()


def _marks(path: Path) -> str:
    status = path.stat()
    return f"{status.st_dev}-{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"


def _is_just_written(path: Path) -> bool:
    """Whether a write in the same tick of the clock would leave the time as it is."""
    return abs(time.time() - path.stat().st_mtime) < 1


def _folder() -> Path | None:
    """Where this machine keeps its markers; None where there is no home."""
    try:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(caches, "mpd", "digests", socket.gethostname().replace("/", "_") or "unnamed")
