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


def edit(path: Path) -> None:
    """Change a value in each row with pyarrow; the footer stays.

    The last column of texts, numbers or truth values that is no key changes.
    """

    def change(table: pa.Table) -> pa.Table:
        for name in reversed(table.schema.names):
            column = table[name]
            if pa.types.is_large_string(column.type) and column.null_count < len(column):
                new = pc.binary_join_element_wise(column, "0", "")
            elif pa.types.is_integer(column.type) and column.null_count < len(column):
                new = pc.add(column, pa.scalar(1, column.type))
            elif pa.types.is_boolean(column.type):
                new = pc.invert(column)
            else:
                continue
            return table.set_column(table.schema.get_field_index(name), table.field(name), new)
        raise AssertionError(f"{path}: no column to change")

    rewritten(path, change, None)


def before_checksums(path: Path) -> None:
    """Make a table one of an earlier release, whose footers had no checksums."""
    footer = json.loads((pq.ParquetFile(path).metadata.metadata or {})[b"mpd"])
    older = {name: footer[name] for name in ("artifact", "version", "content", "identity")}
    rewritten(path, lambda table: table, json.dumps(older, sort_keys=True).encode())
