"""Computing ahead: order, bound, exceptions, and the end of the thread."""

import gc
import threading
import time
import weakref
from contextlib import closing

import pytest

from mpd.job.ahead import ahead


def num_threads():
    return sum(thread.name == "ahead" for thread in threading.enumerate())


def eventually(is_true):
    deadline = time.monotonic() + 10
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.001)
    return is_true()


@pytest.mark.parametrize("depth", [1, 2, 50])
def test_the_items_are_the_same_in_the_same_order(depth):
    assert list(ahead(range(20), depth)) == [*range(20)]
    assert list(ahead([None, (), ValueError], depth)) == [None, (), ValueError]
    assert list(ahead([], depth)) == []
    assert num_threads() == 0


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_items_are_computed_ahead_than_the_depth_and_one(depth):
    started = []

    def items():
        for number in range(20):
            started.append(number)
            yield number

    with closing(ahead(items(), depth)) as results:
        assert not started  # before the first item is asked for
        for number in results:
            expected = min(number + 1 + depth + 1, 20)
            assert eventually(lambda expected=expected: len(started) == expected)
            time.sleep(0.002)
            assert len(started) == expected


def test_items_are_computed_while_one_is_used():
    """Each side waits for the other: without a thread of its own this would not end."""
    used, computed = threading.Event(), threading.Event()

    def items():
        yield 0
        assert used.wait(10)
        computed.set()
        yield 1

    for number in ahead(items(), 1):
        if number == 0:
            used.set()
            assert computed.wait(10)


def test_an_exception_comes_after_the_items_before_it():
    def items():
        yield 1
        yield 2
        raise OSError("disk full")

    results = ahead(items(), 8)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(OSError, match="disk full") as caught:
        next(results)
    assert [entry.name for entry in caught.traceback][-1] == "items"
    assert num_threads() == 0


def test_the_thread_ends_when_the_consumer_stops_or_fails():
    stopped = []

    def items():
        try:
            while True:
                yield 0
        finally:
            stopped.append(True)

    results = ahead(items(), 2)
    next(results)
    assert num_threads() == 1
    results.close()
    assert num_threads() == 0

    with pytest.raises(ZeroDivisionError), closing(ahead(items(), 2)) as results:
        for number in results:
            1 / number
    assert num_threads() == 0
    gc.collect()
    assert stopped == [True, True]


def test_an_item_that_was_used_is_let_go():
    class Large:
        pass

    references = []

    def items():
        for _ in range(4):
            item = Large()
            references.append(weakref.ref(item))
            yield item
            del item

    with closing(ahead(items(), 1)) as results:
        for number, item in enumerate(results):
            del item
            assert all(reference() is None for reference in references[:number])
