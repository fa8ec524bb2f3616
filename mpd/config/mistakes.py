"""Mistakes that pydantic finds, in sentences that name the key."""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mpd.config.base import JsonSchema

NO_SECTION = ("model_type", "model_attributes_type")  # what pydantic calls a value in its place


def sentences(error: ValidationError, schema: JsonSchema) -> list[str]:
    """One sentence for each mistake; `schema` is the JSON schema of what was validated."""
    return [_sentence(mistake, schema) for mistake in error.errors()]


def _sentence(mistake: Mapping[str, Any], schema: JsonSchema) -> str:
    place = [str(step) for step in mistake["loc"]]
    section, tags = _schema_at(schema, place[:-1])
    keys = [step for number, step in enumerate(place) if number not in tags]
    where = f"{'.'.join(keys)}: " if keys else ""
    if mistake["type"] == "extra_forbidden":
        matches = difflib.get_close_matches(place[-1], sorted(section.get("properties", ())), 1)
        return f"{where}unknown key" + (f"; did you mean {matches[0]}?" if matches else "")
    if mistake["type"] == "missing":
        return f"{where}this key is required"
    reason = mistake["msg"].removeprefix("Value error, ")
    value = mistake["input"]
    if mistake["type"] in NO_SECTION:
        reason = "this is a section with keys of its own"
    return f"{where}{reason}" + ("" if isinstance(value, dict) else f", found {value!r}")


def _schema_at(schema: JsonSchema, place: list[str]) -> tuple[JsonSchema, set[int]]:
    """The part of a schema at a place, and which steps of the place name a kind, not a key.

    In a place, models.student is followed by the source, which tells the kinds of models apart.
    """
    definitions, tags = schema.get("$defs", {}), set()
    node = _resolved(schema, definitions)
    for number, step in enumerate(place):
        if "oneOf" in node:
            tags.add(number)
            kinds = node.get("discriminator", {}).get("mapping", {})
            node = {"$ref": kinds.get(step, f"#/$defs/{step}")}
        elif step.isdigit():
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(step, {})
        node = _resolved(node, definitions)
    return node, tags


def _resolved(node: JsonSchema, definitions: JsonSchema) -> JsonSchema:
    """The definition that a node refers to, alone or beside null; other nodes as they are."""
    kinds = [kind for kind in node.get("anyOf", ()) if kind.get("type") != "null"]
    node = kinds[0] if len(kinds) == 1 else node
    return definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
