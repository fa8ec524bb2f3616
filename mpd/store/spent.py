"""What it took to compute an artifact, for its note: time, operations, memory, energy, device."""

import logging
import resource
import sys
import time
from pathlib import Path
from typing import Any

from mpd.store.energy import joules_so_far, named_gpus
from mpd.store.files import CHECKSUM, checksummed, has_its_checksum, read_json, write_json

log = logging.getLogger("mpd")

NUMBERS = ("seconds", "processor_seconds", "flops", "peak_mb", "peak_gpu_mb", "gpus", "joules")
MEGABYTE = 1e6
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in one unit of ru_maxrss

_flops = 0  # floating-point operations that this process has counted


class Meter:
    """Counts from its creation, on top of what earlier, stopped processes saved.

    `path` is where it saves: a file that lives as long as the unfinished artifact.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before: dict[str, Any] = _saved(path)
        self.start, self.processor_start = time.monotonic(), _processor_seconds()
        self.flops_start, self.joules_start = _flops, joules_so_far()

    def spent(self) -> dict[str, Any]:
        """Seconds by the clock and of processors, operations, peak memory in MB, and the device.

        Memory is that of the process or of its largest child, since each began. That of the GPU is
        there where this process itself has tensors on one. `flops` are there where this process
        counted any: training in several processes counts them in its children, and has none. `gpus`
        is the number of GPUs that the process was given, `joules` the energy that they used.
        """
        seconds = time.monotonic() - self.start + self.before.get("seconds", 0.0)
        processor = _processor_seconds() - self.processor_start
        processor += self.before.get("processor_seconds", 0.0)
        flops = _flops - self.flops_start + self.before.get("flops", 0)
        gpu = max(gpu_peak_bytes() / MEGABYTE, self.before.get("peak_gpu_mb", 0.0))
        return {
            "seconds": round(seconds, 3),
            "processor_seconds": round(processor, 3),
            **({"flops": flops} if flops else {}),
            "peak_mb": round(max(_peak_bytes() / MEGABYTE, self.before.get("peak_mb", 0.0)), 1),
            **({"peak_gpu_mb": round(gpu, 1)} if gpu else {}),
            "device": _device(),
            **self._gpus(),
        }

    def _gpus(self) -> dict[str, Any]:
        """The number of GPUs and their energy, as far as this process uses some, and they tell."""
        if not gpu_name() or not named_gpus():
            return {}
        now, start = joules_so_far(), self.joules_start
        before = self.before.get("joules") if self.before else 0.0
        if now is None or start is None or before is None:
            return {"gpus": len(named_gpus())}
        return {"gpus": len(named_gpus()), "joules": round(now - start + before, 1)}

    def save(self) -> None:
        """Keep what was spent so far, for the process that goes on after this one was stopped."""
        write_json(self.path, checksummed(self.spent()))


def _saved(path: Path) -> dict[str, Any]:
    """What earlier processes saved; where the file is damaged, a warning names it."""
    content = read_json(path)
    numbers = [content.get(key, 0) for key in NUMBERS]
    is_whole = content.keys() <= {*NUMBERS, "device", CHECKSUM} and (
        all(type(number) in (int, float) and number >= 0 for number in numbers)
        and (CHECKSUM not in content or has_its_checksum(content))
    )
    if path.exists() and not (content and is_whole):
        log.warning("%s is damaged; what was spent before this process began is not counted", path)
        return {}
    return content


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_bytes() -> int:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(usage.ru_maxrss for usage in usages) * RSS_UNIT


def _device() -> str:
    """The name of the GPU that this process uses, or cpu."""
    return gpu_name() or "cpu"


def gpu_name() -> str | None:
    """The name of the GPU that this process uses, if any. Loads no torch to find out."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return None


def gpu_peak_bytes() -> int:
    """The most bytes that tensors of this process have taken on its GPU; 0 where there is none."""
    return sys.modules["torch"].cuda.max_memory_allocated() if gpu_name() else 0


def count_flops(flops: int) -> None:
    """Count operations of the passes of a model, for the notes of what this process computes."""
    global _flops
    _flops += flops
