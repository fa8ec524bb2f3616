"""How stages use an engine: rows to requests, completions to rows, in parts."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpd.config.generation import Decoding
from mpd.engines.base import Completion, Engine, Request

if TYPE_CHECKING:
    import polars as pl

    from mpd.job.progress import Progress
    from mpd.store.parts import Parts


@dataclass(frozen=True)
class Task:
    """What a stage wants of an engine: the requests of a row, and the rows that come of them.

    `answer(rows, completions)` is given any rows that have finished, each with its completions.
    """

    engine: Engine
    decoding: Decoding
    ask: Callable[[dict[str, Any]], list[Request]]
    answer: Callable[["pl.DataFrame", list[list[Completion]]], "pl.DataFrame"]
    progress: "Progress"

    def __call__(self, rows: "pl.DataFrame") -> "pl.DataFrame":
        """Complete all rows, in order."""
        return self._answered(rows, list(self._finished(rows)))

    def stream(self, rows: "pl.DataFrame", rows_per_part: int) -> Iterator["pl.DataFrame"]:
        """Complete all rows, in parts of whatever has finished."""
        ready: list[tuple[int, list[Completion]]] = []
        for row in self._finished(rows):
            ready.append(row)
            if len(ready) == rows_per_part:
                yield self._answered(rows, ready)
                ready = []
        if ready:
            yield self._answered(rows, ready)

    def _answered(
        self, rows: "pl.DataFrame", ready: list[tuple[int, list[Completion]]]
    ) -> "pl.DataFrame":
        ready = sorted(ready, key=lambda row: row[0])
        return self.answer(rows[[number for number, _ in ready]], [made for _, made in ready])

    def _finished(self, rows: "pl.DataFrame") -> Iterator[tuple[int, list[Completion]]]:
        """The numbers of rows with all their completions, as they finish."""
        requests: list[Request] = []
        place: list[tuple[int, int]] = []  # of each request: its row, and which of the row's it is
        completions: dict[int, dict[int, Completion]] = {}
        counts: dict[int, int] = {}
        for number, row in enumerate(rows.iter_rows(named=True)):
            row_requests = self.ask(row)
            requests += row_requests
            place += [(number, index) for index in range(len(row_requests))]
            if row_requests:
                completions[number], counts[number] = {}, len(row_requests)
            else:
                yield number, []
        for at, completion in self.engine.stream(requests, self.decoding, self.progress.advance):
            number, index = place[at]
            completions[number][index] = completion
            if len(completions[number]) == counts[number]:
                whole = completions.pop(number)
                yield number, [whole[index] for index in range(counts[number])]
        assert not completions, f"{len(completions)} rows were not completed"


def complete(
    parts: "Parts",
    rows: "pl.DataFrame",
    rows_per_part: int,
    engine: str,
    prepare: Callable[[], Task],
) -> None:
    """Complete the rows of an artifact in parts.

    The transformers engine works in batches, and none spans two parts: a resumed run gives the
    bytes of an undisturbed one. The other engines are kept full to the last row: a part is
    whatever rows have finished.
    """
    if engine == "transformers":
        parts.map(rows, rows_per_part, prepare)
    else:
        parts.gather(rows, lambda missing: prepare().stream(missing, rows_per_part))


def require_room(
    engine: Engine,
    prompts: Iterable[list[int]],
    decoding: Decoding,
    key: str,
    advice: str = "lower it",
) -> None:
    """Raise ValueError where there are prompts, but none leaves room for max_new_tokens.

    `key` is where the user finds max_new_tokens. A part in which none fits is no error.
    """
    asked = False
    for prompt in prompts:
        if engine.fits(prompt, decoding):
            return
        asked = True
    if asked:
        raise ValueError(
            f"no prompt leaves room for {key} = {decoding.max_new_tokens} in the model's "
            f"context of {engine.context_length} tokens; {advice}"
        )
