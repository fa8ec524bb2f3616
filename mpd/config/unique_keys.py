"""Keys that a mapping gives twice, in config files or on the command line: refused.

Snakemake reads config.yaml and its overlays, YAML or JSON, and of such keys it takes the last
without a word. Read by the Snakefile, so nothing here is heavy.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

MERGE = "tag:yaml.org,2002:merge"  # of the key <<, which repeats nothing


class _Repeated(Exception):
    """A key with the lines where a mapping gives it, from 1."""

    def __init__(self, key: str, first: int, second: int) -> None:
        self.key = key
        self.lines = f"line {first}" if first == second else f"lines {first} and {second}"


class _Loader(yaml.SafeLoader):
    """Raises _Repeated. Here mappings are as written, before merge keys are filled in."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = (key for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        lines: dict[tuple[str, str], int] = {}
        for key in keys:
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines and key.tag != MERGE:
                raise _Repeated(key.value, lines[name], line)
            lines[name] = line
        return node


def require_unique_keys(files: Iterable[str | Path]) -> None:
    """Raise ValueError where a mapping of a YAML or JSON file has a key twice; it names the lines.

    Snakemake has read the files before. Equal keys of different mappings are none given twice.
    """
    for path in map(Path, files):
        text = path.read_text(encoding="utf-8")
        with suppress(ValueError):
            json.loads(text)
            text = text.replace("\t", " ")  # JSON may be indented by tabs, YAML may not
        try:
            yaml.compose(text, _Loader)
        except _Repeated as twice:
            raise ValueError(
                f"{path}: the key {twice.key} is given twice, on {twice.lines}; remove one of them"
            ) from None
        except yaml.YAMLError as error:  # of JSON alone
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{path}: its keys cannot be compared ({reason}); write it as YAML"
            ) from None


def require_unique_arguments(entries: Sequence[str]) -> None:
    """Raise ValueError where key=value pairs of the command line have a key twice, at any depth."""
    keys = [entry.partition("=")[0] for entry in entries]
    for entry, key in zip(entries, keys, strict=True):
        if keys.count(key) > 1:
            raise ValueError(f"--config: the key {key} is given twice; give it once")
        try:
            yaml.compose(entry.partition("=")[2], _Loader)
        except _Repeated as twice:
            raise ValueError(
                f"--config {key}: the key {twice.key} is given twice; remove one of them"
            ) from None
        except yaml.YAMLError:
            continue  # a text that is no YAML
