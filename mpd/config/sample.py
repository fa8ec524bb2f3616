"""The section sample, and the settings of its stage."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag

from mpd.config.base import FromJob, FromKey, Seed, StageSettings
from mpd.config.chat import PromptChat, StudentChat
from mpd.config.generation import EngineSettings, Generation


class Sample(Generation):
    trajectories: str | None = Field(
        None,
        pattern=r"\.(jsonl|parquet)$",
        description="own trajectories (Parquet, JSONL: problem, text or ids), not sampled",
    )

    def given_trajectories(self, round_number: int) -> str | None:
        """The file that takes the place of a round's samples; None where the round samples.

        The user's trajectories are those of the first round's student, not of a later one.
        """
        return self.trajectories if round_number == 1 else None


class DrawnSample(Generation, EngineSettings):
    """Settings of trajectories that are drawn."""

    section: ClassVar[str] = "sample"
    trajectories: None = Field(None, description="null: they are drawn")
    chat: Annotated[PromptChat, FromKey("chat")] = PromptChat()
    seed: Annotated[Seed | str, FromJob("branch")] = Field(
        0, description="of the branch; where the teacher samples, with the round, such as 0.2"
    )


class GivenSample(StageSettings):
    """Settings of trajectories that the user gives."""

    section: ClassVar[str] = "sample"
    when: ClassVar[str] = "of given trajectories"
    trajectories: str = Field(description="file of the user's own trajectories")
    chat: Annotated[StudentChat, FromKey("chat")] = StudentChat()


def _sample_kind(settings: Any) -> str:
    path = settings.get("trajectories") if isinstance(settings, Mapping) else settings.trajectories
    return "DrawnSample" if path is None else "GivenSample"


SampleSettings = Annotated[
    Annotated[DrawnSample, Tag("DrawnSample")] | Annotated[GivenSample, Tag("GivenSample")],
    Discriminator(_sample_kind),
]
