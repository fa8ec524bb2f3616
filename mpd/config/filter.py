"""The section filter, and the settings of its stage."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mpd.config.base import Count, FromJob, FromKey, Share, StageSettings, StrictModel
from mpd.config.chat import ReadingChat
from mpd.config.methods import Instruction, Kept, Rewriter


class Filter(StrictModel):
    """The section: which rewrites are trained on, apart from what the method keeps."""

    min_ratio: float = Field(
        0.02,
        ge=0,
        description="least ratio of a rewrite's tokens to its sample's; raise it if short "
        "rewrites skip the reasoning",
    )
    max_ratio: float = Field(
        1.0,
        gt=0,
        description="greatest ratio of a rewrite's tokens to its sample's; above 1, a rewrite may "
        "be longer",
    )
    max_overlap: Share = Field(
        1.0,
        description="largest share of a rewrite's token trigrams that its sample has too; lower it "
        "if the teacher copies",
    )
    max_tokens: Count | None = Field(
        None,
        description="greatest length of a kept completion, in tokens; null: any; set it if "
        "long ones do not fit into memory in logits or distill",
    )
    leaks: tuple[str, ...] = Field(
        (), description="phrases that a rewrite must not contain, whether in upper or lower case"
    )
    copies: Literal["keep", "drop"] = Field(
        "keep",
        description="keep or drop a rewrite that equals its trajectory, which the teacher did not "
        "shorten",
    )
    max_repeats: Count = Field(
        8,
        description="how often a run of 4 or more tokens may occur in a row; raise it if right "
        "solutions repeat themselves",
    )

    @model_validator(mode="after")
    def _require_possible(self) -> "Filter":
        if self.min_ratio > self.max_ratio:
            raise ValueError(
                f"min_ratio {self.min_ratio} is above max_ratio {self.max_ratio}, so that nothing "
                "could be kept; lower min_ratio"
            )
        return self


class FilterSettings(Filter, StageSettings):
    """Settings of the stage filter."""

    section: ClassVar[str] = "filter"
    kept: Annotated[Kept, FromJob("method")] = "correct"
    rewriter: Annotated[Rewriter, FromJob("method")] = "teacher"
    instruction: Annotated[Instruction, FromJob("method")] = "rewrite"
    chat: Annotated[ReadingChat, FromKey("chat")] = ReadingChat()
