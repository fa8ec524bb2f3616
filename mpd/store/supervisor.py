"""The process that supervises this one, and whether it is still there.

Snakemake supervises its jobs, and a job that trains in several processes supervises those. Where
the supervisor was killed, another run may be at work on the same results, so what outlives it ends,
and gives no file its name any more. An environment variable, which children inherit, names the
supervisor; a program that was started in a terminal has none. Processes are looked up in /proc:
without it, as on macOS, no supervisor is ever gone.
"""

import logging
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("mpd")

VARIABLE = "MPD_SUPERVISOR"
INTERVAL = 0.5  # seconds between two looks at the supervisor
SENTENCE = (
    "stopped, since the run that it belongs to was killed; run the same command again to go on: "
    "finished parts are kept"
)
ENDED = ("Z", "X")  # states of a process that has ended, and whose parent has not noticed

_saying = threading.Lock()  # who comes second may end the process
_said = threading.Event()


def supervised() -> dict[str, str]:
    """The environment variable that makes this process the supervisor of a child."""
    started = _start_of(os.getpid())
    return {} if started is None else {VARIABLE: f"{os.getpid()} {started} {machine()}"}


def is_gone(supervisor: str) -> bool:
    """Whether the process that a variable names has ended; False where that cannot be known."""
    pid, _, rest = supervisor.partition(" ")
    started, _, place = rest.partition(" ")
    if not place or place != machine() or not (pid.isdecimal() and started.isdecimal()):
        return False
    return _start_of(int(pid)) != int(started)


def require_supervisor() -> None:
    """Leave the program where its supervisor is gone, before a file gets its name."""
    if is_gone(os.environ.get(VARIABLE, "")):
        _say()
        sys.exit(1)


def watch() -> None:
    """End this process, and what it started, within a second after the end of its supervisor."""
    supervisor = os.environ.get(VARIABLE)
    if supervisor:
        threading.Thread(target=_end_with, args=(supervisor,), daemon=True).start()


def machine() -> str:
    """Where the number of a process has a meaning: the machine since its start, and the container.

    Machines may have one name, such as localhost. Empty where that cannot be known.
    """
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with suppress(OSError):
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _end_with(supervisor: str) -> None:
    while not is_gone(supervisor):
        time.sleep(INTERVAL)
    _say()
    kill_descendants()
    os._exit(1)


def kill_descendants() -> None:
    """Kill the children of this process and theirs, in whatever group or session they are."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _say() -> None:
    with _saying:
        if not _said.is_set():
            _said.set()
            log.error(SENTENCE)


def _start_of(pid: int) -> int | None:
    """When a process started, in ticks of the kernel; None where there is none, or it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may have spaces
    return None if fields[0] in ENDED else int(fields[19])
