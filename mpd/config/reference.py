"""The reference of config.yaml, docs/config.md, made from its definition in mpd/config/.

python -m mpd.config.reference > docs/config.md
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from mpd.config.base import Effect, FromKey, Gate, JsonSchema, StageSettings
from mpd.config.config import Config
from mpd.config.keys import kinds_of, settings_in
from mpd.config.stages import RULES
from mpd.config.words import default_of, type_of

MODEL_ROLES = ("student", "teacher", "embedder")
STAGES_OF_RULES = {"benchmark_problems": "problems"}  # of rules that are named otherwise

HEAD = """# Every key of the configuration

Made from mpd/config/ by `python -m mpd.config.reference > docs/config.md`. config.yaml has the
settings of the embedded world; an overlay (`--configfile mine.yaml`) changes some of them and
replaces lists as a whole. Unknown keys, keys that a file gives twice and values out of range are
refused before anything runs. `python -m mpd.why` says what an edit makes rerun in your project.

The last column names the stages that read a key: after a change of it, their results and those that
follow are computed again. No result depends on a key with "nothing" there."""


@dataclass(frozen=True)
class Reader:
    """A stage that reads a key: in all its jobs, or only under `conditions`."""

    stage: str
    conditions: tuple[str, ...]
    is_gate: bool


@cache
def readers() -> dict[str, list[Reader]]:
    """By key the stages that read it, in the order of the workflow; a stage may occur twice."""
    table: dict[str, list[Reader]] = {}
    for name, rule in RULES.items():
        stage, kinds = STAGES_OF_RULES.get(name, name), kinds_of(rule.settings)
        by_kind = [dict(_read_by(stage, kind)) for kind in kinds]
        for kind, keys_read in zip(kinds, by_kind, strict=True):
            for key, reader in keys_read.items():
                # A key that all kinds read, or in the stage's own section, needs no condition.
                shared = all(key in others for others in by_kind)
                if not shared and kind.when and not key.startswith(f"{kind.section}."):
                    reader = replace(reader, conditions=(kind.when, *reader.conditions))
                table.setdefault(key, []).append(reader)
    return table


def _read_by(stage: str, kind: type[StageSettings]) -> Iterator[tuple[str, Reader]]:
    """The keys that a kind of settings comes from, each with its reader."""
    roles = [role for role in MODEL_ROLES if role != "embedder" or "embeds" in kind.model_fields]
    for setting in settings_in(kind):
        is_gate = any(isinstance(mark, Gate) for mark in setting.field.metadata)
        for origin in setting.origins:
            if isinstance(origin, FromKey):
                conditions = (origin.when,) if origin.when else ()
                for role in roles if "{role}" in origin.key else roles[:1]:
                    yield origin.key.format(role=role), Reader(stage, conditions, is_gate)


def stages_of(key: str) -> str:
    """The stages that read a key, such as: sample, compress (where the teacher rewrites).

    For a section, the stages that read any of its keys.
    """
    effects = Config.model_fields[key.partition(".")[0]].metadata
    words = next((mark.words for mark in effects if isinstance(mark, Effect)), None)
    if words is not None:
        return words
    section_readers = [
        reader
        for name, key_readers in readers().items()
        for reader in key_readers
        if name.startswith(f"{key}.")
    ]
    if section_readers:
        return ", ".join(dict.fromkeys(reader.stage for reader in section_readers))
    by_stage: dict[str, list[Reader]] = {}
    for reader in readers()[key]:
        by_stage.setdefault(reader.stage, []).append(reader)
    return ", ".join(_phrase(stage, readers) for stage, readers in by_stage.items())


def _phrase(stage: str, readers: Sequence[Reader]) -> str:
    """A stage with the conditions under which it reads a key."""
    if readers[0].is_gate:
        return f"{stage} is visited; its result stays"
    if not all(reader.conditions for reader in readers):
        return stage
    conditions = dict.fromkeys(", ".join(reader.conditions) for reader in readers)
    return f"{stage} ({'; '.join(conditions)})"


def tables(
    definitions: JsonSchema, node: JsonSchema, section: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """The section and the rows of each table: that of `node`, then those of the sections in it."""
    inner: list[tuple[str, JsonSchema]] = []
    rows = []
    for key, field in node["properties"].items():
        name = f"{section}.{key}".lstrip(".")
        parts = list(_definitions_in(field))
        inner += [(place.replace("*", name), definitions[part]) for place, part in parts]
        if not parts or "description" in field:
            rows.append(_row(name, key, field, default_of(key, node)))
    if rows:
        yield section, rows
    for name, part in inner:
        yield from tables(definitions, part, name)


def _definitions_in(field: JsonSchema) -> Iterator[tuple[str, str]]:
    """The sections in a field: the heading of each, with * for the field, and its definition."""
    if "$ref" in field:
        yield "*", field["$ref"].rpartition("/")[2]
    for kind in field.get("anyOf", ()):
        yield from _definitions_in(kind)
    if "items" in field:
        yield from _definitions_in(field["items"])
    for source, reference in field.get("discriminator", {}).get("mapping", {}).items():
        yield f"*, source: {source}", reference.rpartition("/")[2]


def _row(name: str, key: str, field: JsonSchema, default: str) -> str:
    """A row of a table: key, type, default, meaning and stages."""
    stages = stages_of(re.sub(r", source: \w+", "", name))
    cells = [f"`{key}`", type_of(field), default, field["description"], stages]
    return " | ".join(cell.replace("|", "\\|") for cell in cells)


def config_reference() -> str:
    """The text of docs/config.md."""
    schema = Config.model_json_schema()
    sections: dict[tuple[str, ...], list[str]] = {}  # by their rows, since equal tables are merged
    for section, rows in tables(schema["$defs"], schema):
        sections.setdefault(tuple(rows), []).append(section)
    paragraphs = [HEAD]
    for table, names in sections.items():
        lines = ["key | type | default | meaning | stages", " | ".join(["---"] * 5), *table]
        text = "\n".join(f"| {line} |" for line in lines)
        paragraphs.append(f"## {'; '.join(names) or 'Top level'}\n\n{text}")
    return "\n\n".join(paragraphs) + "\n"


if __name__ == "__main__":
    print(config_reference(), end="")
