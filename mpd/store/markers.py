"""Markers: what this machine has found out once, and need not again.

A marker is an empty file in a folder of caches, and its name says what was found. Several jobs may
leave the same one at once; without it, the work is only done again.
"""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

MAX_AGE = 90 * 86_400  # seconds since its last use after which a marker goes


def is_marked(kind: str, name: str) -> bool:
    """Whether there is a marker; it has been used now."""
    folder = _folder(kind)
    # Not Path.exists, which raises where a search is forbidden.
    if folder is None or not os.access(folder / name, os.F_OK):
        return False
    with suppress(OSError):
        (folder / name).touch()
    return True


def mark(kind: str, name: str) -> None:
    """Leave a marker. Without a folder for it, nothing happens."""
    folder = _folder(kind)
    if folder is None:
        return
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        for marker in folder.iterdir():
            with suppress(FileNotFoundError):  # another job may have been faster
                if time.time() - marker.stat().st_mtime > MAX_AGE:
                    marker.unlink()


def _folder(kind: str) -> Path | None:
    """Where this machine keeps its markers of a kind; None where there is no home."""
    try:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(caches, "mpd", kind, socket.gethostname().replace("/", "_") or "unnamed")
