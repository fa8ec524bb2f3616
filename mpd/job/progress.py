"""Progress with tokens per second and time left: a bar in a terminal, otherwise some log lines.

Several jobs of a workflow write to one pipe or log. Lines of progress are log messages, so they
begin with the name of the job.
"""

import logging
import sys
import threading
import time
import weakref

from tqdm import tqdm

from mpd.job.flops import peak_flops
from mpd.store.spent import count_flops, gpu_name, gpu_peak_bytes

log = logging.getLogger("mpd")

LINE_SECONDS = 15  # between two lines where there is no terminal
QUIET_SECONDS = 900  # without progress, until a line says so; weights are loaded by then


class Progress:
    """Counts sequences, and shows tokens per second, the time left and the use of a GPU.

    Both are measured from the first call of `advance`, so that they leave out the start of an
    engine and the loading of weights.
    """

    def __init__(self, description: str, total: int) -> None:
        self.description, self.total = description, total
        self.bar = tqdm(
            total=total,
            desc=description,
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            mininterval=0.2,
            leave=False,
            bar_format="{desc}: {n_fmt}/{total_fmt} sequences{postfix} |{bar}|",
        )
        self.sequences = self.tokens = self.flops = 0
        self.first: tuple[float, int, int, int] | None = None
        self.last_line = self.last_advance = time.monotonic()
        threading.Thread(target=_watch, args=(weakref.ref(self),), daemon=True).start()

    def advance(self, sequences: int, tokens: int, flops: int = 0) -> None:
        """Count sequences that finished, and tokens that were computed, since the last call.

        `flops` are the operations that the model needed for them, where they are known. The
        notes of artifacts have them too.
        """
        now = self.last_advance = time.monotonic()
        self.sequences += sequences
        self.tokens += tokens
        self.flops += flops
        count_flops(flops)
        if self.first is None:
            self.first = now, self.sequences, self.tokens, self.flops
        start, *before = self.first
        speed = self._speed(now - start, *before)
        self.bar.set_postfix_str(speed, refresh=False)
        self.bar.update(sequences)
        if sequences and self.sequences >= self.total:
            self.bar.close()
            counts = self.description, self.sequences
            log.info("%s: %d sequences, %s%s", *counts, speed, _gpu_memory())
        elif self.bar.disable and now - self.last_line >= LINE_SECONDS:
            self.last_line = now
            log.info(
                "%s: %d of %d sequences, %s", self.description, self.sequences, self.total, speed
            )

    def _speed(self, seconds: float, sequences: int, tokens: int, flops: int) -> str:
        """Tokens so far, tokens per second and time left, `seconds` after the counts given.

        On a GPU also operations per second, and what share of its peak they are.
        """
        text = f"{self.tokens:,} tokens"
        if seconds > 0:
            text += f", {(self.tokens - tokens) / seconds:,.0f} tokens/s"
            text += _utilisation((self.flops - flops) / seconds)
        if sequences < self.sequences < self.total:
            left = seconds * (self.total - self.sequences) / (self.sequences - sequences)
            text += f", {duration(left)} left"
        return text


def _watch(reference: "weakref.ref[Progress]") -> None:
    """Log a line for every QUIET_SECONDS in which a job made no progress."""
    lines = 0
    while True:
        time.sleep(min(QUIET_SECONDS / 4, 60))
        progress = reference()
        if progress is None or progress.sequences >= progress.total:
            return
        quiet = time.monotonic() - progress.last_advance
        lines = min(lines, int(quiet // QUIET_SECONDS))
        if quiet >= (lines + 1) * QUIET_SECONDS:
            lines += 1
            log.info(
                "%s: no progress for %s, after %d of %d sequences; if neither processor nor GPU is "
                "at work, end this job and run again: finished parts are kept",
                *(progress.description, duration(quiet), progress.sequences, progress.total),
            )
        del progress


def speed_of(tokens: int, seconds: float, flops: int) -> dict[str, float]:
    """Tokens per second; where there is a GPU, its MFU and its peak memory in gigabytes too."""
    speed = {"tokens_per_second": tokens / seconds}
    name = gpu_name()
    if name is not None:
        speed["gpu_memory_gb"] = gpu_peak_bytes() / 1e9
        peak = peak_flops(name)
        if peak is not None:
            speed["mfu"] = flops / seconds / peak
    return speed


def _utilisation(flops_per_second: float) -> str:
    """Operations per second and MFU, where there is a GPU; its peak may be unknown."""
    name = gpu_name()
    if name is None or not flops_per_second:
        return ""
    text, peak = f", {flops_per_second / 1e12:,.0f} TFLOP/s", peak_flops(name)
    return text if peak is None else f"{text}, MFU {flops_per_second / peak:.2f}"


def _gpu_memory() -> str:
    peak = gpu_peak_bytes()
    return f", {peak / 1e9:.1f} GB of GPU memory" if peak else ""


def duration(seconds: float) -> str:
    """Seconds in the largest units that matter: 42 s, 5 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
