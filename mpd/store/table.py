"""Strict read and write of the Parquet artifacts.

A footer holds what a reader must be able to refuse on: artifact, version, digest of the
content, checksums (`row_groups`), and the identity that the writer gave: digests of what the rows
were made from. It holds nothing else, so that equal rows are equal bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mpd.store.row_digest import RowDigest
from mpd.store.row_groups import RowGroups
from mpd.store.schema import Artifact
from mpd.store.table_writer import Identity, writing

_ARROW = {
    "string": pa.large_string(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "list<int32>": pa.large_list(pa.int32()),
    "list<float32>": pa.large_list(pa.float32()),
}


PART_ADVICE = "delete it and run again"


def arrow_schema(artifact: Artifact) -> pa.Schema:
    """The Arrow schema of an artifact's columns."""
    return pa.schema([(column.name, _ARROW[column.dtype]) for column in artifact.columns])


def frame_of(rows: Iterable[Mapping[str, Any]], artifact: Artifact) -> pl.DataFrame:
    """A frame with the artifact's columns and dtypes from rows given as mappings.

    Raises TypeError where a value does not have its column's type, KeyError where one is missing.
    """
    rows = list(rows)
    empty = pl.from_arrow(pa.Table.from_batches([], arrow_schema(artifact)))
    assert isinstance(empty, pl.DataFrame)
    # Column by column: from rows, Polars would silently cut 1.5 down to an integer.
    columns = {name: [row[name] for row in rows] for name in artifact.names}
    return pl.DataFrame(columns, schema=empty.schema, strict=True)


def write(path: Path, frame: pl.DataFrame, artifact: Artifact, identity: Identity) -> str:
    """Write `frame` as `artifact`, whole or not at all; returns the digest of its content.

    Raises ValueError where the columns are not the artifact's, or a column that must not be
    null is; OSError, naming the file, where the disk is full.
    """
    checked = _checked(frame, artifact, path)
    with writing(path, arrow_schema(artifact), artifact, identity) as (append, digest):
        append(checked)
    return digest.hexdigest()


def concatenate(path: Path, parts: list[Path], artifact: Artifact, identity: Identity) -> str:
    """Write the rows of `parts`, row group by row group; returns the digest."""
    with writing(path, arrow_schema(artifact), artifact, identity) as (append, digest):
        for part in parts:
            _append_part(append, part)
    return digest.hexdigest()


@contextmanager
def joining(path: Path, artifact: Artifact, identity: Identity) -> Iterator[Callable[[Path], None]]:
    """As `concatenate`, of parts that come one by one: a function that appends the rows of one.

    The file is there once the block has ended without an error.
    """
    with writing(path, arrow_schema(artifact), artifact, identity) as (append, _):
        yield partial(_append_part, append)


def _append_part(append: Callable[[pa.Table], None], part: Path) -> None:
    file = RowGroups(part, PART_ADVICE)
    for number in range(file.num_groups):
        append(file.read(number))


def read(path: Path, artifact: Artifact, identity: Identity | None = None) -> pl.DataFrame:
    """The rows of an artifact.

    Raises ValueError where the file is missing or truncated, holds another artifact or version, has
    other columns or dtypes, was written under another identity, or holds other rows than were
    written.
    """
    check(path, artifact, identity)
    return read_columns(path, artifact.names)


