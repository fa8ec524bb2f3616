"""Prompts and the chat format: rendering, the split of thinking and answer, trained sequences.

Token ids are made once. A prompt is rendered by the chat template and encoded; a rewrite is
text that is encoded once, here: control tokens by id, text segments with every added token
disabled, so that text can never turn into a control token.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from mpd.answers import extract

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def fill(template: str, **values: str) -> str:
    """Put values in place of their {placeholders}; every other brace is left as it is."""
    pattern = "|".join(f"{{{name}}}" for name in values)
    return re.sub(pattern, lambda match: values[match.group()[1:-1]], template)


def answer_delimiter(chat: Mapping[str, Any]) -> str | None:
    """The text after which the answer stands, or None where the format has no think tags."""
    return chat["close"].strip() if chat["think"] == "tags" else None


def ids_digest(prompt_ids: list[int], completion_ids: list[int]) -> str:
    """Digest of the token ids of a trained sequence; 16 hexadecimal digits."""
    ids = json.dumps([prompt_ids, completion_ids])
    return hashlib.sha256(ids.encode()).hexdigest()[:16]


class ChatFormat:
    """A tokenizer together with the settings of `chat` and the model's stop ids.

    `control_ids` are the ids that a cache always holds: end of thinking, then the stop ids.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerFast", chat: Mapping[str, Any], stop_ids: list[int]
    ) -> None:
        self.tokenizer = tokenizer
        self.chat = chat
        self.stop_ids = stop_ids
        self.tags = chat["think"] == "tags"
        self.open, self.close = chat["open"], chat["close"]
        self.open_tag, self.close_tag = self.open.strip(), self.close.strip()
        self.open_ids = self._encode(self.open_tag) if self.tags else []
        self.close_ids = self._encode(self.close_tag) if self.tags else []
        self.control_ids = list(dict.fromkeys([*self.close_ids, *stop_ids]))
        self._plain = _without_added_tokens(tokenizer)
        added = [str(token) for token in tokenizer.added_tokens_decoder.values()]
        self._control_texts = {*added, *([self.open_tag, self.close_tag] if self.tags else [])}
        self._control_texts -= {""}

    @property
    def vocabulary_size(self) -> int:
        """Ids from here on are padding of the model's output rows, not tokens."""
        return max(self.tokenizer.get_vocab().values()) + 1

    def prompt_ids(self, content: str, thinking: bool) -> list[int]:
        """Render one user message and encode it.

        Raises ValueError where the tokenizer has no token for a word of it.
        """
        text = self.render(content, thinking)
        ids = self._encode(text)
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown in ids:
            words = [*content.split(), *text.split()]  # the user's own first
            words = [word for word in words if unknown in self._encode(word)]
            raise ValueError(
                f"the prompt has a word that this model's vocabulary cannot say: "
                f"{words[0] if words else text!r}; change the prompt in config.yaml"
            )
        return ids

    def problem_ids(self, question: str) -> list[int]:
        """The plain student prompt of a question. Raises as `prompt_ids` does."""
        content = fill(self.chat["prompt"], problem=question)
        return self.prompt_ids(content, self.chat["thinking"])

    def render(self, content: str, thinking: bool) -> str:
        """The text that the chat template makes of one user message."""
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=thinking,
        )
        assert isinstance(rendered, str)
        return rendered

    def text(self, ids: list[int]) -> str:
        """The text of a completion without its stop token, control tokens shown."""
        whole = ids[:-1] if ids and ids[-1] in self.stop_ids else ids
        return self._decode(whole)

    def thinking_tokens(self, ids: list[int]) -> int:
        """How many ids of a completion come up to and with the end of thinking.

        All of them where thinking never ends; none where the format has no tags.
        """
        return (self.thinking_end(ids) or len(ids)) if self.tags else 0

    def thinking_end(self, ids: list[int]) -> int | None:
        """The position after the last end of thinking; None where there is none."""
        width = len(self.close_ids)
        for start in range(len(ids) - width, -1, -1):
            if width and ids[start : start + width] == self.close_ids:
                return start + width
        return None

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
            lead = self.open.lstrip()[len(self.open_tag) :]
            tail = self.close[: -len(self.close.lstrip())]
            if not self._decode(prompt_ids).rstrip().endswith(self.open_tag):
                ids += self.open_ids
                reasoning = lead + reasoning
            before = self._say(reasoning + tail)
            after = self._say(self.close[len(tail) + len(self.close_tag) :] + answer)
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
