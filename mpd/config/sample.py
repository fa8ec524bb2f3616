"""The section sample, and the settings of its stage."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag

from mpd.config.base import Count, FromJob, FromKey, Gate, Seed, StageSettings
from mpd.config.chat import PromptChat, StudentChat, WritingChat
from mpd.config.generation import EngineSettings, Generation, NeedsScores


class Sample(Generation):
    """The section: how trajectories are sampled, or the file of the user's own."""

    trajectories: str | None = Field(
        None,
        pattern=r"\.(jsonl|parquet)$",
        description="file of your own trajectories, which replace the samples of round 1: Parquet "
        "or JSONL with the columns problem, and text or ids",
    )

    def given_trajectories(self, round_number: int) -> str | None:
        """The file that replaces the samples of a round; None where the round samples.

        The user's trajectories are those of the first round's student, not of a later one.
        """
        return self.trajectories if round_number == 1 else None


class DrawnSample(Generation, EngineSettings):
    """Settings for trajectories that are sampled."""

    section: ClassVar[str] = "sample"
    trajectories: None = Field(None, description="null: trajectories are sampled")
    chat: Annotated[PromptChat, FromKey("chat")] = PromptChat()
    seed: Annotated[Seed | str, FromJob("branch")] = Field(
        0,
        description="seed of the branch; where the teacher samples, also the round, such as 0.2",
    )
    needs_scores: NeedsScores = True
    format: Annotated[
        WritingChat | None,
        FromKey("chat", "where a teacher with another tokenizer samples"),
        Gate(),
    ] = Field(
        None,
        exclude_if=lambda format: format is None,
        description="format in which the student has a teacher's samples",
    )
    round: Annotated[Count | None, FromJob("branch")] = Field(
        None,
        exclude_if=lambda number: number is None,
        description="with problems.train.curriculum, the round whose problems are sampled",
    )


class GivenSample(StageSettings):
    """Settings for trajectories that the user gives."""

    section: ClassVar[str] = "sample"
    when: ClassVar[str] = "with given trajectories"
    trajectories: str = Field(description="file of the user's own trajectories")
    chat: Annotated[StudentChat, FromKey("chat")] = StudentChat()


def _sample_kind(settings: Any) -> str:
    path = settings.get("trajectories") if isinstance(settings, Mapping) else settings.trajectories
    return "DrawnSample" if path is None else "GivenSample"


SampleSettings = Annotated[
    Annotated[DrawnSample, Tag("DrawnSample")] | Annotated[GivenSample, Tag("GivenSample")],
    Discriminator(_sample_kind),
]
