"""How stages use an engine: rows become requests, completions become rows, in parts."""

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
    """How rows become requests, and completions become rows of an artifact.

    `ask(row)` gives the requests of a row. `answer(rows, completions)` gives the new rows of any
    rows that have finished, from the completions of each.
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
        """Complete all rows, in parts of rows as they finish."""
        finished: list[tuple[int, list[Completion]]] = []
        for row in self._finished(rows):
            finished.append(row)
            if len(finished) == rows_per_part:
                yield self._answered(rows, finished)
                finished = []
        if finished:
            yield self._answered(rows, finished)

    def _answered(
        self, rows: "pl.DataFrame", finished: list[tuple[int, list[Completion]]]
    ) -> "pl.DataFrame":
        """The new rows of finished ones, in the order of `rows`."""
        finished = sorted(finished, key=lambda row: row[0])
        numbers = [number for number, _ in finished]
        return self.answer(rows[numbers], [completions for _, completions in finished])

    def _finished(self, rows: "pl.DataFrame") -> Iterator[tuple[int, list[Completion]]]:
        """The numbers of rows with all their completions, as they finish."""
        requests: list[Request] = []
        origins: list[tuple[int, int]] = []  # the row of each request, and its index there
        completions: dict[int, dict[int, Completion]] = {}  # by row and index
        counts: dict[int, int] = {}
        for number, row in enumerate(rows.iter_rows(named=True)):
            row_requests = self.ask(row)
            requests += row_requests
            origins += [(number, index) for index in range(len(row_requests))]
            if row_requests:
                completions[number], counts[number] = {}, len(row_requests)
            else:
                yield number, []
        stream = self.engine.stream(requests, self.decoding, self.progress.advance)
        for request_number, completion in stream:
            number, index = origins[request_number]
            completions[number][index] = completion
            if len(completions[number]) == counts[number]:
                by_index = completions.pop(number)
                yield number, [by_index[index] for index in range(counts[number])]
        assert not completions, f"{len(completions)} rows were not completed"


def complete(
    parts: "Parts",
    rows: "pl.DataFrame",
    rows_per_part: int,
    engine: str,
    prepare: Callable[[], Task],
) -> None:
    """Complete the rows of an artifact in parts.

    `prepare` is called only where a part is missing. The transformers engine works in batches, and
    none spans two parts: a resumed run gives the bytes of an undisturbed one. The other engines are
    kept full to the last row: a part is whatever rows have finished.
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
    has_prompts = False
    for prompt in prompts:
        if engine.fits(prompt, decoding):
            return
        has_prompts = True
    if has_prompts:
        raise ValueError(
            f"no prompt leaves room for {key} = {decoding.max_new_tokens} in the model's "
            f"context of {engine.context_length} tokens; {advice}"
        )
