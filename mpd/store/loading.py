"""Imports and models without garbage collection."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import libraries and load models here: garbage is collected once, at the end.

    Importing torch and transformers makes about a million objects that live as long as the process.
    Later collections do not pass over what is there now.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.collect()  # what is garbage now would stay: it may hold tensors
        gc.freeze()
        gc.enable()
