"""What pydantic finds wrong, in sentences that name the key."""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

Schema = Mapping[str, Any]  # a JSON schema, or a part of one


def sentences(error: ValidationError, schema: Schema) -> list[str]:
    """One sentence for each mistake; `schema` is the JSON schema that was not met."""
    return [_sentence(mistake, schema) for mistake in error.errors()]


def _sentence(mistake: Mapping[str, Any], schema: Schema) -> str:
    place = [str(step) for step in mistake["loc"]]
    section, tags = _schema_at(schema, place[:-1])
    keys = [step for number, step in enumerate(place) if number not in tags]
    where = f"{'.'.join(keys)}: " if keys else ""
    if mistake["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], sorted(section.get("properties", ())), 1)
        return f"{where}unknown key" + (f"; did you mean {near[0]}?" if near else "")
    if mistake["type"] == "missing":
        return f"{where}this key is required"
    reason = mistake["msg"].removeprefix("Value error, ")
    value = mistake["input"]
    return f"{where}{reason}" + ("" if isinstance(value, dict) else f", found {value!r}")


def _schema_at(schema: Schema, place: list[str]) -> tuple[Schema, set[int]]:
    """The part of a schema at a place, and which steps to it name a kind rather than a key.

    Behind models.student stands the source by which the kinds of models are told apart.
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


def _resolved(node: Schema, definitions: Schema) -> Schema:
    """A definition in place of a reference to it, also where null is allowed beside it."""
    kinds = [kind for kind in node.get("anyOf", ()) if kind.get("type") != "null"]
    node = kinds[0] if len(kinds) == 1 else node
    return definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
