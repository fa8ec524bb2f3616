"""Keeping an engine full: requests go in as others finish."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Generic, TypeVar

Asked = TypeVar("Asked")
Given = TypeVar("Given")


def keep_full(
    requests: Iterable[Asked],
    room: int,
    add: Callable[[Asked], None],
    step: Callable[[], list[Given]],
) -> Iterator[Given]:
    """Give what `step` finishes, with up to `room` requests added and not finished."""
    waiting, running = iter(requests), 0
    while True:
        while running < room and (request := next(waiting, None)) is not None:
            add(request)
            running += 1
        if not running:
            return
        for finished in step():
            running -= 1
            yield finished


class Tasks(Generic[Given]):
    """Coroutines that run side by side on a loop of their own, collected as they finish."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.running: set[asyncio.Task[Given]] = set()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of one coroutine."""
        return self.runner.run(work)

    def add(self, work: Coroutine[Any, Any, Given]) -> None:
        self.running.add(self.runner.get_loop().create_task(work))

    def step(self) -> list[Given]:
        """The results of those that have finished, at least one. Raises what one of them raised."""
        done, self.running = self.run(
            asyncio.wait(self.running, return_when=asyncio.FIRST_COMPLETED)
        )
        # All are looked at: asyncio complains of exceptions that nobody saw.
        errors = [error for task in done if (error := task.exception())]
        if errors:
            raise errors[0]
        return [task.result() for task in done]

    def close(self) -> None:
        """Give up those that still run."""
        self.runner.close()
