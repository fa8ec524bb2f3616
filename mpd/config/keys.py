"""Which key of config.yaml a setting of a stage comes from, read from the models themselves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mpd.config.base import DEV, AlsoFromKey, FromJob, FromKey, NamesFromKey, StageSettings
from mpd.config.stages import RULES

BENCHMARKS = "problems.benchmarks."
Origin = FromKey | FromJob


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
    yield from _settings(model, (FromKey(model.section),), "")


def _settings(model: type[BaseModel], places: Sequence[Origin], prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        origins, section = _origins(name, field, places), _model_in(field.annotation)
        path = f"{prefix}{name}"
        names = tuple(
            FromKey(mark.key) for mark in field.metadata if isinstance(mark, NamesFromKey)
        )
        if names:
            path = f"{path}.*"
            yield Setting(path, names, field)
        if section is None:
            yield Setting(path, origins, field)
        else:
            yield from _settings(section, origins, f"{path}.")


def sources_of(model: type[StageSettings]) -> dict[str, str]:
    """By the path of each setting what it comes from, in words."""
    return {
        setting.path: " or ".join(_word(origin, setting.path) for origin in setting.origins)
        for setting in settings_of(model)
    }


def key_of(
    rule: str, settings: Mapping[str, Any], path: str, role: str = "", benchmark: str = ""
) -> str:
    """What a setting of a job comes from, in words: filter.max_ratio, or seed of the branch.

    `settings` are those of the job, or of one artifact of it; `role` and `benchmark` say which,
    where the job is of one model or the artifact of one benchmark. A path that is none of the
    settings, such as one that a note of before has, stands for itself.
    """
    kinds = sorted(kinds_of(RULES[rule].settings), key=lambda kind: not _fits(kind, settings))
    whole = f"benchmarks.{benchmark}.{path}"
    for kind in kinds:
        for place in (whole, path) if "benchmarks" in kind.model_fields else (path,):
            origins, name = _origins_at(kind, place)
            if origins:
                return _in_words(origins, path, role, name or benchmark)
    return path


def _fits(kind: type[StageSettings], settings: Mapping[str, Any]) -> bool:
    try:
        kind.model_validate(settings)
    except ValidationError:
        return False
    return True


def _origins_at(model: type[StageSettings], path: str) -> tuple[tuple[Origin, ...], str]:
    """What the setting at a path comes from, and the steps that name no field: of limits.dev, dev.

    Nothing where the model has no such setting.
    """
    origins: tuple[Origin, ...] = (FromKey(model.section),)
    section: type[BaseModel] | None = model
    names: list[str] = []
    by_name = False
    for step in path.split("."):
        if section is not None and step in section.model_fields:
            field = section.model_fields[step]
            origins, section = _origins(step, field, origins), _model_in(field.annotation)
            by_name = get_origin(field.annotation) is dict
        elif by_name and not (section and names):  # a section stands behind one name
            names.append(step)
        else:
            return (), ""
    return origins, ".".join(names)


def _in_words(origins: Sequence[Origin], path: str, role: str, name: str) -> str:
    """The origins of a setting; `name` is the benchmark, the method or the entry that it is of."""
    words = [_word(origin, path).format(role=role) for origin in origins]
    if isinstance(origins[0], FromJob):
        return f"{words[0]} {name}" if origins[0].name else words[0]
    if any(word.startswith(BENCHMARKS) for word in words):
        # The development split is no entry of problems.benchmarks.
        known = [word for word in words if name != DEV or not word.startswith(BENCHMARKS)]
        return f"benchmark {name}: {' or '.join(known)}"
    entry = f".{name}" if words[0].endswith("engine_arguments") and name else ""
    return " or ".join(words) + entry


def _word(origin: Origin, path: str) -> str:
    if isinstance(origin, FromKey):
        return origin.key
    return f"{origin.name or path.rpartition('.')[2]} of the {origin.what}"


def _origins(name: str, field: FieldInfo, places: Sequence[Origin]) -> tuple[Origin, ...]:
    marks = tuple(mark for mark in field.metadata if isinstance(mark, Origin))
    if any(not isinstance(mark, AlsoFromKey) for mark in marks):
        return marks
    keys = (
        FromKey(f"{place.key}.{name}", place.when) for place in places if isinstance(place, FromKey)
    )
    return (*keys, *marks)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds: alone, where null is allowed too, or under names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    parts = (_model_in(part) for part in get_args(annotation))
    return next((part for part in parts if part is not None), None)
