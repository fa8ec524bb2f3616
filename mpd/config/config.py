"""The whole of config.yaml: its sections, and the methods that it names.

A section named like a stage holds what gives that stage its meaning: editing it visits the
stage and what follows; `evaluate` is that of the stage `answers` too. `resources` holds what
cannot change a result (batch and part sizes, threads, GPUs): editing it visits nothing.

Stages never read config.yaml. The Snakefile validates it and hands each stage its settings as
JSON (mpd/config/settings.py).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from mpd.config.base import Count, Name, Section
from mpd.config.chat import Chat
from mpd.config.checks import require_exact
from mpd.config.generation import Compress, Evaluate, Sample
from mpd.config.methods import METHODS, SECTIONS, Method, method_of
from mpd.config.mistakes import sentences
from mpd.config.models import Models
from mpd.config.problems import Problems
from mpd.config.resources import AllResources
from mpd.config.training import Distill, Filter, Logits, Report


class Custom(Section):
    """A row of the grid under a name of its own: a method, with other axes or other settings."""

    name: Name = Field(description="for methods, and of the folder of its results")
    like: str = Field(description="the method that it starts from")
    axes: dict[str, Any] = Field({}, description="axes of mpd/config/methods.py that differ")
    sample: dict[str, Any] = Field({}, description="keys of sample that differ")
    compress: dict[str, Any] = Field({}, description="keys of compress that differ")
    filter: dict[str, Any] = Field({}, description="keys of filter that differ")
    logits: dict[str, Any] = Field({}, description="keys of logits that differ")
    distill: dict[str, Any] = Field({}, description="keys of distill that differ")

    @model_validator(mode="after")
    def _known(self) -> "Custom":
        if self.name == "base":
            raise ValueError("name: base is the untrained student; take another")
        if self.like not in METHODS:
            raise ValueError(f"like: {self.like} is no method; there are {', '.join(METHODS)}")
        if self.name in METHODS and self.name != self.like:
            raise ValueError(f"name: {self.name} is another method than {self.like}; take another")
        unknown = sorted(set(self.axes) - set(Method.model_fields))
        if unknown:
            raise ValueError(
                f"axes: {unknown[0]} is no axis; there are {', '.join(Method.model_fields)}"
            )
        for section in SECTIONS:
            # Environment and resources are those of a stage, for all its branches.
            if "engine" in getattr(self, section):
                raise ValueError(f"{section}.engine is one for all rows; set it in {section}")
        if "trajectories" in self.sample:
            raise ValueError("sample.trajectories are those of all rows; set them in sample")
        return self


class Config(Section):
    experiment: Name = Field(description="names the folder below results/")
    methods: tuple[str, ...] = Field(
        ("mpd",), min_length=1, description="rows of mpd/config/methods.py, or of custom"
    )
    custom: tuple[Custom, ...] = Field((), description="rows of your own; they may reuse a name")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,), min_length=1, description="one branch for each; of sampling and training"
    )
    rounds: Count = Field(2, description="of sampling, rewriting and training, one after another")
    store: Literal["reuse", "refresh"] = Field(
        "reuse", description="refresh: visited stages compute anew and compare"
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
    resources: AllResources = AllResources()

    @model_validator(mode="after")
    def _methods(self) -> "Config":
        known = [*METHODS, *(row.name for row in self.custom)]
        for name in self.methods:
            if name not in known:
                raise ValueError(f"methods: {name} is no method; there are {', '.join(known)}")
        if not any(self.method(name).trained for name in self.methods):
            raise ValueError("methods: none of these trains a student; add mpd")
        for row in self.custom:
            try:
                self.method(row.name)
                self.of(row.name)
            except ValidationError as error:
                lines = sentences(error, Config.model_json_schema())
                reasons = "; ".join(f"config: {line}" for line in lines)
                raise ValueError(f"custom row {row.name}: {reasons}") from None
        for name in self.methods:
            of, method = self.of(name), self.method(name)
            divergence = of.distill.divergence or method.divergence
            if of.logits.context == "rewriting" and method.rewriter == "none":
                raise ValueError(
                    f"logits.context: rewriting, but {name} has no rewriter; leave one of them out"
                )
            own = of.distill.temperature, of.distill.tail, of.logits.cache
            require_exact(divergence, *own)
            if method.scorer == "student" and of.logits.cache == "hidden":
                raise ValueError(
                    f"logits.cache: hidden holds the teacher's states, but of {name} the student "
                    "is the scorer; set cache: sparse, or leave the method out"
                )
            if method.sampler == "teacher" and of.sample.trajectories:
                raise ValueError(
                    f"sample.trajectories are a student's, but of {name} the teacher samples; "
                    "leave one of the two out"
                )
        return self

    def _row(self, name: str) -> Custom | None:
        return next((row for row in self.custom if row.name == name), None)

    def method(self, name: str) -> Method:
        """The row of the grid that a branch of this name has."""
        row = self._row(name)
        return METHODS[name] if row is None else method_of(row.like, row.axes)

    def of(self, name: str) -> "Config":
        """The configuration of one branch: this one, with what its custom row changes."""
        row = self._row(name)
        changes = {part: getattr(row, part) for part in SECTIONS if row and getattr(row, part)}
        if not changes:
            return self
        rows = [row.model_dump(include={"name", "like", "axes"}) for row in self.custom]
        raw = {**self.model_dump(), "custom": rows, "methods": (name,)}
        for part, values in changes.items():
            raw[part] = {**raw[part], **values}
        return Config.model_validate(raw)

    @model_validator(mode="after")
    def _engines_run(self) -> "Config":
        if self.logits.engine == "vllm" and self.distill.merge_stop_ids:
            raise ValueError(
                "distill.merge_stop_ids needs every stop id in the cache, which logits.engine: "
                "vllm does not give; set one of the two back"
            )
        for stage in ("sample", "compress", "logits", "evaluate"):
            engine, own = getattr(self, stage).engine, getattr(self.resources, stage)
            if engine == "server" and not own.server:
                raise ValueError(
                    f"{stage}.engine is server: set resources.{stage}.server to its base URL"
                )
            replicas = own.tensor_parallel_size * own.data_parallel_size
            if engine == "vllm" and own.gpu not in (0, replicas):
                raise ValueError(
                    f"resources.{stage}.gpu is {own.gpu}, but tensor_parallel_size times "
                    f"data_parallel_size is {replicas}; make them equal"
                )
        return self

    @field_validator("experiment")
    @classmethod
    def _not_the_store(cls, name: str) -> str:
        if name == "store":
            raise ValueError("results/store holds what was ever computed; take another name")
        return name

    @field_validator("custom")
    @classmethod
    def _different_names(cls, rows: tuple[Custom, ...]) -> tuple[Custom, ...]:
        names = [row.name for row in rows]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]} names two rows; give one another name")
        return rows

    @field_validator("methods", "seeds")
    @classmethod
    def _different(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is given twice; remove one")
        return values


def parse_config(raw: Mapping[str, Any]) -> Config:
    """The validated configuration. Raises ValueError with one line for each mistake."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        lines = sentences(error, Config.model_json_schema())
        raise ValueError("\n".join(f"config: {line}" for line in lines)) from None
