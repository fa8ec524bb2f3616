"""Computing ahead: the next items of an iterator are computed in a thread while one is used."""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """The same items in the same order, computed in one thread, up to `depth` of them in advance.

    One more may be in the making. An exception of `items` is raised here, after the items before
    it. The thread starts when the first item is asked for and has ended when this generator has: at
    the end, or when it is closed. Use `contextlib.closing` where the loop over it may stop early.
    Modes that torch keeps for each thread (no_grad, autocast, the current device) are the defaults.
    """
    # An item is in a tuple; an exception and, at the end, None are not.
    results: queue.SimpleQueue[tuple[Item] | BaseException | None] = queue.SimpleQueue()
    places = threading.Semaphore(depth)
    is_closed = threading.Event()

    def compute() -> None:
        try:
            for item in items:
                places.acquire()
                if is_closed.is_set():
                    return
                results.put((item,))
                del item
            results.put(None)
        except BaseException as error:
            results.put(error)

    thread = threading.Thread(target=compute, name="ahead", daemon=True)
    thread.start()
    try:
        while (result := results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            places.release()
            yield result[0]
    finally:
        is_closed.set()
        places.release()
        thread.join()
