"""Types, ranges and defaults of keys in words, from the JSON schema of their model."""

import json
import textwrap
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from mpd.config.base import JsonSchema

RANGES = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "pattern": "like `{}`",
}
NAMES = {"string": "text", "boolean": "true or false", "object": "mapping"}
WIDTH = 100  # columns of a line of --help


def type_of(field: JsonSchema) -> str:
    """Type and range of a field in words, such as: integer, at least 1 or null."""
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        values = (value if isinstance(value, str) else json.dumps(value) for value in field["enum"])
        return ", ".join(f"`{value}`" for value in values)
    if "anyOf" in field:
        return " or ".join(type_of(kind) for kind in field["anyOf"])
    if "$ref" in field or "oneOf" in field:
        return "section"
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])}: {type_of(field['prefixItems'][0])}"
    if field.get("type") == "array":
        return f"list of {type_of(field['items'])}"
    kind: str = field["type"]
    ranges = (words.format(field[key]) for key, words in RANGES.items() if key in field)
    return ", ".join([NAMES.get(kind, kind), *ranges])


def default_of(key: str, section: JsonSchema) -> str:
    """The default of a key of a section as JSON, or the word required."""
    if key in section.get("required", ()):
        return "required"
    default = section["properties"][key].get("default")
    return f"`{json.dumps(default, ensure_ascii=False)}`"


def help_of(model: type[BaseModel], origins: Mapping[str, str]) -> str:
    """A paragraph for each key of a model and of the sections in it: type, default and meaning.

    `origins` has by path, in which * is any name, where the value of a key comes from.
    """
    schema = model.model_json_schema()
    return "\n".join(_paragraphs(schema, schema.get("$defs", {}), "", origins))


def _paragraphs(
    section: JsonSchema, definitions: JsonSchema, prefix: str, origins: Mapping[str, str]
) -> Iterator[str]:
    """The paragraphs of a section whose keys begin with `prefix`."""
    for key, field in section["properties"].items():
        path, inner = f"{prefix}{key}", _definition_in(field)
        if inner is not None:
            path = f"{path}.*" if "additionalProperties" in field else path
            yield from _paragraphs(definitions[inner], definitions, f"{path}.", origins)
            continue
        type_and_default = f"{type_of(field)}; {default_of(key, section)}".replace("`", "")
        words = f"{path} ({type_and_default}): {field.get('description', '')}"
        words += f" [{origins[path]}]" if path in origins else ""
        yield textwrap.fill(words, WIDTH, initial_indent="  ", subsequent_indent="      ")


def _definition_in(field: JsonSchema) -> str | None:
    """The name of the definition in a field: alone, beside null, or as values of a mapping."""
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    kinds = [*field.get("anyOf", ()), field.get("additionalProperties", False)]
    sections = (_definition_in(kind) for kind in kinds if isinstance(kind, Mapping))
    return next((section for section in sections if section), None)
