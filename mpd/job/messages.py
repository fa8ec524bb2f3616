"""The lines of a log, as they go to a terminal: they may quote what a model or a user wrote."""

import logging
import sys
import traceback
from types import TracebackType

from mpd.store.signs import harmless


class HarmlessFormatter(logging.Formatter):
    """Begins lines with the name of a job, and leaves nothing that a terminal would obey."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name.replace('%', '%%')}: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record; see mpd.store.signs."""
        return harmless(super().format(record))


def log_to_stderr(name: str) -> None:
    """Send warnings of all loggers to stderr, and tracebacks, as harmless lines.

    Does nothing to loggers that have a handler already.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(HarmlessFormatter(name))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    sys.excepthook = _print_harmless


def _print_harmless(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    sys.stderr.write(harmless("".join(traceback.format_exception(kind, error, trace))))
