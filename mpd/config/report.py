"""The section report, and the settings of its stage."""

from typing import Annotated, ClassVar

from pydantic import Field

from mpd.config.base import Count, FromJob, FromKey, NamesFromKey, Share, StageSettings, StrictModel
from mpd.config.methods import Context, Sampler


class Report(StrictModel):
    """The section: which round the report recommends."""

    max_accuracy_drop: Share = Field(
        0.0,
        description="how far the shipped round's accuracy on the development split may be below "
        "that of the base student",
    )


class ReportSettings(Report, StageSettings):
    """Settings of the stage report."""

    section: ClassVar[str] = "report"
    samplers: Annotated[dict[str, Sampler], FromJob("method", "sampler")] = Field(
        description="who samples, by method"
    )
    contexts: Annotated[dict[str, Context], FromJob("method", "context")] = Field(
        description="what the scorer sees, by method"
    )
    given: Annotated[bool, FromKey("sample.trajectories")] = Field(
        False, description="whether the trajectories of round 1 are the user's own"
    )
    max_new_tokens: Annotated[
        dict[str, Count],
        FromKey("evaluate.max_new_tokens"),
        FromKey("problems.benchmarks.max_new_tokens"),
        NamesFromKey("problems.benchmarks.name"),
    ] = Field(description="longest answer to each benchmark, in tokens, by name")
