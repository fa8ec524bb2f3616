"""Verdicts by the scorers of reasoning-gym, which run in worker processes.

Some scorers evaluate an answer as Python. While one runs, its process can start no program, write
no file and open no connection.
"""

import os
import sys
from typing import Any

from mpd.config.gym import require_gym_version
from mpd.text.grading.golds import ScoredProblem
from mpd.text.gym import scored, version_of

# What Python reports before it happens: https://docs.python.org/3/library/audit_events.html
_REFUSED = (
    *("ctypes.", "mmap.", "pty.", "shutil.", "socket.", "urllib."),
    *(
        "subprocess.",
        "os.chmod",
        "os.chown",
        "os.exec",
        "os.fork",
        "os.kill",
        "os.link",
        "os.mkdir",
    ),
    *(
        "os.posix_spawn",
        "os.putenv",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.spawn",
        "os.symlink",
    ),
    *("os.system", "os.truncate", "os.unsetenv", "os.utime", "signal."),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Guard:
    """Whether this process refuses what a scorer has no need of."""

    closed = False
    installed = False


def require_scorer(scorer: str) -> None:
    """Raise ValueError unless a scorer's package is installed in the scorer's version."""
    require_gym_version(version_of(scorer))


def prepare_scorers() -> None:
    """Import the scorers, and let Python report to the guard, in this process for good."""
    import reasoning_gym  # noqa: F401

    if not _Guard.installed:
        sys.addaudithook(_refuse)
        _Guard.installed = True


def verdict_by_scorer(problem: ScoredProblem, answer: str) -> str:
    """The verdict of a problem's scorer: "correct" for a score of 1, "wrong", or "unparsed".

    That is where the scorer raises. It may never end or take all memory: call it in a process that
    can be killed, after `prepare_scorers`.
    """
    _Guard.closed = True
    try:
        score = scored(*problem, answer)
    except (Exception, SystemExit):
        return "unparsed"
    finally:
        _Guard.closed = False
    return "correct" if score == 1 else "wrong"


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise PermissionError before something that a scorer has no need of."""
    if not _Guard.closed:
        return
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
    if writes or event.startswith(_REFUSED):
        raise PermissionError(f"a scorer may not do this: {event}")
