"""The section compress, and the settings of its stage."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mpd.config.base import AlsoFromKey, Count, FromJob, FromKey, StageSettings
from mpd.config.chat import DateChat, WritingChat
from mpd.config.generation import BranchSeed, EngineSettings, Generation, NeedsScores
from mpd.config.methods import Sampler


class Rewriting(Generation):
    """How trajectories are rewritten."""

    num_samples: Count = Field(1, description="candidate rewrites per trajectory")
    prompt: str = Field(description="user message; {problem} and {trajectory} are filled in")
    thinking: bool = Field(
        False, description="whether the rewriting prompt is rendered with thinking enabled"
    )


class Compress(Rewriting):
    """The section: how trajectories are rewritten, whatever the method asks for."""

    refine: str = Field(
        "{problem}\n\n{trajectory}\n\nCorrect this solution where it is wrong and improve it.",
        description="user message for methods that refine rather than shorten",
    )

    @model_validator(mode="after")
    def _require_placeholders(self) -> "Compress":
        for key in ("prompt", "refine"):
            for placeholder in ("{problem}", "{trajectory}"):
                if placeholder not in getattr(self, key):
                    raise ValueError(f"{key} must contain {placeholder}")
        return self


class RewritingChat(WritingChat, DateChat):
    """The format of rewrites, and the date in the rewriting prompt."""


class TeacherRewrite(Rewriting, EngineSettings):
    """Settings for rewriting."""

    section: ClassVar[str] = "compress"
    when: ClassVar[str] = "where the teacher rewrites"
    prompt: Annotated[str, AlsoFromKey("compress.refine", "for methods that refine")] = Field(
        description="user message; {problem} and {trajectory} are filled in"
    )
    rewriter: Annotated[Literal["teacher"], FromJob("method")] = Field(
        description="teacher: the teacher rewrites"
    )
    sampler: Annotated[Sampler, FromJob("method")] = "student"
    needs_scores: NeedsScores = True
    chat: Annotated[RewritingChat, FromKey("chat")] = RewritingChat()
    seed: BranchSeed = 0


class NoRewrite(StageSettings):
    """Settings for methods without rewriting."""

    section: ClassVar[str] = "compress"
    rewriter: Annotated[Literal["none"], FromJob("method")] = Field(
        description="none: trajectories stay as they are"
    )
    sampler: Annotated[Sampler, FromJob("method")] = "student"
    needs_scores: NeedsScores = True
    chat: Annotated[WritingChat, FromKey("chat")] = WritingChat()


CompressSettings = Annotated[TeacherRewrite | NoRewrite, Field(discriminator="rewriter")]
