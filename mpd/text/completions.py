"""Completions: where the thinking ends in one, and how a rewrite becomes one.

A rewrite is text that is encoded once, here: control tokens by their ids, what stands between them
as plain text.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property

from mpd.config.chat import ReadingChat, WritingChat
from mpd.store.digests import digest_of
from mpd.text.splitting import split_at_answer
from mpd.text.thinking import without_thinking
from mpd.text.vocabulary import Codec, Vocabulary


def ids_digest(prompt_ids: list[int], completion_ids: list[int]) -> str:
    """Digest of the token ids of a trained sequence; 16 hexadecimal digits."""
    return digest_of([prompt_ids, completion_ids])[:16]


class LossyText(ValueError):
    """The tokenizer gives a text back as another one.

    `has_tokens`: it has tokens for all of it, but changes letters, such as an e with a combining
    accent into one letter.
    """

    def __init__(self, text: str, has_tokens: bool) -> None:
        super().__init__(f"the tokenizer cannot encode {text[:80]!r} without loss")
        self.has_tokens = has_tokens


class CompletionReader:
    """The completions of a model as they are read: where their thinking ends."""

    def __init__(self, codec: Codec, chat: ReadingChat) -> None:
        self.codec = codec
        self.close_tag = chat.delimiter  # None where the format has no think tags

    @cached_property
    def close_ids(self) -> list[int]:
        """The ids that end the thinking; none where the format has no tags."""
        return [] if self.close_tag is None else self.codec.encode(self.close_tag)

    def thinking_end(self, ids: list[int]) -> int | None:
        """The position after the last end of thinking; None where there is none.

        The ids of a tag of several tokens depend on what stands beside it: a tokenizer may have a
        token for `>` and two new lines. Its end is that of the token with its last character.
        """
        width = len(self.close_ids)
        end = self._end_of_text(ids, self.close_tag) if self.close_tag and width > 1 else None
        ends = range(len(ids), width - 1, -1) if width else ()
        return end or next((e for e in ends if ids[e - width : e] == self.close_ids), None)

    def _end_of_text(self, ids: list[int], tag: str) -> int | None:
        """The position after the token at which the last `tag` of the text of ids is whole."""

        def count(end: int) -> int:
            return self.codec.decode(ids[:end]).count(tag)

        total = count(len(ids))
        return bisect_left(range(len(ids) + 1), total, key=count) if total else None

    def thinking_tokens(self, ids: list[int]) -> int:
        """The number of ids up to the end of thinking, which is included.

        All of them where thinking never ends; none where the format has no tags.
        """
        return 0 if self.close_tag is None else self.thinking_end(ids) or len(ids)


class CompletionFormat(CompletionReader):
    """How the completions of a model are marked up: what ends the thinking, and what ends them."""

    def __init__(self, vocabulary: Vocabulary, chat: ReadingChat) -> None:
        super().__init__(vocabulary, chat)
        self.vocabulary = vocabulary

    @cached_property
    def control_ids(self) -> list[int]:
        """The ids that a cache always holds: end of thinking, then the stop ids."""
        return list(dict.fromkeys([*self.close_ids, *self.vocabulary.stop_ids]))


class CompletionWriter(CompletionFormat):
    """The format of completions that are written: rewrites, and the user's trajectories."""

    def __init__(self, vocabulary: Vocabulary, chat: WritingChat) -> None:
        super().__init__(vocabulary, chat)
        self.opening, self.closing = chat.open, chat.close

    @cached_property
    def open_tag(self) -> str:
        """What begins the thinking, without space around it."""
        return self.opening.strip()

    @cached_property
    def _control_texts(self) -> list[str]:
        """What no text may contain."""
        return [*self.vocabulary.control_ids, *self._tags]

    def without_thinking(self, text: str, prompt: str, can_think: bool) -> str | None:
        """A rewriter's completion without its own thinking; see mpd.text.thinking."""
        tags = None if self.close_tag is None else (self.open_tag, self.close_tag)
        return without_thinking(text, prompt, tags, can_think)

    def split(self, rewrite: str) -> tuple[str, str] | None:
        """Reasoning and answer of a rewrite.

        Think tags separate them where the rewriter used them. Otherwise the answer begins with the
        last lines that give it, by a box or `Answer:`, and one line is used whole; see
        mpd.text.splitting. None where there is no answer, or nothing before it.
        """
        rewrite = rewrite.strip()
        if self.close_tag is None:
            return ("", rewrite) if rewrite else None
        if self.close_tag not in rewrite:
            return split_at_answer(rewrite)
        reasoning, _, answer = rewrite.rpartition(self.close_tag)
        parts = reasoning.removeprefix(self.open_tag).strip(), answer.strip()
        return parts if all(parts) else None

    def build(self, rewrite: str, prompt_ids: list[int]) -> list[int] | None:
        """The trained completion of a rewrite: in the student's format, stop id at the end.

        The open tag is left out where the prompt already ends with it. None where the rewrite
        cannot be split, holds the text of a control token, or cannot be encoded without loss.
        """
        parts = self.split(rewrite)
        if parts is None or any(text in part for part in parts for text in self._control_texts):
            return None
        reasoning, answer = parts
        if self.close_tag is None:
            segments = [answer]
        else:
            prompt = self.vocabulary.decode(prompt_ids)
            opened = prompt.rstrip().endswith(self.open_tag)
            after_open = self.opening.lstrip()[len(self.open_tag) :]
            if opened:  # the prompt may have the space behind the tag, too
                after_open = after_open[len(prompt) - len(prompt.rstrip()) :]
            before_close = self.closing[: -len(self.closing.lstrip())]
            after_close = self.closing[len(before_close) + len(self.close_tag) :]
            begin = [] if opened else [self.open_tag]
            thinking = after_open + reasoning + before_close
            segments = [*begin, thinking, self.close_tag, after_close + answer]
        (ids,) = self._join([segments], prompt_ids[-1:])
        return None if isinstance(ids, LossyText) else ids

    def encode(self, text: str, is_cut: bool = False) -> list[int]:
        """The completion of a text that is in the student's format already, stop id at the end.

        None ends a text that was cut. Raises LossyText where the text cannot be encoded without
        loss.
        """
        (ids,) = self.encode_batch([text], [is_cut])
        if isinstance(ids, LossyText):
            raise ids
        return ids

    def encode_batch(
        self, texts: Sequence[str], are_cut: Sequence[bool]
    ) -> list[list[int] | LossyText]:
        """What `encode` returns or raises for each of several texts; several threads share them."""
        pattern = "|".join(map(re.escape, self._tags))
        segments = [re.split(f"({pattern})", text) if pattern else [text] for text in texts]
        batch = self._join(segments, [])
        return [
            ids[:-1] if is_cut and not isinstance(ids, LossyText) else ids
            for ids, is_cut in zip(batch, are_cut, strict=True)
        ]

    @cached_property
    def _tags(self) -> list[str]:
        tags = [] if self.close_tag is None else [self.open_tag, self.close_tag]
        return [tag for tag in tags if tag]

    def _join(self, texts: Sequence[list[str]], before: list[int]) -> list[list[int] | LossyText]:
        """The ids of each text, given as tags and what is between them, stop id at the end.

        Tokenizers may put a space between control tokens and text, and tags of ordinary tokens
        merge with it, so all is encoded at once and read back, as what follows the ids `before`.
        A LossyText where that gives another text.
        """
        stop = self.vocabulary.trained_stop
        batch = self.vocabulary.encode_tagged_batch(texts, self._tags, before or [stop])
        return [
            self._lossy([segment for segment in segments if segment not in self._tags])
            if ids is None
            else [*ids, stop]
            for segments, ids in zip(texts, batch, strict=True)
        ]

    def _lossy(self, texts: list[str]) -> LossyText:
        """The error for texts that no ids give, with the first word to which that applies."""
        text = " ".join(texts)
        unknown = self.vocabulary.unknown_word(text)
        if unknown is not None:
            return LossyText(unknown, has_tokens=False)
        text = self._first_lossy(texts, text)
        line = self._first_lossy(text.splitlines(), text)
        return LossyText(self._first_lossy(line.split(" "), line), has_tokens=True)

    def _first_lossy(self, parts: list[str], otherwise: str) -> str:
        return next((p for p in parts if self.vocabulary.encode_plain(p) is None), otherwise)
