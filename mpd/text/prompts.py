"""Prompts: one user message each, rendered by the model's chat template and encoded.

Control tokens are those that the chat template writes. What stands in a message is text, whatever
it spells.
"""

import re
from collections.abc import Iterable
from datetime import date
from functools import cached_property
from pathlib import Path

from mpd.config.chat import PromptChat
from mpd.store.tokenizer_files import control_texts
from mpd.store.turns import render
from mpd.text.plain import Disguise
from mpd.text.thinking import mentions_thinking
from mpd.text.vocabulary import UnknownWord, Vocabulary


def fill(template: str, **values: str) -> str:
    """Put values in place of their {placeholders}; every other brace is left as it is."""
    pattern = "|".join(f"{{{name}}}" for name in values)
    return re.sub(pattern, lambda match: values[match.group()[1:-1]], template)


def prompt_inputs(folder: Path, texts: Iterable[str]) -> dict[str, str]:
    """An input of the stages whose prompts for the model in `folder` have these texts.

    Text that spells a control token once became that token: results of such prompts are computed
    again, and all others stay valid.
    """
    controls = control_texts(folder)
    firsts = {control[0] for control in controls}
    spelled = any(
        char in firsts and text.startswith(controls, place)
        for text in texts
        for place, char in enumerate(text)
    )
    return {"text_in_prompts": "plain text"} if spelled else {}


class Prompts:
    """The prompts of one template for one model.

    `key` is that of the template in config.yaml, `thinking` is the chat template's switch, and
    `day` is chat.date, for chat templates that put one into prompts.
    """

    def __init__(
        self, vocabulary: Vocabulary, template: str, key: str, thinking: bool, day: str | None
    ) -> None:
        self.vocabulary = vocabulary
        self.template, self.key = template, key
        self.thinking, self.day = thinking, day

    @classmethod
    def plain(cls, vocabulary: Vocabulary, chat: PromptChat) -> "Prompts":
        """The prompts in which a student is asked a problem."""
        return cls(vocabulary, chat.prompt, "chat.prompt", chat.thinking, chat.date)

    def ids(self, **values: str) -> list[int]:
        """The prompt with values in place of the template's placeholders.

        Text never becomes a control token. (One exception: where no other tokens can spell the
        think tags, as in the embedded world, those of a `trajectory` are their control tokens.)
        Raises UnknownWord where the tokenizer has no token for a word, and ValueError as `render`
        does, or where the chat template changes a message beyond recognition.
        """
        text = self.render(fill(self.template, **values))
        ids = self.vocabulary.encode(text)
        unknown, expected = self.vocabulary.tokenizer.unk_token_id, self._template_ids
        if unknown not in ids and self.vocabulary.written_ids(ids) == expected:
            return ids  # no text spells a control token
        return self._plain_ids(values, text)

    @cached_property
    def _template_ids(self) -> list[int] | None:
        """The control tokens that the chat template writes around a message.

        None where the letters of the message decide it: some have to be words of their own.
        """
        if any(token.single_word for token in self.vocabulary.added_tokens):
            return None
        return self.vocabulary.written_ids(self.vocabulary.encode(self._render("")))

    def _plain_ids(self, values: dict[str, str], text: str) -> list[int]:
        """The prompt of values whose rendered `text` spells control tokens, or has unknown words.

        The message is disguised before it is rendered: what spells a control token afterwards was
        written by the chat template.
        """
        plain = self.vocabulary.plain_tokenizer(text)
        if "trajectory" in values:
            trajectory = values["trajectory"]
            for tag in self.vocabulary.inseparable:
                trajectory = trajectory.replace(tag, plain.names[tag])
            values = {**values, "trajectory": trajectory}
        message = fill(self.template, **values)
        disguise = Disguise(list(plain.names), text + plain.anchor)
        named = disguise.off(plain.with_names(self._render(disguise.on(message))))
        ids = plain.encode(named)
        if ids is None:
            words = [word for word in named.split() if plain.encode(word) is None]
            # A word of the message, if there is one, tells more than one of the chat template.
            word = self.vocabulary.unknown_word(plain.without_names(message))
            word = word or plain.without_names(words[0] if words else named)
            raise UnknownWord(f"this model's vocabulary has no token for {word!r} of a prompt")
        if not plain.is_complete(ids, named):
            raise ValueError(
                f"{self.vocabulary.tokenizer.name_or_path}: its chat template changes the message "
                f"{message[:80]!r}, so that its text cannot be told from control tokens; remove "
                "what spells control tokens from it"
            )
        return ids

    def problem_ids(self, question: str) -> list[int]:
        """The prompt of a question.

        Raises ValueError where the tokenizer has no token for a word, naming the key of the
        template or the question, and as `render` does.
        """
        try:
            return self.ids(problem=question)
        except UnknownWord:
            self.require_words(problem="")
            word = self.vocabulary.unknown_word(question)
            if word is None:
                raise
            raise ValueError(
                f"question {question[:80]!r}: this model's vocabulary has no token for {word!r}; "
                "fix or remove this problem, or take a student that has one"
            ) from None

    def require_words(self, **values: str) -> None:
        """Raise ValueError where the filled template has a word without a token, naming its key."""
        word = self.vocabulary.unknown_word(fill(self.template, **values))
        if word is not None:
            raise ValueError(
                f"{self.key}: this model's vocabulary has no token for {word!r}; use other words"
            )

    @cached_property
    def can_think(self) -> bool:
        """Whether a completion may begin with thinking that no prompt opens.

        Thinking is on, or the chat template has no switch for it and knows its tags, as that of a
        model that always thinks.
        """
        if self.thinking:
            return True
        other = Prompts(self.vocabulary, self.template, self.key, not self.thinking, self.day)
        template = str(self.vocabulary.tokenizer.chat_template)
        return self._render("") == other._render("") and mentions_thinking(template)

    def render(self, content: str) -> str:
        """One user message as the chat template renders it.

        Raises ValueError where the template fails, or asks for the day and the settings have none.
        """
        return self._render(content)

    def _render(self, content: str) -> str:
        return render(
            self.vocabulary.tokenizer,
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            enable_thinking=self.thinking,
            strftime_now=self._strftime,  # that of transformers asks the clock
        )

    def _strftime(self, format: str) -> str:
        if self.day is None:
            raise ValueError(
                f"{self.vocabulary.tokenizer.name_or_path}: its chat template puts the day into "
                "prompts, and chat.date is null; set it to a day, such as 2025-01-31, so that a "
                "rerun has the same prompts"
            )
        return date.fromisoformat(self.day).strftime(format)
