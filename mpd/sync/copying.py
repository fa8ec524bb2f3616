"""Copying many files at once, with lines of progress."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mpd.job.progress import LINE_SECONDS, duration

log = logging.getLogger("mpd")

THREADS = 8  # files that are copied at once
First = TypeVar("First")
Second = TypeVar("Second")


def for_each(
    function: Callable[[First], Second], values: Iterable[First], threads: int = THREADS
) -> list[Second]:
    """What a function gives for each value, several at once; the first error ends it."""
    pool = ThreadPoolExecutor(threads)
    try:
        return list(pool.map(function, values))
    finally:
        pool.shutdown(cancel_futures=True)


class Lines:
    """Counts files and bytes, and logs a line every LINE_SECONDS."""

    def __init__(self, name: str, sizes: Sequence[int]) -> None:
        self.name, self.files, self.bytes = name, len(sizes), sum(sizes)
        self.copied_files = self.copied_bytes = 0
        self.start = self.last = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, size: int) -> None:
        """Count a file that was copied."""
        with self._lock:
            self.copied_files += 1
            self.copied_bytes += size
            now = time.monotonic()
            if now - self.last < LINE_SECONDS:
                return
            self.last = now
        rate = self.copied_bytes / (now - self.start)
        left = (self.bytes - self.copied_bytes) / rate if rate else 0.0
        log.info(
            "%s: %d of %d files, %.1f of %.1f MB, %.1f MB/s, %s left",
            *(self.name, self.copied_files, self.files),
            *(self.copied_bytes / 1e6, self.bytes / 1e6, rate / 1e6, duration(left)),
        )
