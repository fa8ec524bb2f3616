"""Prompts and the chat format: rendering, the split of thinking and answer, trained sequences.

Token ids are made once. A prompt is rendered by the chat template and encoded; a rewrite is
text that is encoded once, here: control tokens by id, text segments with every added token
disabled, so that text can never turn into a control token.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from mpd.grading import extract
from mpd.model_folder import vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def fill(template: str, **values: str) -> str:
    """Put values in place of their {placeholders}; every other brace is left as it is."""
    pattern = "|".join(f"{{{name}}}" for name in values)
    return re.sub(pattern, lambda match: values[match.group()[1:-1]], template)


def ids_digest(prompt_ids: list[int], completion_ids: list[int]) -> str:
    """Digest of the token ids of a trained sequence; 16 hexadecimal digits."""
    ids = json.dumps([prompt_ids, completion_ids])
    return hashlib.sha256(ids.encode()).hexdigest()[:16]


class UnknownWord(ValueError):
    """The tokenizer has no token for a word."""


def end_of_thinking(ids: list[int], close_ids: list[int]) -> int | None:
    """The position after the last `close_ids`; None where there are none."""
    width = len(close_ids)
    for start in range(len(ids) - width, -1, -1):
        if width and ids[start : start + width] == close_ids:
            return start + width
    return None


class ChatFormat:
    """A tokenizer together with the settings of `chat` and the model's stop ids.

    A stage gives the keys of `chat` that it needs, so each is read where it is used: `prompt` and
    `thinking` by prompts, `think` and `close` by what is read, `open` too by what is written. With
    prompts goes `date`, where it is set.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerFast", chat: Mapping[str, Any], stop_ids: list[int]
    ) -> None:
        self.tokenizer = tokenizer
        self.chat = chat
        self.stop_ids = stop_ids

    @cached_property
    def tags(self) -> bool:
        """Whether reasoning stands between an open and a close tag."""
        return self.chat["think"] == "tags"

    @cached_property
    def open_tag(self) -> str:
        return self.chat["open"].strip()

    @cached_property
    def close_tag(self) -> str:
        return self.chat["close"].strip()

    @cached_property
    def open_ids(self) -> list[int]:
        return self._encode(self.open_tag) if self.tags else []

    @cached_property
    def close_ids(self) -> list[int]:
        return self._encode(self.close_tag) if self.tags else []

    @cached_property
    def control_ids(self) -> list[int]:
        """The ids that a cache always holds: end of thinking, then the stop ids."""
        return list(dict.fromkeys([*self.close_ids, *self.stop_ids]))

    @cached_property
    def _plain(self) -> Tokenizer:
        return _without_added_tokens(self.tokenizer)

    @cached_property
    def _control_texts(self) -> list[str]:
        """What no text may spell. Added tokens of nothing but space are no control tokens."""
        added = [str(token) for token in self.tokenizer.added_tokens_decoder.values()]
        texts = [*added, *([self.open_tag, self.close_tag] if self.tags else [])]
        return [text for text in texts if text.strip()]

    @cached_property  # a tokenizer of 151,669 tokens takes 0.1 s to list them
    def vocabulary_size(self) -> int:
        """Ids from here on are padding of the model's output rows, not tokens."""
        return vocabulary_size(self.tokenizer)

    def prompt_ids(self, content: str, thinking: bool) -> list[int]:
        """Render one user message and encode it.

        Raises UnknownWord where the tokenizer has no token for a word of it, ValueError as `render`
        does.
        """
        text = self.render(content, thinking)
        word = self.unknown_word(text)
        if word is not None:
            word = self.unknown_word(content) or word  # rather than that of the chat template
            raise UnknownWord(f"this model's vocabulary has no token for {word!r} of a prompt")
        return self._encode(text)

    def problem_ids(self, question: str) -> list[int]:
        """The plain student prompt of a question.

        Raises ValueError, naming chat.prompt or the question, where the tokenizer has no token
        for a word of it; and as `render` does.
        """
        content = fill(self.chat["prompt"], problem=question)
        try:
            return self.prompt_ids(content, self.chat["thinking"])
        except UnknownWord:
            self.require_sayable(fill(self.chat["prompt"], problem=""), "chat.prompt")
            word = self.unknown_word(question)
            if word is None:
                raise
            raise ValueError(
                f"question {question[:80]!r}: this model's vocabulary has no token for {word!r}; "
                "mend or remove this problem, or take a student that knows it"
            ) from None

    def require_sayable(self, template: str, key: str) -> None:
        """Raise ValueError where a template of the config has a word without a token."""
        word = self.unknown_word(template)
        if word is not None:
            raise ValueError(
                f"{key}: this model's vocabulary has no token for {word!r}; use other words there"
            )

    def unknown_word(self, text: str) -> str | None:
        """A word that the tokenizer has no token for, or None where it has all of a text."""
        token, unknown = self.tokenizer.unk_token, self.tokenizer.unk_token_id
        if token is None:
            return None

        def lacks(part: str) -> bool:
            # The unknown token may be a control token too, which the text then spells.
            return self._encode(part).count(unknown) > part.count(token)

        return next((word for word in text.split() if lacks(word)), text) if lacks(text) else None

    def render(self, content: str, thinking: bool) -> str:
        """The text that the chat template makes of one user message.

        Raises ValueError where the template asks for the day and the settings have none.
        """
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=thinking,
            strftime_now=self._strftime,  # in place of transformers' own, which asks the clock
        )
        assert isinstance(rendered, str)
        return rendered

    def _strftime(self, format: str) -> str:
        day = self.chat.get("date")
        if day is None:
            raise ValueError(
                f"{self.tokenizer.name_or_path}: its chat template puts the day into prompts, and "
                "chat.date is null; set it to a day, such as 2025-01-31, so that a rerun means the "
                "same"
            )
        return date.fromisoformat(day).strftime(format)

    def text(self, ids: list[int]) -> str:
        """The text of a completion without its stop token, control tokens shown."""
        whole = ids[:-1] if ids and ids[-1] in self.stop_ids else ids
        return self._decode(whole)

    def thinking_end(self, ids: list[int]) -> int | None:
        """The position after the last end of thinking; None where there is none."""
        return end_of_thinking(ids, self.close_ids)

    def split(self, rewrite: str) -> tuple[str, str] | None:
        """Reasoning and answer of a rewrite.

        Where the rewriter used the think tags, they decide. Else the answer begins with the
        last line that holds a box or starts with `Answer:`. None where there is no answer line,
        or nothing before it.
        """
        rewrite = rewrite.strip()
        if not self.tags:
            return ("", rewrite) if rewrite else None
        if self.close_tag in rewrite:
            reasoning, _, answer = rewrite.rpartition(self.close_tag)
            parts = reasoning.removeprefix(self.open_tag).strip(), answer.strip()
        else:
            lines = rewrite.splitlines()
            ends = [number for number, line in enumerate(lines) if extract(line, None)]
            cut = ends[-1] if ends else 0
            parts = "\n".join(lines[:cut]).strip(), "\n".join(lines[cut:]).strip()
        return parts if all(parts) else None

    def build(self, rewrite: str, prompt_ids: list[int]) -> list[int] | None:
        """The trained completion of a rewrite: in the student's format, stop id at the end.

        The open tag is left out where the prompt already ends with it. None where the rewrite
        cannot be split, holds the text of a control token, or cannot be said without loss.
        """
        parts = self.split(rewrite)
        if parts is None or any(text in part for part in parts for text in self._control_texts):
            return None
        reasoning, answer = parts
        ids: list[int] = []
        if self.tags:
            opening, closing = self.chat["open"], self.chat["close"]
            lead = opening.lstrip()[len(self.open_tag) :]
            tail = closing[: -len(closing.lstrip())]
            if not self._decode(prompt_ids).rstrip().endswith(self.open_tag):
                ids += self.open_ids
                reasoning = lead + reasoning
            before = self._say(reasoning + tail)
            after = self._say(closing[len(tail) + len(self.close_tag) :] + answer)
            if before is None or after is None:
                return None
            return [*ids, *before, *self.close_ids, *after, self.stop_ids[0]]
        said = self._say(answer)
        return None if said is None else [*said, self.stop_ids[0]]

    def encode(self, text: str) -> list[int]:
        """The completion of a text that is in the student's format already, stop id at the end.

        Raises ValueError where the text cannot be said without loss.
        """
        ids: list[int] = []
        tags = {self.open_tag: self.open_ids, self.close_tag: self.close_ids} if self.tags else {}
        pattern = "|".join(re.escape(tag) for tag in tags if tag)
        for segment in re.split(f"({pattern})", text) if pattern else [text]:
            said = tags.get(segment) or self._say(segment)
            if said is None:
                raise ValueError(f"the tokenizer cannot say {segment[:80]!r} without loss")
            ids += said
        return [*ids, self.stop_ids[0]]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _decode(self, ids: list[int]) -> str:
        text = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def _say(self, text: str) -> list[int] | None:
        ids = self._plain.encode(text, add_special_tokens=False).ids
        return ids if self._decode(ids) == text else None


def _without_added_tokens(tokenizer: "PreTrainedTokenizerFast") -> Tokenizer:
    """The tokenizer's model without any added token: plain text stays plain text."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = []
    state["post_processor"] = None
    state["padding"] = state["truncation"] = None
    return Tokenizer.from_str(json.dumps(state))
