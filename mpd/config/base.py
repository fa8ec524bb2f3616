"""What all models of the configuration share, and how a setting names the key it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy takes no larger one
World = Annotated[
    Literal["chains", "stories"],
    # Settings without the key are those from before there were two worlds.
    Field(
        exclude_if=lambda world: world == "chains",
        description="with source: tiny, chains of small numbers, or stories in words, which are "
        "harder",
    ),
]
COMMIT = "^[0-9a-f]{40}$"

DEV = "dev"  # the development split, among benchmarks
BASE = "base"  # the student before any training, among methods

JsonSchema = Mapping[str, Any]  # a JSON schema, or a part of one


class StrictModel(BaseModel):
    """Keys with types, defaults and ranges; unknown keys and infinite numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class FromKey:
    """Marks a setting that comes from a key of config.yaml.

    If the setting is a section of its own, its keys stand below this key. A setting may come from
    several keys; `when` says for which branches one of them counts.
    """

    key: str
    when: str = ""


@dataclass(frozen=True)
class AlsoFromKey(FromKey):
    """Marks a setting that comes from another key beside the key of its own name."""


@dataclass(frozen=True)
class FromJob:
    """Marks a setting that comes from no key but from the job: its branch, method or model.

    `name` is what the setting is called there, if not by its own name.
    """

    what: str
    name: str = ""


@dataclass(frozen=True)
class NamesFromKey:
    """Marks a mapping whose names come from a key of config.yaml."""

    key: str


@dataclass(frozen=True)
class Effect:
    """Marks a key that is no setting of any stage; `words` say what a change of it reruns."""

    words: str


class Gate:
    """Marks a setting that is no part of a fingerprint: it decides whether a stage runs.

    A setting that changes the result in some jobs only may be one too, if the stage adds it to the
    inputs of these jobs.
    """


class StageSettings(StrictModel):
    """The settings of a stage: everything that its result depends on, apart from its inputs.

    A setting comes from the key of its own name in `section`, unless its annotation says otherwise.
    If a stage has several kinds of settings, `when` says which jobs have this kind.
    """

    section: ClassVar[str]
    when: ClassVar[str] = ""

    def meaning(self) -> dict[str, Any]:
        """The settings that are part of the fingerprint of the stage's result, as JSON."""
        gates = {
            name
            for name, field in type(self).model_fields.items()
            if any(isinstance(mark, Gate) for mark in field.metadata)
        }
        return self.model_dump(mode="json", exclude=gates)
