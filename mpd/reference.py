"""The reference of config.yaml, docs/config.md, from its one definition in mpd/config.py.

python -m mpd.reference > docs/config.md
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mpd.config import Config

Node = Mapping[str, Any]  # of a JSON schema

HEAD = """# Every key of the configuration

Made from mpd/config.py by `python -m mpd.reference > docs/config.md`. config.yaml holds the
settings of the embedded world; an overlay (`--configfile mine.yaml`) changes some of them, and
lists are replaced as a whole. Unknown keys, keys that a file gives twice and values out of range
are refused before anything runs. `python -m mpd.why` says what an edit makes rerun in a project as
it stands.

The last column names the stages whose results a key is part of: they are made anew after a change
of it, and what follows them. With "nothing", no result depends on it."""

# Stages of keys and sections, where these are not the section's own name; the nearest counts.
STAGES = {
    "experiment": "all are visited; the store has their results",
    "methods": "those of new branches, report",
    "custom": "those of the row",
    "seeds": "those of new branches, report",
    "rounds": "those of new rounds, report",
    "store": "nothing",
    "models.dtype": "sample, compress, logits, answers, head",
    "chat.prompt": "sample, answers",
    "chat.concise": "logits and answers, of methods that ask for brevity",
    "chat.thinking": "sample, answers; logits but of context: problem",
    "chat.think": "compress, filter, logits, evaluate",
    "chat.open": "compress",
    "chat.close": "compress, filter, logits, evaluate",
    "chat.date": "sample, answers; compress where it rewrites; logits but of context: problem",
    "problems.path": "problems",
    "problems.seed": "problems",
    "problems.benchmarks": "problems, answers, evaluate",
    "problems.benchmarks.num_samples": "answers",
    "problems.benchmarks.temperature": "answers",
    "problems.benchmarks.top_p": "answers",
    "problems.benchmarks.top_k": "answers",
    "problems.benchmarks.max_new_tokens": "answers, evaluate, report",
    "sample.trajectories": "sample, of round 1; report",
    "compress.prompt": "compress; logits of context: rewriting",
    "compress.refine": "compress and logits, of methods that refine",
    "distill.round_decay": "distill, from round 2 on",
    "distill.min_kept": "distill is visited; its result stays",
    "evaluate": "answers",
    "evaluate.max_new_tokens": "answers, evaluate, report",
    "resources": "nothing",
}


def stages_of(key: str) -> str:
    """The stages that a key belongs to, such as distill.epochs to distill."""
    parts = key.split(".")
    places = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((STAGES[place] for place in places if place in STAGES), parts[0])


def tables(definitions: Node, node: Node, section: str = "") -> Iterator[tuple[str, list[str]]]:
    """Section and rows of each table: that of `node`, then those of the sections in it."""
    inner: list[tuple[str, Node]] = []
    rows = []
    for key, field in node["properties"].items():
        name = f"{section}.{key}".lstrip(".")
        parts = list(_parts(field))
        inner += [(place.replace("*", name), definitions[part]) for place, part in parts]
        if not parts or "description" in field:
            required = key in node.get("required", ())
            rows.append(_row(name, key, field, required))
    if rows:
        yield section, rows
    for name, part in inner:
        yield from tables(definitions, part, name)


def _parts(field: Node) -> Iterator[tuple[str, str]]:
    """The sections in a field: where they stand, with * for the field, and their definitions."""
    if "$ref" in field:
        yield "*", field["$ref"].rpartition("/")[2]
    for kind in field.get("anyOf", ()):
        yield from _parts(kind)
    if "items" in field:
        yield from _parts(field["items"])
    for source, of in field.get("discriminator", {}).get("mapping", {}).items():
        yield f"*, source: {source}", of.rpartition("/")[2]


def _row(name: str, key: str, field: Node, required: bool) -> str:
    default = (
        "required" if required else f"`{json.dumps(field.get('default'), ensure_ascii=False)}`"
    )
    cells = [f"`{key}`", type_of(field), default, field["description"], stages_of(name)]
    return " | ".join(cell.replace("|", "\\|") for cell in cells)


def type_of(field: Node) -> str:
    """Type and range in words: integer, at least 1; or null."""
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(type_of(kind) for kind in field["anyOf"])
    if "$ref" in field or "oneOf" in field:
        return "section"
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])}: {type_of(field['prefixItems'][0])}"
    if field.get("type") == "array":
        return f"list of {type_of(field['items'])}"
    names = {"string": "text", "boolean": "true or false", "object": "mapping"}
    kind: str = field["type"]
    said = [names.get(kind, kind)]
    ranges = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
        "pattern": "like `{}`",
    }
    said += [words.format(field[key]) for key, words in ranges.items() if key in field]
    return ", ".join(said)


def markdown() -> str:
    """The whole of docs/config.md."""
    schema = Config.model_json_schema()
    sections: dict[tuple[str, ...], list[str]] = {}  # by their rows: equal tables are one
    for section, rows in tables(schema["$defs"], schema):
        sections.setdefault(tuple(rows), []).append(section)
    made = [HEAD]
    for table, names in sections.items():
        lines = ["key | type | default | meaning | stages", " | ".join(["---"] * 5), *table]
        text = "\n".join(f"| {line} |" for line in lines)
        made.append(f"## {'; '.join(names) or 'The whole'}\n\n{text}")
    return "\n\n".join(made) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
