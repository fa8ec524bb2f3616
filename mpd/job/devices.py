"""GPUs of this machine: how many a run has, and which ones a job gets, so that no other sees them.

A job that asked for GPUs locks as many device slots, one file each, and names them in
CUDA_VISIBLE_DEVICES before anything looks for a GPU. The kernel frees the locks when the process
ends, however it ends. Programs that it started do not hold them: those of a killed job end within a
second (`mpd.store.supervisor`), before the next job has loaded its model. Children by fork do, as
those of vLLM may be: the devices are free when they have ended.
"""

import fcntl
import logging
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mpd.store.energy import VISIBLE, named_gpus

log = logging.getLogger("mpd")

FAKE = "MPD_DEVICES"  # names of devices in place of those of the machine, for tests
ALLOCATION = "SLURM_JOB_ID"
LOOK_SECONDS, LINE_SECONDS = 1.0, 60.0  # between two tries, and between two lines about them

_held: list[int] = []  # descriptors of the slots of this process, which stay open until it ends


def visible_devices() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    Those of CUDA_VISIBLE_DEVICES where it is set, or else all of the machine, by number.
    """
    return named_gpus() if VISIBLE in os.environ else _devices_of_machine()


def take_devices(count: int) -> None:
    """Make `count` GPUs the only ones that this process sees, and wait until they are free.

    Does nothing where that many have been taken or given already (by a scheduler or the user), and
    on a machine without GPUs. Raises ValueError where there are fewer.
    """
    if not count or _held:
        return
    devices = visible_devices()
    is_given = VISIBLE in os.environ and len(devices) == count
    if not devices or is_given:
        return
    if len(devices) < count:
        raise ValueError(
            f"the job asks for {count} GPUs, and {len(devices)} can be seen here "
            f"({', '.join(devices)}): lower resources.<stage>.gpu, or let it run where there are "
            f"as many ({VISIBLE} may hide some)"
        )
    os.environ[VISIBLE] = ",".join(_wait_for(count, devices))


def _devices_of_machine() -> list[str]:
    """The numbers of the machine's GPUs, found without a library of CUDA."""
    if FAKE in os.environ:
        return [name for name in os.environ[FAKE].split(",") if name]
    # In a container the file of the only GPU may be nvidia2, which CUDA calls 0, and there may be
    # files of GPUs that it does not see; nvidia-smi knows those, but takes up to a second.
    count = sum(bool(re.fullmatch(r"nvidia\d+", path.name)) for path in Path("/dev").glob("nv*"))
    if count != 1:
        with suppress(OSError, subprocess.SubprocessError):
            listed = subprocess.run(
                ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True
            )
            count = len(re.findall(r"^GPU \d+:", listed.stdout, re.MULTILINE))
    return [str(number) for number in range(count)]


def _wait_for(count: int, devices: Sequence[str]) -> list[str]:
    """The names of `count` devices whose slots this process has locked."""
    start, said = time.monotonic(), None
    while True:
        names = _try(count, devices)
        if names:
            return names
        now = time.monotonic()
        if said is None or now - said >= LINE_SECONDS:
            said = now
            waited = f", {(now - start) / 60:.0f} min so far" if now > start + 1 else ""
            log.info(
                "waiting for %d of the GPUs %s, which other jobs of this machine have%s (fuser %s "
                "lists them)",
                *(count, ",".join(devices), waited, _slot("*")),
            )
        time.sleep(LOOK_SECONDS)


def _try(count: int, devices: Sequence[str]) -> list[str]:
    """Lock `count` slots and return their devices, or none of them."""
    turn = _open(_slot("turn"))  # of two jobs that try at once, one gets all that it needs
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        taken: dict[str, int] = {}
        for device in devices:
            slot = _open(_slot(device))
            try:
                fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(slot)
                continue
            taken[device] = slot
            if len(taken) == count:
                _held.extend(taken.values())
                return list(taken)
        for slot in taken.values():
            os.close(slot)
        return []
    finally:
        os.close(turn)


def _slot(name: str) -> Path:
    """The file that stands for a device; in every allocation numbers may begin at 0."""
    shared = Path("/dev/shm")  # one for all users of a machine, whatever TMPDIR says
    folder = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    allocation = os.environ.get(ALLOCATION, "") if VISIBLE in os.environ else ""
    return folder / f"mpd-gpu{allocation}-{name.replace('/', '_')}"


def _open(path: Path) -> int:
    """A descriptor to lock; another user's file can only be read, which is enough."""
    with suppress(FileExistsError):
        slot = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o644)
        os.fchmod(slot, 0o644)  # whatever the umask: other users lock it, too
        os.close(slot)
    return os.open(path, os.O_RDONLY)
