"""Damage to the tables of a run, as disks, copies and editors do it."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def flip(path: Path, place: float = 0.5, bit: int = 0) -> None:
    """Flip one bit of a byte; `place` from 0, the first, to 1, the last."""
    content = bytearray(path.read_bytes())
    content[round(place * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Keep the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    """Keep nothing of a file."""
    path.write_bytes(b"")


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table], footer: bytes | None) -> None:
    """Write a table again with pyarrow, its rows changed, under a footer (None: the old one)."""
    table = pq.read_table(path)
    metadata = table.schema.metadata or {}
    changed = change(table).replace_schema_metadata(
        {**metadata, b"mpd": footer or (pq.ParquetFile(path).metadata.metadata or {})[b"mpd"]}
    )
    pq.write_table(changed, path, compression="zstd")


KEYS = ("problem_id", "sample_id", "sample_index", "candidate")


def edit(path: Path) -> None:
    """Change every text, whole number and truth value that is no key with pyarrow.

    The footer stays.
    """

    def change(table: pa.Table) -> pa.Table:
        for place, field in enumerate(table.schema):
            if field.name in KEYS:
                continue
            column = table[field.name]
            if pa.types.is_large_string(field.type):
                ends = (pa.scalar(text, field.type) for text in ("0", ""))
                column = pc.binary_join_element_wise(column, *ends)
            elif pa.types.is_integer(field.type):
                column = pc.add(column, pa.scalar(1, field.type))
            elif pa.types.is_boolean(field.type):
                column = pc.invert(column)
            table = table.set_column(place, field, column)
        return table

    rewritten(path, change, None)


def before_checksums(path: Path) -> None:
    """Make a table one of an earlier release, whose footers had no checksums."""
    footer = json.loads((pq.ParquetFile(path).metadata.metadata or {})[b"mpd"])
    older = {name: footer[name] for name in ("artifact", "version", "content", "identity")}
    rewritten(path, lambda table: table, json.dumps(older, sort_keys=True).encode())
