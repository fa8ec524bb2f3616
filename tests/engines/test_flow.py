"""Keeping an engine full, and coroutines side by side."""

import asyncio
import gc

import pytest

from mpd.engines.flow import Coroutines, keep_full


class Queue:
    """An engine that finishes what was added, in an order of its own; notes how full it is."""

    def __init__(self, finish):
        self.finish, self.inside, self.sizes = finish, [], []

    def add(self, number):
        self.inside.append(number)

    def step(self):
        self.sizes.append(len(self.inside))
        done = self.finish(self.inside)
        self.inside = [number for number in self.inside if number not in done]
        return done


@pytest.mark.parametrize(
    ("finish", "sizes", "finished"),
    [
        (lambda inside: inside[:1], [3, 3, 3, 3, 3, 2, 1], [0, 1, 2, 3, 4, 5, 6]),
        (lambda inside: inside[-1:], [3, 3, 3, 3, 3, 2, 1], [2, 3, 4, 5, 6, 1, 0]),
        (lambda inside: inside[:2], [3, 3, 3, 1], [0, 1, 2, 3, 4, 5, 6]),
        (lambda inside: list(inside), [3, 3, 1], [0, 1, 2, 3, 4, 5, 6]),
    ],
    ids=["first", "last", "two", "all"],
)
def test_it_is_full_until_fewer_are_left(finish, sizes, finished):
    queue = Queue(finish)
    assert list(keep_full(range(7), 3, queue.add, queue.step)) == finished
    assert queue.sizes == sizes


def test_a_step_may_finish_nothing():
    steps = iter([[], [], [0], [], [1]])
    assert list(keep_full(range(2), 5, lambda _: None, lambda: next(steps))) == [0, 1]


def test_no_requests_take_no_step():
    def never(*_):
        raise AssertionError("called")

    assert list(keep_full([], 3, never, never)) == []


def test_requests_are_taken_when_there_is_room():
    """What comes behind is not even asked for, and what has finished is given at once."""
    taken = []

    def requests():
        for number in range(5):
            taken.append(number)
            yield number

    queue = Queue(lambda inside: inside[:1])
    stream = keep_full(requests(), 2, queue.add, queue.step)
    assert taken == []
    assert next(stream) == 0
    assert taken == [0, 1]
    assert next(stream) == 1
    assert taken == [0, 1, 2]


@pytest.fixture
def coroutines():
    coroutines = Coroutines()
    yield coroutines
    coroutines.close()


def test_tasks_come_as_they_finish(coroutines):
    gates = [coroutines.run(_event()) for _ in range(3)]

    async def wait(number):
        await gates[number].wait()
        return number

    for number in range(3):
        coroutines.add(wait(number))
    gates[2].set()
    assert coroutines.step() == [2]
    gates[0].set()
    gates[1].set()
    assert sorted(coroutines.step()) == [0, 1]
    assert coroutines.running == set()


async def _event():
    return asyncio.Event()


def test_what_a_task_raises_is_raised(coroutines, caplog):
    async def fail():
        raise ValueError("no")

    coroutines.add(asyncio.sleep(3600))
    coroutines.add(fail())
    coroutines.add(fail())
    with pytest.raises(ValueError, match="no"):
        coroutines.step()
    gc.collect()
    assert caplog.messages == []  # asyncio has no word to add about the second


def test_tasks_run_side_by_side_with_a_bound(coroutines):
    running, most = set(), []

    async def work(number):
        running.add(number)
        most.append(len(running))
        for _ in range(number % 3 + 1):
            await asyncio.sleep(0)
        running.remove(number)
        return number

    found = keep_full(range(20), 4, lambda number: coroutines.add(work(number)), coroutines.step)
    assert sorted(found) == list(range(20))
    assert max(most) == 4
