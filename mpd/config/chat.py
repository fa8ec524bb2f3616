"""The section chat: what a prompt says, and how a completion is marked up."""

import datetime
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mpd.config.base import StrictModel


class DateChat(StrictModel):
    """What every rendered prompt needs. Left out where it is not set."""

    date: str | None = Field(
        None,
        pattern=r"^\d{4}-\d\d-\d\d$",
        exclude_if=lambda day: day is None,
        description="the day, such as 2025-01-31, for a chat template that puts one into prompts",
    )

    @field_validator("date", mode="before")
    @classmethod
    def _as_text(cls, day: Any) -> Any:
        return str(day) if isinstance(day, datetime.date) else day  # YAML makes it one

    @field_validator("date")
    @classmethod
    def _in_the_calendar(cls, day: str | None) -> str | None:
        if day:
            datetime.date.fromisoformat(day)
        return day


class RenderingChat(DateChat):
    """What a prompt needs that is rendered as the student's prompts are."""

    thinking: bool = Field(True, description="render the student's prompt with thinking enabled")


class PromptChat(RenderingChat):
    """What the plain prompt of a student needs."""

    prompt: str = Field("{problem}", description="user message; {problem} is the question")


class ReadingChat(StrictModel):
    """What it takes to find the answer in a completion."""

    think: Literal["tags", "none"] = Field(
        "tags", description="tags: reasoning stands between open and close; none: no such tags"
    )
    close: str = Field("\n</think>\n\n", description="what stands between reasoning and answer")

    @model_validator(mode="after")
    def _closed(self) -> "ReadingChat":
        if self.think == "tags" and not self.close.strip():
            raise ValueError("think: tags needs a close tag; set close, or think: none")
        return self

    @property
    def delimiter(self) -> str | None:
        """The text after which the answer stands; None where the format has no think tags."""
        return self.close.strip() if self.think == "tags" else None


class WritingChat(ReadingChat):
    """What it takes to put a rewrite into the format of a completion."""

    open: str = Field("<think>\n", description="what comes before the reasoning")


class StudentChat(PromptChat, WritingChat):
    """The plain prompt of a student, and the whole format of its completions."""


class Chat(StudentChat):
    """The section: the chat format, and the prompt of methods that ask for brevity."""

    concise: str = Field(
        "{problem}\n\nThink as briefly as you can.",
        description="user message that asks for brevity, for the methods that do",
    )

    @model_validator(mode="after")
    def _placeholder(self) -> "Chat":
        for key in ("prompt", "concise"):
            if "{problem}" not in getattr(self, key):
                raise ValueError(f"{key} must contain {{problem}}")
        # Qwen3's template then writes an empty think block: what follows it is the answer.
        if self.think == "tags" and not self.thinking:
            raise ValueError(
                "thinking: false with think: tags: completions then have no close tag, and no "
                "answer would be found; set think: none"
            )
        return self
