"""The writer of the Parquet artifacts: rows come piece by piece, the file is whole or not there."""

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mpd.store.files import replacing, sync
from mpd.store.row_digest import RowDigest, column_checksums
from mpd.store.row_groups import sealed
from mpd.store.schema import Artifact

Identity = Mapping[str, str]

# About what a reader holds that goes row group by row group. Each has at least one row.
ROW_GROUP_BYTES = 8 << 20


@contextmanager
def writing(
    path: Path, schema: pa.Schema, artifact: Artifact, identity: Identity
) -> Iterator[tuple[Callable[[pa.Table], None], RowDigest]]:
    """A function that appends rows to a draft, and their digest.

    The draft becomes the file `path` when the block ends without an error. An OSError of writing
    names `path`.
    """
    # Numbers in lists (token ids, log-probabilities) are smallest as split bytes.
    lists = [field.name for field in schema if pa.types.is_large_list(field.type)]
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = RowDigest()
    with ExitStack() as stack:
        with _naming(path):
            draft = stack.enter_context(replacing(path))
            writer = pq.ParquetWriter(
                draft,
                schema,
                compression="zstd",
                compression_level=3,
                use_dictionary=[name for name in schema.names if name not in lists],
                column_encoding={f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in lists},
                write_page_checksum=True,
            )
            stack.callback(_abandon, writer)
        checksums: dict[str, list[str]] = {name: [] for name in schema.names}

        def append(table: pa.Table) -> None:
            digest.update(table)
            rows = max(len(table) * ROW_GROUP_BYTES // max(table.nbytes, 1), 1)
            for start in range(0, max(len(table), 1), rows):
                group = table.slice(start, rows)
                for name, checksum in column_checksums(group).items():
                    checksums[name].append(checksum)
                with _naming(path):
                    writer.write_table(group, row_group_size=rows)

        yield append, digest
        footer = {
            "artifact": artifact.name,
            "version": artifact.version,
            "content": digest.hexdigest(),
            "identity": dict(identity),
            "checksums": checksums,
        }
        with _naming(path):
            writer.add_key_value_metadata({"mpd": sealed(footer)})
            writer.close()
            sync(draft)


def _abandon(writer: pq.ParquetWriter) -> None:
    """Close the file of a writer that failed; nothing happens where it is closed."""
    with suppress(OSError):
        writer.close()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have an OSError name the file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
