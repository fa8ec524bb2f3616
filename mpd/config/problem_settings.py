"""The settings of the stage problems."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypedDict

from pydantic import Discriminator, Field, Tag

from mpd.config.base import FromKey, Seed, StageSettings
from mpd.config.gym import GymVersion
from mpd.config.problems import OnBadRow, ProblemSplit, Source, TrainSource


class Kinds(TypedDict):
    """What decides which artifacts the folder of training problems has."""

    has_scorer: bool
    has_references: bool
    has_rounds: bool
    dev_has_scorer: bool | None  # None: the development split is cut from the training problems


class TrainingProblems(ProblemSplit, StageSettings):
    """Settings for the training problems and the development split."""

    section: ClassVar[str] = "problems"
    train: Annotated[TrainSource, FromKey("problems.train")] = Field(
        description="where training problems come from"
    )
    dev: Annotated[Source | None, FromKey("problems.dev")] = Field(
        None,
        exclude_if=lambda source: source is None,
        description="where the development split comes from; null: from the training problems",
    )
    gym_version: GymVersion = None

    @property
    def sources(self) -> list[Source]:
        """The sources of the training problems and of the development split, if it has its own."""
        return [self.train] if self.dev is None else [self.train, self.dev]

    @property
    def kinds(self) -> Kinds:
        """What decides which artifacts the stage writes."""
        return {
            "has_scorer": self.train.has_scorer,
            "has_references": bool(self.train.references),
            "has_rounds": self.train.curriculum is not None,
            "dev_has_scorer": None if self.dev is None else self.dev.has_scorer,
        }


class BenchmarkProblems(Source, StageSettings):
    """Settings for a benchmark."""

    section: ClassVar[str] = "problems.benchmarks"
    seed: Annotated[Seed, FromKey("problems.seed")] = Field(0, description="seed of the subset")
    on_bad_row: Annotated[OnBadRow, FromKey("problems.on_bad_row")] = "refuse"
    gym_version: GymVersion = None

    @property
    def sources(self) -> list[Source]:
        """The source of the benchmark alone."""
        return [self]


def _problems_kind(settings: Any) -> str:
    is_train = "train" in settings if isinstance(settings, Mapping) else hasattr(settings, "train")
    return "TrainingProblems" if is_train else "BenchmarkProblems"


ProblemsSettings = Annotated[
    Annotated[TrainingProblems, Tag("TrainingProblems")]
    | Annotated[BenchmarkProblems, Tag("BenchmarkProblems")],
    Discriminator(_problems_kind),
]
