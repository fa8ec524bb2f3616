"""The section filter, and the settings of its stage."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mpd.config.base import Count, FromJob, FromKey, Share, StageSettings, StrictModel
from mpd.config.chat import ReadingChat
from mpd.config.methods import Instruction, Kept, Rewriter


class Filter(StrictModel):
    min_ratio: float = Field(
        0.02,
        ge=0,
        description="least tokens of a rewrite per token of its sample; raise it where short "
        "rewrites skip the reasoning",
    )
    max_ratio: float = Field(
        1.0,
        gt=0,
        description="most tokens of a rewrite per token of its sample; above 1 it may be longer",
    )
    max_overlap: Share = Field(
        1.0,
        description="largest share of a rewrite's token trigrams that its sample has too; lower it "
        "where the teacher copies",
    )
    max_tokens: Count | None = Field(
        None,
        description="tokens of the longest completion that is kept; null: any; set it where long "
        "ones do not fit into the memory of logits or distill",
    )
    leaks: tuple[str, ...] = Field(
        (), description="phrases (any case) that a rewrite must not contain"
    )
    copies: Literal["keep", "drop"] = Field(
        "keep", description="rewrites that are their trajectory: the teacher finds it concise"
    )
    max_repeats: Count = Field(
        8,
        description="times that a run of 4 or more tokens may stand in a row; raise it where "
        "right solutions repeat themselves, as in long sums",
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
    kept: Annotated[Kept, FromJob("method")] = "correct"
    rewriter: Annotated[Rewriter, FromJob("method")] = "teacher"
    instruction: Annotated[Instruction, FromJob("method")] = "rewrite"
    chat: Annotated[ReadingChat, FromKey("chat")] = ReadingChat()
