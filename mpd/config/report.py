"""The section report, and the settings of its stage."""

from typing import Annotated, ClassVar

from pydantic import Field

from mpd.config.base import Count, FromJob, FromKey, NamesFromKey, Share, StageSettings, StrictModel
from mpd.config.methods import Context, Sampler


class Report(StrictModel):
    max_accuracy_drop: Share = Field(
        0.0, description="of the shipped round on the development split, below the base student"
    )


class ReportSettings(Report, StageSettings):
    """Settings of the stage."""

    section: ClassVar[str] = "report"
    samplers: Annotated[dict[str, Sampler], FromJob("method", "sampler")] = Field(
        description="who samples, of each method by name"
    )
    contexts: Annotated[dict[str, Context], FromJob("method", "context")] = Field(
        description="what the scorer sees, of each method by name"
    )
    given: Annotated[bool, FromKey("sample.trajectories")] = Field(
        False, description="whether the first round's trajectories are the user's own"
    )
    max_new_tokens: Annotated[
        dict[str, Count],
        FromKey("evaluate.max_new_tokens"),
        FromKey("problems.benchmarks.max_new_tokens"),
        NamesFromKey("problems.benchmarks.name"),
    ] = Field(description="of the answers to each benchmark, by name")
