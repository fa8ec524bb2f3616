"""Text to token ids and back: the tokenizer of a model, and what ends its completions.

Text is encoded once. What a user or a model wrote is encoded with every added token disabled, so
that text can never turn into a control token.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tokenizers import Tokenizer

from mpd.store.model_folder import TOKENIZER, load_tokenizer, stop_ids, vocabulary_size

if TYPE_CHECKING:
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
    """The tokenizer of a model, and the ids that end a completion, the tokenizer's own first."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", stop_ids: list[int]) -> None:
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids

    @classmethod
    def of_folder(cls, folder: Path) -> "Vocabulary":
        """That of a model folder. Raises ValueError where it has no fast tokenizer or stop id."""
        tokenizer = load_tokenizer(folder)
        return cls(tokenizer, stop_ids(folder, tokenizer))

    @cached_property  # a tokenizer of 151,669 tokens takes 0.1 s to list them
    def size(self) -> int:
        """V, the number of token ids. Further output rows of the model are padding, not tokens."""
        return vocabulary_size(self.tokenizer)

    @cached_property
    def added_texts(self) -> list[str]:
        """The texts of the added tokens, control tokens among them."""
        return [str(token) for token in self.tokenizer.added_tokens_decoder.values()]

    @cached_property
    def _plain(self) -> Tokenizer:
        return _without_added_tokens(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """The ids of a text that spells control tokens, such as a rendered prompt."""
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def encode_plain(self, text: str) -> list[int] | None:
        """The ids of a text without any added token; None where some of it would be lost."""
        ids = self._plain.encode(text, add_special_tokens=False).ids
        return ids if self.decode(ids) == text else None

    def decode(self, ids: list[int]) -> str:
        """The text of ids, control tokens shown."""
        text = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def text(self, ids: list[int]) -> str:
        """The text of a completion without its stop token, control tokens shown."""
        return self.decode(ids[:-1] if ids and ids[-1] in self.stop_ids else ids)

    def unknown_word(self, text: str) -> str | None:
        """A word that the tokenizer has no token for, or None where it has all of a text."""
        token, unknown = self.tokenizer.unk_token, self.tokenizer.unk_token_id
        if token is None:
            return None

        def is_unknown(part: str) -> bool:
            # The unknown token may be a control token too, which the text then spells.
            return self.encode(part).count(unknown) > part.count(token)

        if not is_unknown(text):
            return None
        return next((word for word in text.split() if is_unknown(word)), text)


def _without_added_tokens(tokenizer: "PreTrainedTokenizerFast") -> Tokenizer:
    """The tokenizer's model without any added token: plain text stays plain text."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = []
    state["post_processor"] = None
    state["padding"] = state["truncation"] = None
    return Tokenizer.from_str(json.dumps(state))
