"""Tokenizers to which text is only text.

In a tokenizer's file, a control token is whatever spells it. Here every control token has a name
that no text of a user or a model can spell: it begins with a private character that the text to
encode lacks. The names have the ids of their tokens, so that one call encodes a whole prompt with
the tokenizer's own treatment of the borders between text and control tokens.
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PRIVATE = range(0x100000, 0x10FFFE)  # the last plane of Unicode: code points without a meaning


def private_characters(count: int, text: str) -> list[str]:
    """The first `count` private characters that a text lacks."""
    present = set(text)
    characters = (chr(code) for code in PRIVATE)
    return [next(char for char in characters if char not in present) for _ in range(count)]


class PlainTokenizer:
    """A model's tokenizer in which control tokens have names that start with `mark`.

    `control_ids` maps the texts of control tokens to their ids. Added tokens that are no control
    tokens, such as those for runs of spaces, stay.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerFast", control_ids: dict[str, int], mark: str
    ) -> None:
        self.control_ids = control_ids
        self.anchor = f"{mark}{mark}"
        self.names = {text: f"{mark}{token}{mark}" for text, token in control_ids.items()}
        self.texts = {name: text for text, name in self.names.items()}
        self.spelled, self.named = _pattern(self.names), _pattern(self.texts)
        unknown = tokenizer.unk_token
        added = list(tokenizer.added_tokens_decoder.items())
        renamed = {text: name for text, name in self.names.items() if text != unknown}
        self.tokenizer = _without_added_tokens(tokenizer.backend_tokenizer, renamed, control_ids)
        self._add([token for _, token in added])
        self.single_words = {number for number, token in added if token.single_word}
        self.swallowed = [
            re.compile(before + f"({re.escape(self.names[token.content])})" + behind)
            for _, token in added
            for before, behind in [(r"\s*" * token.lstrip, r"\s*" * token.rstrip)]
            if (before or behind) and token.content in self.names
        ]
        self.original = {
            self.tokenizer.token_to_id(self.names[text]): token
            for text, token in control_ids.items()
            if self.tokenizer.token_to_id(self.names[text]) is not None
        }
        self.original |= {
            self.tokenizer.token_to_id(token.content): number
            for number, token in added
            if token.content not in self.names
        }
        self.unknown_id = None if unknown is None else self.tokenizer.token_to_id(unknown)

    def _add(self, added: list[AddedToken]) -> None:
        """Add tokens under their names, and the anchor."""
        flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
        tokens = [
            AddedToken(
                self.names.get(token.content, token.content),
                **{flag: getattr(token, flag) for flag in flags},
            )
            for token in added
        ]
        self.tokenizer.add_tokens([*tokens, AddedToken(self.anchor, normalized=False)])

    def with_names(self, text: str) -> str:
        """A text with the names of control tokens in place of what spells them."""
        return self.spelled.sub(lambda match: self.names[match.group()], text)

    def without_names(self, text: str) -> str:
        """A text with what spells control tokens in place of their names."""
        return self.named.sub(lambda match: self.texts[match.group()], text)

    def as_read(self, text: str) -> str:
        """A text that names control tokens, without the space that they swallow."""
        for pattern in self.swallowed:
            text = pattern.sub(r"\1", text)
        return text

    def is_complete(self, ids: list[int], text: str) -> bool:
        """Whether ids have the control tokens that a text names, in their order.

        Those that have to be words of their own do not count: a letter beside one undoes it.
        """
        named = [self.texts[name] for name in self.named.findall(text)]
        expected = [self.control_ids[control] for control in named]
        counted = {*self.control_ids.values()} - self.single_words
        return [token for token in ids if token in counted] == [
            token for token in expected if token in counted
        ]

    def encode(self, text: str) -> list[int] | None:
        """The ids of a text that names control tokens; None where it has a word without a token."""
        return self._encode_batch([text])[0]

    def _encode_batch(self, texts: Sequence[str]) -> list[list[int] | None]:
        batch = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        unknown, original = self.unknown_id, self.original
        return [
            None
            if unknown is not None and unknown in ids
            else [original.get(token, token) for token in ids]
            for ids in (encoding.ids for encoding in batch)
        ]

    def encode_behind_control(
        self, texts: Sequence[str], space: str = ""
    ) -> list[list[int] | None]:
        """The ids of texts, each of which follows a control token and space.

        It has no word boundary of its own. None where it has a word without a token, or the space
        would be other ids.
        """
        before, *batch = self._encode_batch(
            [self.anchor + space, *(self.anchor + space + text for text in texts)]
        )
        return [
            None
            if before is None or ids is None or ids[: len(before)] != before
            else ids[len(before) :]
            for ids in batch
        ]


class Disguise:
    """Keeps text from spelling control tokens while a chat template renders it.

    `controls` are the texts of control tokens. A private character that `text` lacks stands for one
    of the characters of each that a message spells.
    """

    def __init__(self, controls: list[str], text: str) -> None:
        firsts = {control: control.lstrip()[0] for control in controls}
        characters = sorted(set(firsts.values()))
        private = private_characters(len(characters), text)
        self.stand_ins = dict(zip(characters, private, strict=True))
        self.disguised = {
            control: control.replace(first, self.stand_ins[first], 1)
            for control, first in firsts.items()
        }

    def on(self, message: str) -> str:
        """The message, which spells no control token any more."""
        for control, disguised in self.disguised.items():
            while control in message:  # one may overlap with itself
                message = message.replace(control, disguised)
        return message

    def off(self, text: str) -> str:
        """A text with the message as it was."""
        return text.translate({ord(char): first for first, char in self.stand_ins.items()})


def _pattern(words: dict[str, str]) -> re.Pattern[str]:
    """A regular expression of words, of which it prefers the longest; without any, of nothing."""
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile("|".join(re.escape(word) for word in longest_first) or r"(?!)")


def _without_added_tokens(
    backend: Tokenizer, names: dict[str, str], control_ids: dict[str, int]
) -> Tokenizer:
    """A tokenizer without added tokens, in whose model control tokens have other names."""
    vocabulary = backend.get_vocab(with_added_tokens=False)
    has_gaps = max(vocabulary.values()) >= len(vocabulary)  # an added token would get a used id
    if has_gaps or not names.keys().isdisjoint(vocabulary):
        state = json.loads(backend.to_str())
        _rename(state["model"], names, control_ids)
        state["added_tokens"] = []
        state["post_processor"] = state["padding"] = state["truncation"] = None
        return Tokenizer.from_str(json.dumps(state))
    plain = Tokenizer(backend.model)  # shared: a large one takes seconds to read again
    for part in ("normalizer", "pre_tokenizer"):
        if getattr(backend, part) is not None:
            setattr(plain, part, getattr(backend, part))
    return plain


def _rename(model: dict[str, Any], names: dict[str, str], control_ids: dict[str, int]) -> None:
    """Give control tokens in a tokenizer's model other texts, so that no plain text spells them."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # a unigram model: pairs of token and score
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
        return
    model["vocab"] = {
        **{token: number for token, number in vocabulary.items() if token not in names},
        **{name: control_ids[token] for token, name in names.items()},
    }
    if "merges" in model:
        pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
        model["merges"] = [
            [left, right]
            for left, right in pairs
            if names.keys().isdisjoint((left, right, left + right))
        ]
