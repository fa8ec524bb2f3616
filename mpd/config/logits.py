"""The section logits, and the settings of its stage and of `head`, which writes what it needs."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mpd.config.base import Count, FromJob, FromKey, StageSettings
from mpd.config.chat import ReadingChat, RenderingChat
from mpd.config.generation import EngineChoice, Precision


class Logits(EngineChoice):
    cache: Literal["sparse", "hidden"] = Field(
        "sparse", description="log-probabilities on a support, or inputs of the teacher's head"
    )
    support: Literal["union", "teacher"] = Field(
        "union",
        description="candidates: the teacher's most probable ids with the student's, or not",
    )
    top_k: Count = Field(128, description="the teacher's most probable ids, candidates")
    student_top_k: Count = Field(128, description="the student's most probable ids, candidates")
    min_contribution: float = Field(
        0.001,
        ge=0,
        description="candidates that change a position's gradient by less join its tail: in nats "
        "times probability, or as a share of a divergence above 1 nat; support: teacher: less "
        "probable ones",
    )
    tail_buckets: Count = Field(16, description="outcomes of the tail: equal ranges of ids")

    @model_validator(mode="after")
    def _what_vllm_gives(self) -> "Logits":
        wanted = {"support": "teacher", "cache": "sparse", "tail_buckets": 1}
        for key, value in wanted.items():
            if self.engine == "vllm" and getattr(self, key) != value:
                raise ValueError(
                    f"engine: vllm gives the teacher's most probable ids and no others; set "
                    f"{key}: {value}"
                )
        return self


class CacheSettings(Logits, StageSettings):
    section: ClassVar[str] = "logits"
    dtype: Precision = "float32"


class PlainScores(CacheSettings):
    """Settings of a scorer that sees the plain prompt."""

    context: Annotated[Literal["problem"], FromJob("method")] = Field(
        description="the plain prompt"
    )
    chat: Annotated[ReadingChat, FromKey("chat")] = ReadingChat()


class ScoringChat(ReadingChat, RenderingChat):
    pass


class ConciseScores(CacheSettings):
    """Settings of a scorer that sees the request for brevity."""

    when: ClassVar[str] = "of context: concise"
    context: Annotated[Literal["concise"], FromJob("method")] = Field(
        description="asked to be brief"
    )
    prompt: Annotated[str, FromKey("chat.concise")] = Field(
        description="user message; {problem} is the question"
    )
    chat: Annotated[ScoringChat, FromKey("chat")] = ScoringChat()


class RewritingScores(CacheSettings):
    """Settings of a scorer that sees the trajectory."""

    when: ClassVar[str] = "of context: rewriting"
    context: Annotated[Literal["rewriting"], FromJob("method")] = Field(
        description="seeing the trajectory"
    )
    prompt: Annotated[
        str, FromKey("compress.prompt"), FromKey("compress.refine", "of methods that refine")
    ] = Field(description="user message; {problem} and {trajectory} are filled in")
    chat: Annotated[ScoringChat, FromKey("chat")] = ScoringChat()


LogitsSettings = Annotated[
    PlainScores | ConciseScores | RewritingScores, Field(discriminator="context")
]


class HeadSettings(StageSettings):
    """Settings of the head."""

    section: ClassVar[str] = "models"
    dtype: Precision = "float32"
