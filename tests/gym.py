"""The package that tests have in place of reasoning-gym: tests/fakes/gym."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "fakes" / "gym"


@contextmanager
def replaced() -> Iterator[None]:
    """This process, and the workers that it starts, import that package."""
    with pytest.MonkeyPatch.context() as patch:
        _forget()
        patch.syspath_prepend(FOLDER)
        yield
        _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "reasoning_gym"]:
        del sys.modules[name]
