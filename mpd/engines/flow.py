"""Keeping an engine full: requests go in as others finish."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Finished = TypeVar("Finished")


def keep_full(
    requests: Iterable[Item],
    room: int,
    add: Callable[[Item], None],
    step: Callable[[], list[Finished]],
) -> Iterator[Finished]:
    """Yield what `step` finishes, with up to `room` requests added and not yet finished.

    Requests are taken from their iterable only when there is room for them.
    """
    waiting, running = iter(requests), 0
    while True:
        while running < room and (request := next(waiting, None)) is not None:
            add(request)
            running += 1
        if not running:
            return
        for result in step():
            running -= 1
            yield result


class Coroutines(Generic[Finished]):
    """Coroutines that run side by side on an event loop of their own, collected as they finish."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.running: set[asyncio.Task[Finished]] = set()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The result of one coroutine, awaited here."""
        return self.runner.run(coroutine)

    def add(self, coroutine: Coroutine[Any, Any, Finished]) -> None:
        """Start a coroutine; `step` gives its result."""
        self.running.add(self.runner.get_loop().create_task(coroutine))

    def step(self) -> list[Finished]:
        """The results of those that have finished, at least one. Raises what one of them raised."""
        finished, self.running = self.run(
            asyncio.wait(self.running, return_when=asyncio.FIRST_COMPLETED)
        )
        # Every task is asked for its exception: asyncio logs those that are not retrieved.
        errors = [error for task in finished if (error := task.exception())]
        if errors:
            raise errors[0]
        return [task.result() for task in finished]

    def close(self) -> None:
        """Cancel those that still run."""
        self.runner.close()
