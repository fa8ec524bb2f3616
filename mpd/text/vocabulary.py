"""Text to token ids and back: the tokenizer of a model, and what ends its completions.

Text is encoded once. What a user or a model wrote is encoded with every added token disabled, so
that text can never turn into a control token.
"""

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tokenizers import Tokenizer

from mpd.store.model_folder import turn_end
from mpd.store.tokenizer_files import (
    TOKENIZER,
    is_control,
    load_tokenizer,
    stop_ids,
    vocabulary_size,
)
from mpd.text.plain import PlainTokenizer, private_characters

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast


class UnknownWord(ValueError):
    """The tokenizer has no token for a word."""


class Codec(Protocol):
    """Text to token ids and back. Text spells control tokens."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without tokens that the tokenizer would put around it."""
        ...

    def decode(self, ids: list[int]) -> str:
        """The text of ids, control tokens shown."""
        ...


class TokenizerFile:
    """The tokenizer.json of a model folder, read without transformers, which loads torch."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without tokens that the tokenizer would put around it."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """The text of ids, control tokens shown."""
        return self.tokenizer.decode(ids, skip_special_tokens=False)


class Vocabulary:
    """The tokenizer of a model, and the ids that end a completion, the tokenizer's own first.

    `turn_end` is the id that the chat template puts behind an assistant's turn, if it does.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerFast",
        stop_ids: list[int],
        turn_end: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids
        self.turn_end = turn_end

    @classmethod
    def of_folder(cls, folder: Path) -> "Vocabulary":
        """That of a model folder. Raises ValueError where it has no fast tokenizer or stop id."""
        tokenizer = load_tokenizer(folder)
        return cls(tokenizer, stop_ids(folder, tokenizer), turn_end(folder, tokenizer))

    @property
    def trained_stop(self) -> int:
        """The stop id at the end of trained sequences: the one that ends a turn."""
        self.require_turn_end()
        return self.stop_ids[0] if self.turn_end is None else self.turn_end

    def require_turn_end(self) -> None:
        """Raise ValueError where what ends a turn is no stop id: no completion ends with it."""
        if self.turn_end is not None and self.turn_end not in self.stop_ids:
            end, *stops = map(self.decode, ([token] for token in (self.turn_end, *self.stop_ids)))
            raise ValueError(
                f"{self.tokenizer.name_or_path}: its chat template ends turns with {end}, and "
                f"completions end with {' or '.join(stops)} only; set eos_token_id of its "
                f"generation_config.json to {[*self.stop_ids, self.turn_end]}"
            )

    @cached_property  # a tokenizer of 151,669 tokens takes 0.1 s to list them
    def size(self) -> int:
        """V, the number of token ids. Further output rows of the model are padding, not tokens."""
        return vocabulary_size(self.tokenizer)

    @cached_property
    def added_tokens(self) -> "list[AddedToken]":
        """The added tokens, control tokens among them."""
        return list(self.tokenizer.added_tokens_decoder.values())

    @cached_property
    def control_ids(self) -> dict[str, int]:
        """The control tokens by their texts: added tokens that are neither space nor words."""
        added = self.tokenizer.added_tokens_decoder.items()
        return {
            token.content: number
            for number, token in added
            if is_control(token.content, token.special)
        }

    @cached_property
    def _plain(self) -> dict[str, PlainTokenizer]:
        return {}  # by mark

    def plain_tokenizer(self, text: str) -> PlainTokenizer:
        """The tokenizer to which all of a text is plain text; see PlainTokenizer."""
        (mark,) = private_characters(1, text)
        if mark not in self._plain:
            self._plain[mark] = PlainTokenizer(self.tokenizer, self.control_ids, mark)
        return self._plain[mark]

    def encode(self, text: str) -> list[int]:
        """The ids of a text that spells control tokens, such as a rendered prompt."""
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def encode_plain(self, text: str) -> list[int] | None:
        """The ids of a text behind a control token, without any control token.

        None where some of it would be lost.
        """
        return self.encode_tagged([text], (), self.stop_ids[:1])

    def encode_tagged(
        self, segments: Sequence[str], tags: Collection[str], before: Sequence[int]
    ) -> list[int] | None:
        """The ids of segments behind the ids `before`, as the tokenizer gives them for the whole.

        Control tokens are what `tags` spell. None where the ids read back as another text, which
        they may do as what follows `before`, or alone: some tokenizers begin a text with a space,
        where no line begins.
        """
        return self.encode_tagged_batch([segments], tags, before)[0]

    def encode_tagged_batch(
        self, texts: Sequence[Sequence[str]], tags: Collection[str], before: Sequence[int]
    ) -> list[list[int] | None]:
        """What `encode_tagged` gives for the segments of each text; several threads share them."""
        # Decoders treat the first token in a way of their own.
        control = [*before] or list(self.control_ids.values())[:1]
        results: list[list[int] | None] = [None] * len(texts)
        tokenizers = [self.plain_tokenizer("".join(segments)) for segments in texts]
        for plain in dict.fromkeys(tokenizers):
            numbers = [number for number, other in enumerate(tokenizers) if other is plain]
            named = [
                "".join(plain.with_names(part) if part in tags else part for part in texts[number])
                for number in numbers
            ]
            encoded = self._encode_named(plain, named, control)
            for number, ids in zip(numbers, encoded, strict=True):
                results[number] = ids
        return results

    def _encode_named(
        self, plain: PlainTokenizer, named: Sequence[str], control: list[int]
    ) -> list[list[int] | None]:
        """The ids of texts that name control tokens, behind the ids `control`."""
        results: list[list[int] | None] = [None] * len(named)
        start = self.decode(control)
        behind = plain.encode_behind_control(named)
        self._take_lossless(results, behind, plain, named, (control, start))
        if None in results and start.isspace():
            behind = plain.encode_behind_control(named, start)
            self._take_lossless(results, behind, plain, named, (control, start))
        elif None in results:
            self._take_lossless(results, behind, plain, named, ([], ""))
        return results

    def _take_lossless(
        self,
        results: list[list[int] | None],
        batch: Sequence[list[int] | None],
        plain: PlainTokenizer,
        named: Sequence[str],
        before: tuple[list[int], str],
    ) -> None:
        """Fill the results that are None with ids that read back as their text.

        `before` are the ids, and their text, behind which they are read.
        """
        prefix, start = before
        candidates = [
            (number, ids)
            for number, ids in enumerate(batch)
            if results[number] is None and ids is not None and plain.is_complete(ids, named[number])
        ]
        decoded = self.tokenizer.backend_tokenizer.decode_batch(
            [[*prefix, *ids] for _, ids in candidates], skip_special_tokens=False
        )
        for (number, ids), text in zip(candidates, decoded, strict=True):
            if text == start + plain.without_names(plain.as_read(named[number])):
                results[number] = ids

    def decode(self, ids: list[int]) -> str:
        """The text of ids, control tokens shown."""
        text = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def text(self, ids: list[int]) -> str:
        """The text of a completion without its stop token, control tokens shown."""
        return self.decode(ids[:-1] if ids and ids[-1] in self.stop_ids else ids)

    def written_ids(self, ids: list[int]) -> list[int]:
        """The control tokens among ids, in their order, and unknown words."""
        control = {*self.control_ids.values(), self.tokenizer.unk_token_id}
        return [token for token in ids if token in control]

    @cached_property
    def inseparable(self) -> list[str]:
        """Texts of control tokens that are not special, and that no other tokens can spell."""
        texts = [token.content for token in self.added_tokens if not token.special]
        return [text for text in texts if text in self.control_ids and self.unknown_word(text)]

    def unknown_word(self, text: str) -> str | None:
        """A word of plain text that has no token, or None where the tokenizer has all of a text."""
        if self.tokenizer.unk_token is None:
            return None
        plain = self.plain_tokenizer(text)
        if plain.encode(text) is not None:
            return None
        return next((word for word in text.split() if plain.encode(word) is None), text)
