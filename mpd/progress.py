"""A progress bar with tokens per second that behaves in a log file too."""

import logging
import sys
import time
from typing import TextIO

from tqdm import tqdm

log = logging.getLogger("mpd")


class _Lines:
    """Turns the carriage returns of a progress bar into lines, for streams that are no terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            self.stream.write(text + "\n")

    def flush(self) -> None:
        self.stream.flush()


class Progress:
    """Counts sequences, and shows tokens per second since the first were made.

    Before it stands the start of an engine, or the loading of weights.
    """

    def __init__(self, description: str, total: int) -> None:
        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=total,
            desc=description,
            unit="seq",
            file=sys.stderr if terminal else _Lines(sys.stderr),
            mininterval=0.2 if terminal else 10,
            maxinterval=0.5 if terminal else 30,
            delay=0 if terminal else 10,
            leave=False,
            bar_format="{desc}: {n_fmt}/{total_fmt} sequences{postfix} [{elapsed}<{remaining}]",
        )
        self.tokens = 0
        self.start: float | None = None

    def advance(self, sequences: int, tokens: int) -> None:
        if self.start is None:
            self.start = time.monotonic()
        self.tokens += tokens
        rate = self.tokens / max(time.monotonic() - self.start, 1e-9)
        self.bar.set_postfix_str(f"{self.tokens:,} tokens, {rate:,.0f} tokens/s", refresh=False)
        self.bar.update(sequences)
        if sequences and self.bar.n >= self.bar.total:
            self.bar.close()
            log.info("%s: %d sequences, %s", self.bar.desc, self.bar.n, self.bar.postfix)
