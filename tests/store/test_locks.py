"""Locks of the store: who holds one, and file systems that lose or lack them."""

import errno
import json
import os
import re
import socket
import subprocess
import sys
import threading

import pytest
from filelock import FileLock

from mpd.store import locks
from mpd.store.locks import locked
from mpd.store.supervisor import machine

GONE = 2**22 + 1  # beyond the largest number of a process


@pytest.fixture
def wait(tmp_path, monkeypatch, caplog):
    """A function that waits for a held lock, whose file says who has it; it returns the lines."""
    monkeypatch.setattr(locks, "LINE_SECONDS", 0.2)
    path = tmp_path / "key.lock"

    def run(content):
        lock = FileLock(path, thread_local=False)
        with caplog.at_level("INFO", "mpd"):
            lock.acquire()
            path.write_text(json.dumps(content) if isinstance(content, dict) else content)
            timer = threading.Timer(0.7, lock.release)
            timer.start()
            with locked(path, "squares 0123"):
                holder = json.loads(path.read_text())
            timer.join()
        assert (holder["pid"], holder["host"]) == (os.getpid(), socket.gethostname())
        assert path.read_text() == ""
        return caplog.messages

    return run


@pytest.mark.parametrize(
    ("pid", "place", "advice"),
    [
        (os.getppid(), machine(), ""),
        (
            GONE,
            machine(),
            ", which is gone; end what it started (fuser {path} lists it), or delete {path}",
        ),
        (7, "node-9 another start", "; if it is gone, delete {path}"),
        # A container may have the name of its machine, and numbers of its own.
        (GONE, f"{machine()} another", "; if it is gone, delete {path}"),
    ],
)
def test_a_job_that_waits_says_who_has_the_lock(wait, tmp_path, pid, place, advice):
    host = place.split()[0]
    since = "2025-01-31 10:00:00+00:00"
    first, second, *_ = wait({"pid": pid, "host": host, "machine": place, "since": since})
    start = "waiting for the process that makes squares 0123"
    holder = f": process {pid} on {host}, since {since}"
    text = holder + advice.format(path=tmp_path / "key.lock")
    assert first.startswith(start + text)
    assert second.startswith(f"{start}, 0 min so far{text}")


@pytest.mark.parametrize("content", ["", "torn {", "[]", '{"pid": "x"}', '{"host": 3}'])
def test_a_lock_without_a_readable_holder_is_waited_for(wait, content):
    assert wait(content)[0].startswith("waiting for the process that makes squares 0123")


def test_the_lock_of_a_process_that_died_is_free(tmp_path, caplog):
    path = tmp_path / "key.lock"
    code = (
        "import os, pathlib, sys; from mpd.store.locks import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), 'squares'): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    assert json.loads(path.read_text())["pid"]
    with caplog.at_level("INFO", "mpd"), locked(path, "squares"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert caplog.messages == []


def test_a_job_that_fails_leaves_no_name_in_its_lock(tmp_path):
    path = tmp_path / "key.lock"
    with pytest.raises(KeyError), locked(path, "squares"):
        raise KeyError
    assert path.read_text() == ""


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(ValueError) as caught, locked(tmp_path / "key.lock", "squares"):
        pass
    assert re.match(
        f"{tmp_path}: this file system has no locks .*; mount it with", str(caught.value)
    )
    assert "\n" not in str(caught.value)


def test_a_lock_that_was_lost_is_noticed(tmp_path):
    """As after a restart of the server of a network file system."""
    path = tmp_path / "key.lock"
    with locked(path, "squares") as require_held:
        require_held()
        path.unlink()
        with locked(path, "squares"), pytest.raises(ValueError, match="gave this lock away while"):
            other = {"pid": 7, "host": "node-9", "since": "now"}
            path.write_text(json.dumps(other))
            require_held()
