"""Branches: rows of the method grid, each with its settings.

A branch is a row of METHODS, or a row of `custom` that starts from one. It has a method, and the
sections that a row may change, which are validated together.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError, model_validator

from mpd.config.bank import Bank
from mpd.config.base import BASE, Name, StrictModel
from mpd.config.compress import Compress
from mpd.config.distill import Distill
from mpd.config.filter import Filter
from mpd.config.logits import Logits
from mpd.config.methods import AXES, CACHES, METHODS, Method
from mpd.config.mistakes import sentences
from mpd.config.sample import Sample


class Custom(StrictModel):
    """A row of the grid that the user adds: a method with other axes or other settings."""

    name: Name = Field(description="name in methods, and of the folder of its results")
    like: str = Field(description="method that the row starts from")
    axes: dict[str, Any] = Field({}, description="axes, as in mpd/config/methods.py, that differ")
    sample: dict[str, Any] = Field({}, description="keys of sample that differ")
    compress: dict[str, Any] = Field({}, description="keys of compress that differ")
    filter: dict[str, Any] = Field({}, description="keys of filter that differ")
    logits: dict[str, Any] = Field({}, description="keys of logits that differ")
    distill: dict[str, Any] = Field({}, description="keys of distill that differ")

    @model_validator(mode="after")
    def _require_possible(self) -> "Custom":
        if self.name == BASE:
            raise ValueError(f"name: {BASE} is the untrained student; choose another name")
        if self.like not in METHODS:
            raise ValueError(f"like: {self.like} is not a method; methods are {', '.join(METHODS)}")
        if self.name in METHODS and self.name != self.like:
            raise ValueError(
                f"name: {self.name} is another method than {self.like}; choose another name"
            )
        unknown = sorted(set(self.axes) - set(Method.model_fields))
        if unknown:
            raise ValueError(
                f"axes: {unknown[0]} is not an axis; axes are {', '.join(Method.model_fields)}"
            )
        for section, axis in AXES.items():
            if axis in getattr(self, section):
                raise ValueError(f"{section}.{axis} is an axis of the method; set it in axes")
        for section in BRANCH_SECTIONS:
            # A stage has one environment and one set of resources for all branches.
            if "engine" in getattr(self, section):
                raise ValueError(f"{section}.engine is for all rows; set it in {section}")
        if "trajectories" in self.sample:
            raise ValueError("sample.trajectories is for all rows; set it in sample")
        return self


class Branch(StrictModel):
    """A row of the grid: its method, and the sections with its changes."""

    name: str
    method: Method = Field(validation_alias="axes")  # mistakes name it as rows of custom do
    sample: Sample
    compress: Compress
    filter: Filter
    logits: Logits
    distill: Distill

    @property
    def bank(self) -> Bank | None:
        """Its bank of paths, if it has one: a teacher has to write structural rationales."""
        method = self.method
        writes = method.rewriter == "teacher" and method.instruction == "structure"
        return self.compress.bank if method.trained and writes else None


# The sections that a row may change, beside its axes.
BRANCH_SECTIONS = ("sample", "compress", "filter", "logits", "distill")


def branch_of(name: str, row: Custom | None, sections: Mapping[str, StrictModel]) -> Branch:
    """The branch of a row of `custom`, or of the method of this name if there is no row.

    `sections` are those of the configuration; some divergences have a cache of their own kind.
    Raises ValueError with a line for each mistake in the row's changes.
    """
    axes = METHODS[row.like if row else name].model_dump() | (row.axes if row else {})
    if axes["divergence"] in CACHES:
        cache = CACHES[axes["divergence"]]
        logits = sections["logits"]
        assert isinstance(logits, Logits)
        if cache == "hidden" and logits.engine == "vllm":
            raise ValueError(
                f"{name} needs hidden states, which logits.engine: vllm does not give; set "
                "engine: transformers, or remove the method"
            )
        sections = {**sections, "logits": logits.model_copy(update={"cache": cache})}
    if row is None:
        return Branch(name=name, axes=METHODS[name], **sections)
    changes = {part: sections[part].model_dump() | getattr(row, part) for part in BRANCH_SECTIONS}
    try:
        return Branch.model_validate({"name": name, "axes": axes, **changes})
    except ValidationError as error:
        lines = sentences(error, Branch.model_json_schema())
        raise ValueError("\n".join(f"custom row {name}: {line}" for line in lines)) from None
