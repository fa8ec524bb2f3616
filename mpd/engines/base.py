"""What every engine is: token ids in, token ids out.

Every request carries its own seed, so a completion does not depend on its neighbours, order
or shard. (Rounding may still flip a rare token between batch sizes or thread counts: a decode
with a key-value cache differs in the last bits.)
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpd.config.generation import Decoding
from mpd.store.model_folder import read_manifest
from mpd.text.vocabulary import Vocabulary


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
