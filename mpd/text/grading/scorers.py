"""Verdicts by the scorers of reasoning-gym, which run in worker processes.

Some scorers evaluate an answer as Python. While one runs, its process evaluates literals and
sympy's mathematics alone, can start no program, write no file and open no connection.
"""

import os
import sys
from types import CodeType
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
# What the code that sympy makes of an expression may name, beside single letters. Nothing of it
# evaluates a string in another way.
_SYMPY = "sympy.parsing.sympy_parser"
_MATHEMATICS = {
    *("sympy", "Symbol", "Function", "Integer", "Float", "Rational", "Add", "Mul", "Pow"),
    *("Abs", "abs", "Max", "max", "Min", "min", "sign", "floor", "ceiling", "pi", "oo"),
    *("exp", "log", "ln", "sqrt", "cbrt", "root", "factorial", "binomial", "gamma", "erf"),
    *("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth"),
    *("asin", "acos", "atan", "acot", "asec", "acsc", "asinh", "acosh", "atanh", "acoth"),
}
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
    evaluates = event == "exec" and not _is_harmless(arguments[0], sys._getframe(1).f_globals)
    if writes or evaluates or event.startswith(_REFUSED):
        raise PermissionError(f"a scorer may not do this: {event}")


def _is_harmless(code: CodeType, names: dict[str, Any]) -> bool:
    """Whether code can do no more than compute, if a module with these global names evaluates it.

    What sympy evaluates has names of mathematics, what a scorer evaluates has none. Others, such as
    a module that is imported late, evaluate no answers.
    """
    module = str(names.get("__name__"))
    if module != _SYMPY and module.partition(".")[0] != "reasoning_gym":
        return True
    allowed = {name for name in code.co_names if len(name) == 1} | _MATHEMATICS
    is_flat = not any(isinstance(value, CodeType) for value in code.co_consts)
    return is_flat and allowed.issuperset(code.co_names) and (module == _SYMPY or not code.co_names)
