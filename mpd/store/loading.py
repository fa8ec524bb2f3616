"""Imports and models without garbage collection."""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import libraries and load models here: garbage is collected once, at the end.

    Importing torch and transformers makes about a million objects that live as long as the process.
    Neither later collections pass over them nor, without triton, the end of the interpreter.
    """
    atexit.unregister(_leave)
    atexit.register(_leave)
    gc.disable()
    try:
        yield
    finally:
        gc.collect()  # what is garbage now would stay: it may hold tensors
        gc.freeze()
        gc.enable()


def _leave() -> None:
    """Leave what there is to the end of the process: to look for garbage there takes a second.

    But triton prints each of its objects that nobody has freed by then.
    """
    if "triton" in sys.modules:
        gc.unfreeze()
    else:
        gc.freeze()
