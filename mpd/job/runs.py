"""What the Snakemake process of a run does beside Snakemake: its lock, its jobs' end, orphans.

The kernel frees the lock when the process ends, however it ends, so no command has to: Snakemake's
own lock, which outlives a kill, is switched off in the profile.
"""

import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

from mpd.job.slurm import cancel_left_jobs
from mpd.store.rights import STATE, refusal, user
from mpd.store.supervisor import VARIABLE, is_gone, kill_descendants, supervised

NOTICE = (
    "stopping: jobs end within seconds; run the same command again to go on: finished parts are "
    "kept"
)


STOPPED = "stopped at once; run the same command again to go on: finished parts are kept"
SAME = 1.0  # seconds within which a second SIGINT is the same Ctrl-C, as `timeout` sends it


def supervise() -> None:
    """Make this process the supervisor of all that it starts, in place of its own."""
    os.environ.update(supervised())


def begin(experiment: str) -> str | None:
    """Begin to run jobs of an experiment in this folder, when no other run does.

    Returns a sentence where a killed run had left processes here or jobs in Slurm, which this ends.
    Raises ValueError where another run is at work. From here on Ctrl-C ends the jobs, too.
    """
    _lock(experiment)
    cancelled = cancel_left_jobs(experiment, Path.cwd())
    orphans = _end_orphans(Path.cwd())
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _stop_jobs)
    sentences = []
    if cancelled:
        sentences.append(f"cancelled jobs in Slurm that a killed run had left: {cancelled}")
    if orphans:
        sentences.append(f"ended processes that a killed run had left: {orphans}")
    return "; ".join(sentences) or None


@contextmanager
def run_lock(experiment: str) -> Iterator[None]:
    """Keep runs of an experiment in this folder away. Raises ValueError where one is at work."""
    lock = _lock(experiment)
    try:
        yield
    finally:
        os.close(lock)


def _lock(experiment: str) -> int:
    """Lock the results of an experiment until this process ends; ValueError where that fails."""
    path = STATE / f"{experiment}.run"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError as error:
        raise ValueError(refusal(error)) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 1000).decode(errors="replace")
        raise ValueError(
            f"a run of {experiment} is at work in this folder ({holder}): wait for its end, or "
            "stop it with Ctrl-C"
        ) from None
    except OSError as error:
        raise ValueError(
            f"{path} cannot be locked ({error.strerror}): use a file system with locks, by "
            "snakemake's --directory"
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, f"process {os.getpid()} of {user()} on {socket.gethostname()}".encode())
    # It stays open: that is the lock. Children that run other programs do not inherit it.
    return lock


def _end_orphans(folder: Path) -> int:
    """Kill this user's processes that work in a folder for a process that is gone; their number."""
    import psutil

    orphans = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.uids().real != os.getuid() or process.pid == os.getpid():
                continue
            supervisor = process.environ().get(VARIABLE, "")
            if is_gone(supervisor) and Path(process.cwd()) == folder:
                process.kill()
                orphans.append(process)
    psutil.wait_procs(orphans, timeout=10)
    return len(orphans)


def _stop_jobs(number: int, frame: FrameType | None) -> Any:
    """Answer Ctrl-C: end the jobs, for which Snakemake would wait, and do what Snakemake does.

    In a terminal jobs get SIGINT as well; SIGTERM beside it changes nothing for them. A second
    Ctrl-C kills what is left, and this process.
    """
    import psutil

    began = time.monotonic()

    def end_at_once(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - began > SAME:
            print(STOPPED, file=sys.stderr, flush=True)
            kill_descendants()
            os._exit(130)

    signal.signal(signal.SIGINT, end_at_once)
    print(NOTICE, file=sys.stderr, flush=True)
    waiting = [psutil.Process()]
    while waiting:
        with suppress(psutil.Error):
            for child in waiting.pop().children():
                if _is_program(child.cmdline()):
                    child.terminate()
                else:
                    waiting.append(child)
    signal.default_int_handler(number, frame)


def _is_program(words: list[str]) -> bool:
    """Whether a command line is that of a program of this package, such as a stage."""
    return any(word == "-m" and module.startswith("mpd.") for word, module in pairwise(words))
