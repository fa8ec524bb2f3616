"""Which key of config.yaml a setting of a stage comes from, read from the settings' models."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mpd.config.base import DEV, AlsoFromKey, FromJob, FromKey, NamesFromKey, StageSettings
from mpd.config.stages import RULES

BENCHMARK_KEYS = "problems.benchmarks."
Origin = FromKey | FromJob


@dataclass(frozen=True)
class Setting:
    """A setting, by its path such as chat.close, in which * is any name, and what it comes from."""

    path: str
    origins: tuple[Origin, ...]
    field: FieldInfo


def kinds_of(settings: Any) -> tuple[type[StageSettings], ...]:
    """The models in the type of a stage's settings: one, or one for each kind of its jobs."""
    if isinstance(settings, type):
        return (settings,) if issubclass(settings, StageSettings) else ()
    return tuple(kind for part in get_args(settings) for kind in kinds_of(part))


def settings_in(model: type[StageSettings]) -> Iterator[Setting]:
    """All settings of a model; those of a section in it one by one."""
    yield from _settings_below(model, (FromKey(model.section),), "")


def _settings_below(
    model: type[BaseModel], parents: Sequence[Origin], prefix: str
) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        origins, section = _origins(name, field, parents), _model_in(field.annotation)
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
            yield from _settings_below(section, origins, f"{path}.")


def origins_of(model: type[StageSettings]) -> dict[str, str]:
    """What each setting of a model comes from, in words, by the path of the setting."""
    return {
        setting.path: " or ".join(_word(origin, setting.path) for origin in setting.origins)
        for setting in settings_in(model)
    }


def key_of(
    rule: str, settings: Mapping[str, Any], path: str, role: str = "", benchmark: str = ""
) -> str:
    """What a setting of a job comes from, in words: filter.max_ratio, or seed of the branch.

    `settings` are those of the job, or of one of its artifacts. `role` is that of a job of the
    rule models, `benchmark` that of a job or artifact of one benchmark. A path that the settings do
    not have, such as one in the note of an older artifact, is returned as it is.
    """
    kinds = sorted(kinds_of(RULES[rule].settings), key=lambda kind: not _fits(kind, settings))
    path_of_benchmark = f"benchmarks.{benchmark}.{path}"
    for kind in kinds:
        for place in (path_of_benchmark, path) if "benchmarks" in kind.model_fields else (path,):
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
    """What the setting at a path comes from, and the step of the path that is a name, not a field.

    For benchmarks.dev.temperature the name is dev. Both are empty if there is no such setting.
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
        elif by_name and not (section and names):  # a section follows a single name
            names.append(step)
        else:
            return (), ""
    return origins, ".".join(names)


def _in_words(origins: Sequence[Origin], path: str, role: str, name: str) -> str:
    """Origins in words; `name` is the benchmark, the method or the entry of a mapping."""
    words = [_word(origin, path).format(role=role) for origin in origins]
    if isinstance(origins[0], FromJob):
        return f"{words[0]} {name}" if origins[0].name else words[0]
    if any(word.startswith(BENCHMARK_KEYS) for word in words):
        # The development split is not in problems.benchmarks.
        keys = [word for word in words if name != DEV or not word.startswith(BENCHMARK_KEYS)]
        return f"benchmark {name}: {' or '.join(keys)}"
    entry = f".{name}" if words[0].endswith("engine_arguments") and name else ""
    return " or ".join(words) + entry


def _word(origin: Origin, path: str) -> str:
    if isinstance(origin, FromKey):
        return origin.key
    return f"{origin.name or path.rpartition('.')[2]} of the {origin.what}"


def _origins(name: str, field: FieldInfo, parents: Sequence[Origin]) -> tuple[Origin, ...]:
    """What a field comes from: its marks, or the key of its name below each parent."""
    marks = tuple(mark for mark in field.metadata if isinstance(mark, Origin))
    if any(not isinstance(mark, AlsoFromKey) for mark in marks):
        return marks
    keys = (
        FromKey(f"{parent.key}.{name}", parent.when)
        for parent in parents
        if isinstance(parent, FromKey)
    )
    return (*keys, *marks)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds: alone, beside null, or as values of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    parts = (_model_in(part) for part in get_args(annotation))
    return next((part for part in parts if part is not None), None)
