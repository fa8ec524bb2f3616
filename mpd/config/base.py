"""What all sections share, and how a setting of a stage names the key that it comes from."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0)]
COMMIT = "^[0-9a-f]{40}$"

DEV = "dev"  # the development split, among benchmarks
BASE = "base"  # the student before any training, among methods


class StrictModel(BaseModel):
    """Keys with types, defaults and ranges; unknown keys and infinite numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class FromKey:
    """The key of config.yaml that a setting comes from; of a section, where its keys stand.

    Several: from any of them. `when` says of which branches this holds.
    """

    key: str
    when: str = ""


@dataclass(frozen=True)
class AlsoFromKey(FromKey):
    """A further key, beside that of the setting's own name."""


@dataclass(frozen=True)
class FromJob:
    """What a setting is of where it comes from no key: the branch, its method, the model.

    `name` is what it is called there, where that is not its own name.
    """

    what: str
    name: str = ""


@dataclass(frozen=True)
class NamesFromKey:
    """The key of config.yaml that the names of a mapping come from."""

    key: str


@dataclass(frozen=True)
class Effect:
    """What is made again after a change of a key that is no setting of any stage."""

    words: str


class Gate:
    """Marks a setting that decides whether a stage runs, and changes nothing of what it makes."""


class StageSettings(StrictModel):
    """The settings of a stage: all that gives what it makes its meaning.

    A setting comes from the key of its own name in `section`, where its annotation says nothing
    else. Of a stage with settings of several kinds, `when` says when they are of this kind.
    """

    section: ClassVar[str]
    when: ClassVar[str] = ""

    def meaning(self) -> dict[str, Any]:
        """The settings that are part of the fingerprint of what the stage makes, as JSON."""
        gates = {
            name
            for name, field in type(self).model_fields.items()
            if any(isinstance(mark, Gate) for mark in field.metadata)
        }
        return self.model_dump(mode="json", exclude=gates)
