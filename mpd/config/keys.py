"""Which key of config.yaml a setting of a stage comes from, read from the models themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mpd.config.base import Also, From, NamesFrom, Of, StageSettings
from mpd.config.compress import CompressSettings
from mpd.config.distill import DistillSettings
from mpd.config.evaluate import AnswersSettings, EvaluateSettings
from mpd.config.filter import FilterSettings
from mpd.config.logits import HeadSettings, LogitsSettings
from mpd.config.models import ModelsSettings
from mpd.config.problems import BenchmarkProblems, TrainingProblems
from mpd.config.report import ReportSettings
from mpd.config.sample import SampleSettings

# The settings of the jobs of each rule, in the order of the workflow.
SETTINGS: dict[str, Any] = {
    "models": ModelsSettings,
    "problems": TrainingProblems,
    "benchmark_problems": BenchmarkProblems,
    "sample": SampleSettings,
    "compress": CompressSettings,
    "filter": FilterSettings,
    "logits": LogitsSettings,
    "head": HeadSettings,
    "distill": DistillSettings,
    "answers": AnswersSettings,
    "evaluate": EvaluateSettings,
    "report": ReportSettings,
}
Origin = From | Of


@dataclass(frozen=True)
class Setting:
    """A setting by its path, such as chat.close, and what it comes from; * is any name."""

    path: str
    origins: tuple[Origin, ...]
    field: FieldInfo


def kinds_of(settings: Any) -> tuple[type[StageSettings], ...]:
    """The models of a stage: one, or those of the kinds of its work."""
    if isinstance(settings, type):
        return (settings,) if issubclass(settings, StageSettings) else ()
    return tuple(kind for part in get_args(settings) for kind in kinds_of(part))


def settings_of(model: type[StageSettings]) -> Iterator[Setting]:
    """All settings of a model, those of its sections one by one."""
    yield from _settings(model, (From(model.section),), "")


def _settings(model: type[BaseModel], places: Sequence[Origin], prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        origins, section = _origins(name, field, places), _section_in(field.annotation)
        path = f"{prefix}{name}"
        names = tuple(From(mark.key) for mark in field.metadata if isinstance(mark, NamesFrom))
        if names:
            path = f"{path}.*"
            yield Setting(path, names, field)
        if section is None:
            yield Setting(path, origins, field)
        else:
            yield from _settings(section, origins, f"{path}.")


def origins_of(model: type[StageSettings], path: str) -> tuple[Origin, ...]:
    """What the setting at a path comes from, such as max_new_tokens.dev; none where it has none."""
    places: tuple[Origin, ...] = (From(model.section),)
    section: type[BaseModel] | None = model
    for name in path.split("."):
        if section is None or name not in section.model_fields:
            # Names of benchmarks and methods, or what a mapping of the user's holds.
            continue
        field = section.model_fields[name]
        places, section = _origins(name, field, places), _section_in(field.annotation)
    return places if path.partition(".")[0] in model.model_fields else ()


def _origins(name: str, field: FieldInfo, places: Sequence[Origin]) -> tuple[Origin, ...]:
    marks = tuple(mark for mark in field.metadata if isinstance(mark, Origin))
    if any(not isinstance(mark, Also) for mark in marks):
        return marks
    own = (From(f"{place.key}.{name}", place.when) for place in places if isinstance(place, From))
    return (*own, *marks)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds: alone, where null is allowed too, or under names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    parts = (_section_in(part) for part in get_args(annotation))
    return next((part for part in parts if part is not None), None)