def read_columns(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Some columns of an artifact that has been checked."""
    groups = list(_row_groups(path, columns))
    frame = pl.from_arrow(pa.concat_tables(groups) if groups else pq.read_table(path))
    assert isinstance(frame, pl.DataFrame)
    return frame.select(columns)


def groups(
    path: Path, columns: Sequence[str], keys: pl.DataFrame | None = None
) -> Iterator[pl.DataFrame]:
    """Some columns of an artifact, one row group in memory at a time.

    With `keys`, only rows whose key columns are among them. Only the keys are read of a row
    group without such a row.
    """
    for group in _row_groups(path, columns, keys):
        frame = pl.from_arrow(group)
        assert isinstance(frame, pl.DataFrame)
        if keys is not None:
            frame = frame.join(keys, on=keys.columns, how="semi", maintain_order="left")
        yield frame.select(columns)


def iterate(path: Path, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of some columns of an artifact, one row group in memory at a time."""
    for frame in groups(path, columns):
        yield from frame.iter_rows()


def content_digest(path: Path, artifact: Artifact, identity: Identity | None = None) -> str:
    """The digest of the rows, from the footer, after the checks of `read`."""
    return check(path, artifact, identity)["content"]


def column_digest(path: Path, artifact: Artifact, columns: Sequence[str]) -> str:
    """The digest of some columns, for a stage that reads no others; after the checks of `read`."""
    check(path, artifact)
    digest = RowDigest()
    digest.update(read_columns(path, columns).to_arrow())
    return digest.hexdigest()


def check(path: Path, artifact: Artifact, identity: Identity | None = None) -> dict[str, Any]:
    """The footer of an artifact or an extension of it; raises as `read`, without reading rows."""
    file = RowGroups(path)
    footer = file.footer
    same_kind = (other for other in artifact.extensions if other.name == footer.get("artifact"))
    artifact = next(same_kind, artifact)
    found = f"{footer.get('artifact', 'a foreign file')} version {footer.get('version')}"
    expected = f"{artifact.name} version {artifact.version}"
    if found != expected:
        raise ValueError(f"{path}: expected {expected}, found {found}; run its stage again")
    _require_columns(file.schema, artifact, path)
    for key, value in (identity or {}).items():
        if footer["identity"].get(key) != value:
            raise ValueError(
                f"{path}: its {key} is {footer['identity'].get(key)}, but {value} is wanted; "
                "it was made by another model: run its stage again with this one"
            )
    return footer


def verify(path: Path, artifact: Artifact, identity: Identity | None = None) -> None:
    """Read all rows, one row group at a time; raises as `read` does."""
    check(path, artifact, identity)
    RowGroups(path).verify()


def _row_groups(
    path: Path, columns: Sequence[str], keys: pl.DataFrame | None = None
) -> Iterator[pa.Table]:
    file, digest = RowGroups(path), RowDigest()
    more = [] if keys is None else keys.columns
    names = list(dict.fromkeys([*columns, *more]))
    # Files of before have no checksums of row groups.
    reads_all = set(names) == set(file.schema.names)
    compares_all = "checksums" not in file.footer and keys is None and reads_all
    for group in range(file.num_groups):
        if keys is not None and not _has_a_key(file, group, keys):
            continue
        rows = file.read(group, names)
        if compares_all:
            digest.update(rows)
        yield rows
    if compares_all:
        file.require_content(digest)


def _has_a_key(file: RowGroups, group: int, keys: pl.DataFrame) -> bool:
    group_keys = pl.from_arrow(file.read(group, keys.columns))
    assert isinstance(group_keys, pl.DataFrame)
    return not group_keys.join(keys, on=keys.columns, how="semi").is_empty()


def _require_columns(schema: pa.Schema, artifact: Artifact, path: Path) -> None:
    expected = arrow_schema(artifact)
    if schema != expected:
        expected_columns, found_columns = (
            ", ".join(f"{field.name}: {field.type}" for field in fields)
            for fields in (expected, schema)
        )
        raise ValueError(
            f"{path}: expected the columns {expected_columns}; found {found_columns}; "
            "after a change of columns bump the version in mpd/store/schema/ and run its stage "
            "again"
        )


def _checked(frame: pl.DataFrame, artifact: Artifact, path: Path) -> pa.Table:
    _require_columns(frame.to_arrow().schema, artifact, path)
    for column in artifact.columns:
        if not column.nullable and frame[column.name].null_count():
            raise ValueError(f"{path}: {column.name} must not be null")
    if frame.select(artifact.key).is_duplicated().any():
        raise ValueError(f"{path}: two rows have the same {', '.join(artifact.key)}")
    return frame.to_arrow()
