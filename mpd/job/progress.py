"""Progress with tokens per second and time left: a bar in a terminal, otherwise some log lines.

Several jobs of a workflow write to one pipe or log. Lines of progress are log messages, so they
begin with the name of the job.
"""

import logging
import sys
import time

from tqdm import tqdm

log = logging.getLogger("mpd")

LINE_SECONDS = 15  # between two lines where there is no terminal


class Progress:
    """Counts sequences, and shows tokens per second and the time left.

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
        self.sequences = self.tokens = 0
        self.first: tuple[float, int, int] | None = None
        self.last_line = time.monotonic()

    def advance(self, sequences: int, tokens: int) -> None:
        """Count sequences that finished, and tokens that were generated, since the last call."""
        now = time.monotonic()
        self.sequences += sequences
        self.tokens += tokens
        if self.first is None:
            self.first = now, self.sequences, self.tokens
        start, *before = self.first
        speed = self._speed(now - start, *before)
        self.bar.set_postfix_str(speed, refresh=False)
        self.bar.update(sequences)
        if sequences and self.sequences >= self.total:
            self.bar.close()
            log.info("%s: %d sequences, %s", self.description, self.sequences, speed)
        elif self.bar.disable and now - self.last_line >= LINE_SECONDS:
            self.last_line = now
            counts = self.description, self.sequences, self.total
            log.info("%s: %d of %d sequences, %s", *counts, speed)

    def _speed(self, seconds: float, sequences: int, tokens: int) -> str:
        """Tokens so far, tokens per second and time left, `seconds` after the counts given."""
        text = f"{self.tokens:,} tokens"
        if seconds > 0:
            text += f", {(self.tokens - tokens) / seconds:,.0f} tokens/s"
        if sequences < self.sequences < self.total:
            left = seconds * (self.total - self.sequences) / (self.sequences - sequences)
            text += f", {duration(left)} left"
        return text


def duration(seconds: float) -> str:
    """Seconds in the largest units that matter: 42 s, 5 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
