"""The settings of the stage problems."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag

from mpd.config.base import FromKey, Seed, StageSettings
from mpd.config.gym import GymVersion
from mpd.config.problems import OnBadRow, ProblemSplit, Source, TrainSource


class TrainingProblems(ProblemSplit, StageSettings):
    """Settings for the training problems and the development split."""

    section: ClassVar[str] = "problems"
    train: Annotated[TrainSource, FromKey("problems.train")] = Field(
        description="where training problems come from"
    )
    gym_version: GymVersion = None


class BenchmarkProblems(Source, StageSettings):
    """Settings for a benchmark."""

    section: ClassVar[str] = "problems.benchmarks"
    seed: Annotated[Seed, FromKey("problems.seed")] = Field(0, description="seed of the subset")
    on_bad_row: Annotated[OnBadRow, FromKey("problems.on_bad_row")] = "refuse"
    gym_version: GymVersion = None


def _problems_kind(settings: Any) -> str:
    is_train = "train" in settings if isinstance(settings, Mapping) else hasattr(settings, "train")
    return "TrainingProblems" if is_train else "BenchmarkProblems"


ProblemsSettings = Annotated[
    Annotated[TrainingProblems, Tag("TrainingProblems")]
    | Annotated[BenchmarkProblems, Tag("BenchmarkProblems")],
    Discriminator(_problems_kind),
]
