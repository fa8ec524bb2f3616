"""The section logits, and the settings of its stage and of `head`, which a hidden cache needs."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mpd.config.base import Count, FromJob, FromKey, StageSettings
from mpd.config.chat import ReadingChat, RenderingChat
from mpd.config.generation import EngineChoice, NeedsScores, Precision


class Logits(EngineChoice):
    """The section: what the cache holds of each position."""

    cache: Literal["sparse", "hidden", "realised"] = Field(
        "sparse",
        description="sparse: log-probabilities on a support; hidden: inputs of the teacher's "
        "output head, for the exact loss, which copsd has by itself; realised: the log-probability "
        "of the completion id alone and unrounded, which methods with a policy gradient have by "
        "themselves",
    )
    support: Literal["union", "teacher"] = Field(
        "union",
        description="candidates for the support: the most probable ids of both models, or of the "
        "teacher alone",
    )
    top_k: Count = Field(128, description="number of the teacher's ids among the candidates")
    student_top_k: Count = Field(
        128, description="number of the student's ids among the candidates"
    )
    min_contribution: float = Field(
        0.001,
        ge=0,
        description="a candidate joins its tail bucket if that changes the position's gradient by "
        "no more than this, in nats times probability (and times the divergence, where that is "
        "above 1 nat); with support: teacher, if the teacher finds it no more probable than this",
    )
    tail_buckets: Count = Field(
        16, description="number of equal ranges of ids that the tail is summed over"
    )

    @model_validator(mode="after")
    def _require_what_vllm_gives(self) -> "Logits":
        if self.engine != "vllm" or self.cache == "realised":
            return self
        required = {"support": "teacher", "cache": "sparse", "tail_buckets": 1}
        for key, value in required.items():
            if getattr(self, key) != value:
                raise ValueError(
                    f"engine: vllm gives the teacher's most probable ids and no others; set "
                    f"{key}: {value}"
                )
        return self


class CacheSettings(Logits, StageSettings):
    """Settings of the stage logits, whatever the scorer sees."""

    section: ClassVar[str] = "logits"
    dtype: Precision = "float32"
    needs_scores: NeedsScores = True


class PlainScores(CacheSettings):
    """Settings for a scorer that sees the plain prompt."""

    context: Annotated[Literal["problem"], FromJob("method")] = Field(
        description="problem: the scorer sees the plain prompt"
    )
    chat: Annotated[ReadingChat, FromKey("chat")] = ReadingChat()


class ScoringChat(ReadingChat, RenderingChat):
    """The format of completions, and how a scorer's own prompt is rendered."""


class ConciseScores(CacheSettings):
    """Settings for a scorer that sees the request for brevity."""

    when: ClassVar[str] = "with context: concise"
    context: Annotated[Literal["concise"], FromJob("method")] = Field(
        description="concise: the scorer sees the request for brevity"
    )
    prompt: Annotated[str, FromKey("chat.concise")] = Field(
        description="user message; {problem} is the question"
    )
    chat: Annotated[ScoringChat, FromKey("chat")] = ScoringChat()


class RewritingScores(CacheSettings):
    """Settings for a scorer that sees the rewriting prompt."""

    when: ClassVar[str] = "with context: rewriting"
    context: Annotated[Literal["rewriting"], FromJob("method")] = Field(
        description="rewriting: the scorer sees the rewriting prompt"
    )
    prompt: Annotated[
        str,
        FromKey("compress.prompt"),
        FromKey("compress.refine", "for methods that refine"),
        FromKey("compress.structure", "for structural rationales"),
    ] = Field(description="user message; {problem} and {trajectory} are filled in")
    chat: Annotated[ScoringChat, FromKey("chat")] = ScoringChat()


class SolutionScores(CacheSettings):
    """Settings for a scorer that sees a reference solution."""

    when: ClassVar[str] = "with context: solution"
    context: Annotated[Literal["solution"], FromJob("method")] = Field(
        description="solution: the scorer sees the problem with a reference solution"
    )
    prompt: Annotated[str, FromKey("chat.solution")] = Field(
        description="user message; {problem}, {original} and {solution} are filled in"
    )
    chat: Annotated[ScoringChat, FromKey("chat")] = ScoringChat()


LogitsSettings = Annotated[
    PlainScores | ConciseScores | RewritingScores | SolutionScores, Field(discriminator="context")
]


class HeadSettings(StageSettings):
    """Settings of the rule head."""

    section: ClassVar[str] = "models"
    dtype: Precision = "float32"
