"""The section filter, and the settings of its stage."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mpd.config.base import Count, From, Of, Section, Share, StageSettings
from mpd.config.chat import ReadingChat
from mpd.config.methods import Instruction, Kept, Rewriter


class Filter(Section):
    min_ratio: float = Field(0.02, ge=0, description="tokens of the rewrite over the sample's")
    max_ratio: float = Field(1.0, gt=0, description="tokens of the rewrite over the sample's")
    max_overlap: Share = Field(1.0, description="share of the rewrite's trigrams in the sample")
    max_tokens: Count | None = Field(None, description="longest trained completion; null: any")
    leaks: tuple[str, ...] = Field(
        (), description="phrases (any case) that a rewrite must not contain"
    )
    copies: Literal["keep", "drop"] = Field(
        "keep", description="rewrites that are their trajectory: the teacher finds it concise"
    )
    max_repeats: Count = Field(
        8, description="times that one run of 4 or more tokens may follow itself"
    )

    @model_validator(mode="after")
    def _possible(self) -> "Filter":
        if self.min_ratio > self.max_ratio:
            raise ValueError(
                f"min_ratio {self.min_ratio} is above max_ratio {self.max_ratio}, so that nothing "
                "could be kept; lower it"
            )
        return self


class FilterSettings(Filter, StageSettings):
    """Settings of the stage."""

    section: ClassVar[str] = "filter"
    kept: Annotated[Kept, Of("method")] = "correct"
    rewriter: Annotated[Rewriter, Of("method")] = "teacher"
    instruction: Annotated[Instruction, Of("method")] = "rewrite"
    chat: Annotated[ReadingChat, From("chat")] = ReadingChat()
