"""The locks of stored results: who holds one, and what to do where it does not come free."""

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mpd.store.files import read_json
from mpd.store.supervisor import machine

log = logging.getLogger("mpd")

LINE_SECONDS = 60.0  # between two lines of a job that waits
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def locked(path: Path, name: str) -> Iterator[Callable[[], None]]:
    """Hold the lock of what has a name; lines say who has it as long as another process does.

    The kernel releases the lock of a process that dies. The block is given a function that raises
    ValueError where another process has taken the lock meanwhile, as on a network file system
    whose server started again. Raises ValueError where the file system has no locks.
    """
    host = socket.gethostname()
    own = {"pid": os.getpid(), "host": host, "machine": machine(), "since": _now()}

    def require_held() -> None:
        other = read_json(path)
        if other and other != own:
            raise ValueError(
                f"{path}: its file system gave this lock away while it was held, to "
                f"{_described(other)}; run again"
            )

    with _acquired(path, name):
        path.write_text(json.dumps(own), encoding="utf-8")
        try:
            yield require_held
        finally:
            if read_json(path) == own:
                path.write_text("", encoding="utf-8")


@contextmanager
def _acquired(path: Path, name: str) -> Iterator[None]:
    lock, start, wait = FileLock(path, fallback_to_soft=False), time.monotonic(), 0.0
    while not lock.is_locked:
        try:
            lock.acquire(timeout=wait)
        except Timeout:
            waited = f", {(time.monotonic() - start) / 60:.0f} min so far" if wait else ""
            log.info("waiting for the process that makes %s%s%s", name, waited, _advice(path))
            wait = LINE_SECONDS
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise ValueError(
                f"{path.parent}: this file system has no locks ({error.strerror}), without which "
                "two jobs may write one result; mount it with them (NFS: version 4, or lockd), or "
                "run in a folder on another disk"
            ) from error
    try:
        yield
    finally:
        lock.release()


def _advice(path: Path) -> str:
    """Who holds a lock, as its holder wrote into it, and what to do if that process is gone."""
    other = read_json(path)
    if not other:
        return ""
    text = f": {_described(other)}"
    if not machine() or other.get("machine") != machine():  # or in another container on it
        return f"{text}; if it is gone, delete {path}"
    if _is_alive(other.get("pid")):
        return text
    return f"{text}, which is gone; end what it started (fuser {path} lists it), or delete {path}"


def _described(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"


def _is_alive(pid: Any) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, TypeError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _now() -> str:
    return datetime.now().astimezone().isoformat(" ", "seconds")
