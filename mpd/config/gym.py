"""The package reasoning-gym: its tasks as keys of a problem source, and its installed version."""

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from pydantic import Field

from mpd.config.base import FromJob, StrictModel

PACKAGE = "reasoning-gym"

Level = Annotated[int, Field(ge=0)]
GymVersion = Annotated[
    str | None,
    FromJob(f"package {PACKAGE}", "version"),
    Field(
        exclude_if=lambda version: version is None,
        description=f"with source: reasoning_gym, the version of {PACKAGE} that makes the problems",
    ),
]


def is_absent(value: Any) -> bool:
    """Whether a key of a task is not set; settings leave it out, as do those of other sources."""
    return value is None or value in ({}, ())


class Task(StrictModel):
    """A task of reasoning-gym, in a mix."""

    task: str = Field(description="name of the task, such as chain_sum")
    levels: tuple[Level, ...] = Field(
        (),
        description="levels of the task's curriculum, from 0 (easy), in equal shares; empty: the "
        "task's defaults",
    )
    settings: dict[str, Any] = Field(
        {}, description="settings of the task; they replace those of the level"
    )
    weight: float = Field(1.0, gt=0, description="share of the problems, relative to other tasks")


def gym_version() -> str:
    """The version of reasoning-gym that is installed. Raises ValueError where none is."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        raise ValueError(
            f"source: reasoning_gym needs the package {PACKAGE}, which is not installed: "
            "pip install -e '.[gym]'"
        ) from None


def require_gym_version(expected: str | None) -> None:
    """Raise ValueError unless a version of reasoning-gym is the one that is installed."""
    installed = gym_version()
    if installed != expected:
        raise ValueError(
            f"these problems are of {PACKAGE} {expected}, but {installed} is installed, and tasks "
            "and scorers change between versions: run again from the stage problems on, or "
            f"pip install {PACKAGE}=={expected}"
        )
