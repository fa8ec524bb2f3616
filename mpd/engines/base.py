"""The interface of engines: token ids in, token ids out.

Every request carries its own seed, so a completion does not depend on its neighbours, its order or
its shard. (Rounding may still change a rare token between batch sizes or thread counts: decoding
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
    `finish_reason` is stop, length (the token limit) or too_long (the prompt leaves no room).
    """

    token_ids: list[int]
    logprobs: list[float]
    finish_reason: str


PROMPT_TOO_LONG = Completion([], [], "too_long")


def seed_of(*identity: object) -> int:
    """A 63-bit seed from the values that identify a sample."""
    digest = hashlib.sha256(":".join(str(part) for part in identity).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class Engine(ABC):
    """A model that completes requests.

    Weights are loaded and processes started with the first request, after prompts were checked.
    """

    def __init__(self, manifest: Path) -> None:
        """Read tokenizer and context length of the model with this manifest.

        Raises ValueError where a file is damaged, and where the model would not stop at what ends
        its turns.
        """
        self.context_length: int = read_manifest(manifest)["context_length"]
        self.folder = manifest.parent
        self.vocabulary = Vocabulary.of_folder(self.folder)
        self.vocabulary.require_turn_end()

    def fits(self, prompt_ids: list[int], decoding: Decoding) -> bool:
        """Whether a prompt leaves room for max_new_tokens in the context."""
        return len(prompt_ids) + decoding.max_new_tokens <= self.context_length

    def stream(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        advance: Callable[[int, int], None] = lambda sequences, tokens: None,
    ) -> Iterator[tuple[int, Completion]]:
        """Complete every request: numbers and completions, as they finish.

        A prompt that leaves no room for max_new_tokens in the context comes back as too_long.
        `advance(sequences, tokens)` counts the finished sequences and the generated tokens.
        """
        fitting = []
        for number, request in enumerate(requests):
            if self.fits(request.prompt_ids, decoding):
                fitting.append((number, request))
            else:
                advance(1, 0)
                yield number, PROMPT_TOO_LONG
        # Neighbours of similar length need the least padding, and the shortest fill the gaps at
        # the end. Samples of one prompt stay neighbours, so that they share its cache.
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
        completions = dict(self.stream(requests, decoding, advance))
        return [completions[number] for number in range(len(requests))]

    @abstractmethod
    def _complete(
        self,
        requests: Sequence[tuple[int, Request]],
        decoding: Decoding,
        advance: Callable[[int, int], None],
    ) -> Iterator[tuple[int, Completion]]:
        """Complete numbered requests that fit, the longest prompts first; see `stream`."""
