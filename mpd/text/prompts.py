"""Prompts: one user message each, rendered by the model's chat template and encoded."""

import re
from datetime import date

from mpd.config.chat import PromptChat
from mpd.text.vocabulary import UnknownWord, Vocabulary


def fill(template: str, **values: str) -> str:
    """Put values in place of their {placeholders}; every other brace is left as it is."""
    pattern = "|".join(f"{{{name}}}" for name in values)
    return re.sub(pattern, lambda match: values[match.group()[1:-1]], template)


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

        Raises UnknownWord where the tokenizer has no token for one of its words, and ValueError as
        `render` does.
        """
        content = fill(self.template, **values)
        text = self.render(content)
        word = self.vocabulary.unknown_word(text)
        if word is not None:
            # A word of the message, if there is one, tells more than one of the chat template.
            word = self.vocabulary.unknown_word(content) or word
            raise UnknownWord(f"this model's vocabulary has no token for {word!r} of a prompt")
        return self.vocabulary.encode(text)

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

    def render(self, content: str) -> str:
        """One user message as the chat template renders it.

        Raises ValueError where the template asks for the day and the settings have none.
        """
        rendered = self.vocabulary.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=self.thinking,
            strftime_now=self._strftime,  # that of transformers asks the clock
        )
        assert isinstance(rendered, str)
        return rendered

    def _strftime(self, format: str) -> str:
        if self.day is None:
            raise ValueError(
                f"{self.vocabulary.tokenizer.name_or_path}: its chat template puts the day into "
                "prompts, and chat.date is null; set it to a day, such as 2025-01-31, so that a "
                "rerun has the same prompts"
            )
        return date.fromisoformat(self.day).strftime(format)
