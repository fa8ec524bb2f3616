"""Refuses keys that a mapping gives twice, and Python, in config files or on the command line.

Snakemake reads config.yaml and its overlays, YAML or JSON, and silently takes the last of such
keys. The Snakefile imports this module, so nothing here is heavy.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

CODE = "__use_yte__"
MERGE = "tag:yaml.org,2002:merge"  # tag of the key <<, which may stand several times


class _Repeated(Exception):
    """A key that a mapping gives twice, and on which lines; lines count from 1."""

    def __init__(self, key: str, first: int, second: int) -> None:
        self.key = key
        self.lines = f"line {first}" if first == second else f"lines {first} and {second}"


class _Loader(yaml.SafeLoader):
    """A loader that sees mappings as they are written, before merge keys are filled in."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping. Raises _Repeated where it has a key twice."""
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
    """Raise ValueError, naming the lines, where a mapping in a YAML or JSON file has a key twice.

    Snakemake has parsed the files before. Different mappings may have equal keys.
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
        except yaml.YAMLError as error:  # JSON that is no YAML
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{path}: its keys cannot be compared ({reason}); write it as YAML"
            ) from None


def require_plain_values(files: Iterable[str | Path]) -> None:
    """Raise ValueError where Snakemake has run Python in one of these YAML files for its values."""
    for path in map(Path, files):
        if CODE in path.read_text(encoding="utf-8"):
            raise ValueError(
                f"{path}: {CODE} lets Snakemake run Python in a config file; remove it, and write "
                "the values themselves"
            )


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
            continue  # text, not YAML
