"""The whole of config.yaml: its sections, and the methods that it names.

A section named like a stage has the keys that the stage's result depends on: an edit of it visits
the stage and what follows; `evaluate` is also the section of the stage `answers`. `resources` has
the keys that cannot change a result (batch and part sizes, threads, GPUs): an edit of it visits
nothing.

Stages never read config.yaml. The Snakefile validates it and gives each stage its settings as JSON
(mpd/config/stages.py).
"""

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from mpd.config.base import BASE, DEV, Count, Effect, Name, Seed, StrictModel
from mpd.config.branches import BRANCH_SECTIONS, Branch, Custom, branch_of
from mpd.config.chat import Chat
from mpd.config.compress import Compress
from mpd.config.distill import Distill
from mpd.config.evaluate import Evaluate
from mpd.config.filter import Filter
from mpd.config.logits import Logits
from mpd.config.methods import AXES, METHODS, require_no_axis
from mpd.config.models import Models
from mpd.config.problems import Problems
from mpd.config.report import Report
from mpd.config.resources import AllResources
from mpd.config.sample import Sample

EVERY_JOB = Effect("every job is visited; the store has the results")
NEW_BRANCHES = Effect("jobs of new branches, report")
NEW_ROUNDS = Effect("jobs of new rounds, report")
CUSTOM_ROW = Effect("jobs of the row")
NOTHING = Effect("nothing")


class Config(StrictModel):
    """The content of config.yaml and its overlays."""

    experiment: Annotated[Name, EVERY_JOB] = Field(description="name of the folder below results/")
    methods: Annotated[tuple[str, ...], NEW_BRANCHES] = Field(
        ("mpd",), min_length=1, description="methods to run, of mpd/config/methods.py or of custom"
    )
    custom: Annotated[tuple[Custom, ...], CUSTOM_ROW] = Field(
        (), description="methods of your own; one may have the name of the method it changes"
    )
    seeds: Annotated[tuple[Seed, ...], NEW_BRANCHES] = Field(
        (0,), min_length=1, description="seeds of sampling and training; each makes a branch"
    )
    rounds: Annotated[Count, NEW_ROUNDS] = Field(
        2, description="rounds of sampling, rewriting and training, one after another"
    )
    store: Annotated[Literal["reuse", "refresh"], NOTHING] = Field(
        "reuse", description="refresh: visited stages compute their results again and compare"
    )
    models: Models
    chat: Chat = Chat()
    problems: Problems
    sample: Sample
    compress: Compress
    filter: Filter = Filter()
    logits: Logits = Logits()
    distill: Distill
    evaluate: Evaluate
    report: Report = Report()
    resources: Annotated[AllResources, NOTHING] = AllResources()

    @cached_property
    def branches(self) -> dict[str, Branch]:
        """The branches by name: of `methods`, then of rows of `custom` that it does not name.

        Raises ValueError with a line for each mistake in the changes of a row of `custom`.
        """
        rows = {row.name: row for row in self.custom}
        sections = {name: getattr(self, name) for name in BRANCH_SECTIONS}
        names = dict.fromkeys([*self.methods, *rows])
        return {name: branch_of(name, rows.get(name), sections) for name in names}

    @property
    def trained_methods(self) -> list[str]:
        """Those of `methods` that train a student."""
        return [name for name in self.methods if self.branches[name].method.trained]

    @property
    def untrained_methods(self) -> list[str]:
        """The base student, then those of `methods` that evaluate it without training it."""
        return [BASE, *(name for name in self.methods if name not in self.trained_methods)]

    @property
    def evaluation_sets(self) -> list[str]:
        """What every student answers: the development split, then the benchmarks, by name."""
        return [DEV, *self.problems.benchmark_names]

    @field_validator(*AXES, mode="before")
    @classmethod
    def _refuse_axes(cls, section: Any, field: ValidationInfo) -> Any:
        require_no_axis(str(field.field_name), section)
        return section

    @model_validator(mode="after")
    def _require_known_methods(self) -> "Config":
        known = [*METHODS, *(row.name for row in self.custom)]
        for name in self.methods:
            if name not in known:
                raise ValueError(f"methods: {name} is not a method; methods are {', '.join(known)}")
        return self

    @field_validator("experiment")
    @classmethod
    def _refuse_store(cls, name: str) -> str:
        if name == "store":
            raise ValueError("results/store is the store; choose another name")
        return name

    @field_validator("custom")
    @classmethod
    def _require_different_names(cls, rows: tuple[Custom, ...]) -> tuple[Custom, ...]:
        names = [row.name for row in rows]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"two rows have the name {twice[0]}; rename one of them")
        return rows

    @field_validator("methods", "seeds")
    @classmethod
    def _require_different(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is given twice; remove one")
        return values
