"""The configuration of a plan, from the files and settings of a command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mpd.config import Config, parse_config
from mpd.config.unique_keys import require_unique_arguments, require_unique_keys

DEFAULT = Path("config.yaml")


def read_config(overlays: Sequence[Path], entries: Sequence[str]) -> Config:
    """config.yaml of this folder with overlays and key=value entries, as Snakemake merges them.

    Raises ValueError where a file is missing, or for a mistake in the configuration.
    """
    content: dict[str, Any] = {}
    for path in (DEFAULT, *overlays):
        if not path.is_file():
            raise ValueError(f"{path}: no such config file; start in the folder of the Snakefile")
        require_unique_keys([path])
        content = _merged(content, yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    require_unique_arguments(entries)
    for entry in entries:
        key, sign, value = entry.partition("=")
        if not sign:
            raise ValueError(f"--config: expected key=value, found {entry}")
        content = _merged(content, {key: yaml.safe_load(value)})
    return parse_config(content)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        before = merged.get(key)
        is_both = isinstance(before, dict) and isinstance(value, dict)
        merged[key] = _merged(before, value) if is_both and before is not None else value
    return merged
