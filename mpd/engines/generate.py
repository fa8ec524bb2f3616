"""Generation: token ids in, token ids out. What the engines share, and how stages use them.

Every request carries its own seed, so a completion does not depend on its neighbours, order
or shard. (Rounding may still flip a rare token between batch sizes or thread counts: a decode
with a key-value cache differs in the last bits.)
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpd.config.generation import Decoding, EngineSettings
from mpd.config.resources import GenerationResources
from mpd.store.model_folder import read_manifest
from mpd.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    import polars as pl

    from mpd.job.progress import Progress
    from mpd.store.parts import Parts


@dataclass(frozen=True)
class Request:
    """A prompt and the seed of its completion."""

    prompt_ids: list[int]
    seed: int


@dataclass(frozen=True)
class Completion:
    """Generated ids with the stop id, if any, and the log-probability of each.

    Log-probabilities are the model's own, in nats: temperature 1, before top-k and top-p.
    `finish_reason` is stop, length (token limit) or too_long (the prompt leaves no room).
    """

    token_ids: list[int]
    logprobs: list[float]
    finish_reason: str


TOO_LONG = Completion([], [], "too_long")


def seed_of(*identity: object) -> int:
    """A 63-bit seed from what identifies a sample."""
    digest = hashlib.sha256(":".join(str(part) for part in identity).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class Engine(ABC):
    """A model that completes requests.

    What is costly (weights, processes) starts when the first completion is asked for: prompts are
    checked before.
    """

    def __init__(self, manifest: Path) -> None:
        self.folder = manifest.parent
        self.vocabulary = Vocabulary.of_folder(self.folder)
        self.context_length: int = read_manifest(manifest)["context_length"]

    def fits(self, prompt_ids: list[int], decoding: Decoding) -> bool:
        """Whether a prompt leaves room for max_new_tokens in the context."""
        return len(prompt_ids) + decoding.max_new_tokens <= self.context_length

    def stream(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        advance: Callable[[int, int], None] = lambda sequences, tokens: None,
    ) -> Iterator[tuple[int, Completion]]:
        """Complete every request: its number and its completion, as they finish.

        A prompt that leaves no room for max_new_tokens in the context comes back as too_long.
        `advance(sequences, tokens)` is called with those that finished and those that were made.
        """
        fitting = []
        for number, request in enumerate(requests):
            if self.fits(request.prompt_ids, decoding):
                fitting.append((number, request))
            else:
                advance(1, 0)
                yield number, TOO_LONG
        # Neighbours of similar length waste the least padding, and the shortest fill the gaps at
        # the end. Samples of one prompt stay neighbours, so that they share what is cached of it.
        fitting.sort(key=lambda pair: -len(pair[1].prompt_ids))
        if fitting:
            yield from self._complete(fitting, decoding, advance)

    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        advance: Callable[[int, int], None] = lambda sequences, tokens: None,
    ) -> list[Completion]:
        """Complete every request, in order; see `stream`."""
        done = dict(self.stream(requests, decoding, advance))
        return [done[number] for number in range(len(requests))]

    @abstractmethod
    def _complete(
        self,
        requests: Sequence[tuple[int, Request]],
        decoding: Decoding,
        advance: Callable[[int, int], None],
    ) -> Iterator[tuple[int, Completion]]:
        """Complete requests that fit, each under its number."""


def open_engine(manifest: Path, settings: EngineSettings, resources: GenerationResources) -> Engine:
    """The engine of a stage: `settings` say which and what it means, `resources` how it runs."""
    if settings.engine == "vllm":
        from mpd.engines.vllm import VllmEngine

        return VllmEngine(manifest, settings, resources)
    if settings.engine == "server":
        from mpd.engines.server import ServerEngine

        return ServerEngine(manifest, resources)
    from mpd.engines.transformers import TransformersEngine

    return TransformersEngine(manifest, settings.dtype, resources)


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
