"""The reference of config.yaml, docs/config.md, from its one definition in mpd/config/.

python -m mpd.config.reference > docs/config.md
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from mpd.config.base import Effect, FromKey, Gate, StageSettings
from mpd.config.config import Config
from mpd.config.keys import kinds_of, settings_of
from mpd.config.stages import RULES
from mpd.config.words import Node, default_of, type_of

MODEL_ROLES = ("student", "teacher")
STAGES_OF_RULES = {"benchmark_problems": "problems"}  # where a rule has another name

HEAD = """# Every key of the configuration

Made from mpd/config/ by `python -m mpd.config.reference > docs/config.md`. config.yaml holds the
settings of the embedded world; an overlay (`--configfile mine.yaml`) changes some of them, and
lists are replaced as a whole. Unknown keys, keys that a file gives twice and values out of range
are refused before anything runs. `python -m mpd.why` says what an edit makes rerun in a project as
it stands.

The last column names the stages whose results a key is part of: they are made anew after a change
of it, and what follows them. With "nothing", no result depends on it."""


@dataclass(frozen=True)
class Reader:
    """A stage whose settings a key is in: all of them, or those of some `conditions`."""

    stage: str
    conditions: tuple[str, ...]
    is_gate: bool


@cache
def readers() -> dict[str, list[Reader]]:
    """By key the stages that read it, in the order of the workflow; one may stand there twice."""
    table: dict[str, list[Reader]] = {}
    for name, rule in RULES.items():
        stage, kinds = STAGES_OF_RULES.get(name, name), kinds_of(rule.settings)
        by_kind = [dict(_read_by(stage, kind)) for kind in kinds]
        for kind, read in zip(kinds, by_kind, strict=True):
            for key, reader in read.items():
                # What all kinds read, or stands in the section of the stage, needs no condition.
                shared = all(key in other for other in by_kind)
                if not shared and kind.when and not key.startswith(f"{kind.section}."):
                    reader = replace(reader, conditions=(kind.when, *reader.conditions))
                table.setdefault(key, []).append(reader)
    return table


def _read_by(stage: str, kind: type[StageSettings]) -> Iterator[tuple[str, Reader]]:
    for setting in settings_of(kind):
        is_gate = any(isinstance(mark, Gate) for mark in setting.field.metadata)
        for origin in setting.origins:
            if isinstance(origin, FromKey):
                conditions = (origin.when,) if origin.when else ()
                for role in MODEL_ROLES if "{role}" in origin.key else MODEL_ROLES[:1]:
                    yield origin.key.format(role=role), Reader(stage, conditions, is_gate)


def stages_of(key: str) -> str:
    """The stages whose settings a key is in, such as: sample, compress (where it rewrites).

    Of a section those of all its keys.
    """
    effects = Config.model_fields[key.partition(".")[0]].metadata
    words = next((mark.words for mark in effects if isinstance(mark, Effect)), None)
    if words is not None:
        return words
    within = [
        reader
        for name, found in readers().items()
        for reader in found
        if name.startswith(f"{key}.")
    ]
    if within:
        return ", ".join(dict.fromkeys(reader.stage for reader in within))
    by_stage: dict[str, list[Reader]] = {}
    for reader in readers()[key]:
        by_stage.setdefault(reader.stage, []).append(reader)
    return ", ".join(_phrase(stage, found) for stage, found in by_stage.items())


def _phrase(stage: str, readers: Sequence[Reader]) -> str:
    if readers[0].is_gate:
        return f"{stage} is visited; its result stays"
    if not all(reader.conditions for reader in readers):
        return stage
    conditions = dict.fromkeys(", ".join(reader.conditions) for reader in readers)
    return f"{stage} ({'; '.join(conditions)})"


def tables(definitions: Node, node: Node, section: str = "") -> Iterator[tuple[str, list[str]]]:
    """StrictModel and rows of each table: that of `node`, then those of the sections in it."""
    inner: list[tuple[str, Node]] = []
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


def _definitions_in(field: Node) -> Iterator[tuple[str, str]]:
    """The sections in a field: where they stand, with * for the field, and their definitions."""
    if "$ref" in field:
        yield "*", field["$ref"].rpartition("/")[2]
    for kind in field.get("anyOf", ()):
        yield from _definitions_in(kind)
    if "items" in field:
        yield from _definitions_in(field["items"])
    for source, of in field.get("discriminator", {}).get("mapping", {}).items():
        yield f"*, source: {source}", of.rpartition("/")[2]


def _row(name: str, key: str, field: Node, default: str) -> str:
    stages = stages_of(re.sub(r", source: \w+", "", name))
    cells = [f"`{key}`", type_of(field), default, field["description"], stages]
    return " | ".join(cell.replace("|", "\\|") for cell in cells)


def markdown() -> str:
    """The whole of docs/config.md."""
    schema = Config.model_json_schema()
    sections: dict[tuple[str, ...], list[str]] = {}  # by their rows: equal tables are one
    for section, rows in tables(schema["$defs"], schema):
        sections.setdefault(tuple(rows), []).append(section)
    paragraphs = [HEAD]
    for table, names in sections.items():
        lines = ["key | type | default | meaning | stages", " | ".join(["---"] * 5), *table]
        text = "\n".join(f"| {line} |" for line in lines)
        paragraphs.append(f"## {'; '.join(names) or 'The whole'}\n\n{text}")
    return "\n\n".join(paragraphs) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
