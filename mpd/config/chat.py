"""The section chat: how a student is prompted, and the format of its completions.

A stage has only the keys that its result depends on, so the section is made of small models.
PromptChat is whole for the plain prompt, ReadingChat for reading completions, WritingChat for
writing them and StudentChat for both. DateChat and RenderingChat are for prompts whose text is
another setting.
"""

import datetime
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mpd.config.base import StrictModel


class DateChat(StrictModel):
    """What every rendered prompt depends on. Settings without a date leave the key out."""

    date: str | None = Field(
        None,
        pattern=r"^\d{4}-\d\d-\d\d$",
        exclude_if=lambda date: date is None,
        description="date such as 2025-01-31, for a chat template that puts one into prompts",
    )

    @field_validator("date", mode="before")
    @classmethod
    def _as_text(cls, date: Any) -> Any:
        return str(date) if isinstance(date, datetime.date) else date  # YAML parses dates

    @field_validator("date")
    @classmethod
    def _require_day_of_calendar(cls, date: str | None) -> str | None:
        if date:
            datetime.date.fromisoformat(date)
        return date


class RenderingChat(DateChat):
    """What a prompt depends on that is rendered like the student's own."""

    thinking: bool = Field(
        True, description="whether the student's prompt is rendered with thinking enabled"
    )


class PromptChat(RenderingChat):
    """The plain prompt of a student."""

    prompt: str = Field("{problem}", description="user message; {problem} is the question")


class ReadingChat(StrictModel):
    """How to find the answer in a completion."""

    think: Literal["tags", "none"] = Field(
        "tags",
        description="tags: reasoning stands between open and close; none: there are no think tags",
    )
    close: str = Field("\n</think>\n\n", description="text between reasoning and answer")

    @model_validator(mode="after")
    def _require_close_tag(self) -> "ReadingChat":
        if self.think == "tags" and not self.close.strip():
            raise ValueError("think: tags needs a close tag; set close, or think: none")
        return self

    @property
    def delimiter(self) -> str | None:
        """The text that the answer follows; None where the format has no think tags."""
        return self.close.strip() if self.think == "tags" else None


class WritingChat(ReadingChat):
    """How to put a rewrite into the format of a completion."""

    open: str = Field("<think>\n", description="text before the reasoning")


class StudentChat(PromptChat, WritingChat):
    """The plain prompt of a student, and the format of its completions."""


class Chat(StudentChat):
    """The section: the chat format, and the prompt for methods that ask for brevity."""

    concise: str = Field(
        "{problem}\n\nThink as briefly as you can.",
        description="user message for methods that ask for brevity",
    )
    solution: str = Field(
        "{problem}\n\nThe same problem in another language:\n{original}\n\nReference solution:\n"
        "{solution}\nEnd of the reference solution.\n\nUnderstand the reference solution, then "
        "solve the problem on your own, in the language of its first statement, without copying.",
        description="user message for scorers that see a reference solution: {original} and "
        "{solution} are columns of the training problems",
    )

    @model_validator(mode="after")
    def _require_possible(self) -> "Chat":
        for key in ("prompt", "concise"):
            if "{problem}" not in getattr(self, key):
                raise ValueError(f"{key} must contain {{problem}}")
        if "{solution}" not in self.solution:
            raise ValueError("solution must contain {solution}")
        # Qwen3's template then writes an empty think block, and only the answer follows.
        if self.think == "tags" and not self.thinking:
            raise ValueError(
                "thinking: false with think: tags: completions then have no close tag, and no "
                "answer would be found; set think: none"
            )
        return self
