"""The reader of the Parquet artifacts: each row group is compared with its checksums.

A footer has a checksum of every column of every row group, and of itself. Files that were written
before these came have the digest of all rows alone, which is compared where all are read.
"""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from mpd.store.files import recompute_advice
from mpd.store.row_digest import RowDigest, column_checksums

# What pyarrow raises for damaged bytes: its own errors, and Python's for numbers out of all bounds.
DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, MemoryError, OverflowError)


def sealed(footer: Mapping[str, Any]) -> str:
    """A footer as JSON, with its checksum."""
    return json.dumps({**footer, "checksum": _checksum(footer)}, sort_keys=True)


class RowGroups:
    """The row groups of a file, in order.

    `sizes` are their numbers of rows, and `bytes` how many they have before compression.
    """

    def __init__(self, path: Path, advice: str = "") -> None:
        """`advice` ends the sentence on a damaged file, by default the command that mends it.

        Raises ValueError where the file is missing, cut or no Parquet, or its footer is damaged;
        PermissionError where it may not be read.
        """
        self.path = path
        self.advice = advice or recompute_advice(path)
        try:
            self.file = pq.ParquetFile(path, page_checksum_verification=True)
            self.schema = self.file.schema_arrow
            metadata = self.file.metadata
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file; run the stage that writes it") from None
        except PermissionError:  # it is not damaged, and pyarrow does not name it
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from None
        except DAMAGE as error:
            raise ValueError(
                f"{path}: not a whole Parquet file ({_first_line(error)}); {self.advice}"
            ) from None
        self.footer = self._footer(metadata.metadata)
        self.checksums: Mapping[str, Sequence[str]] | None = self.footer.get("checksums")
        groups = [metadata.row_group(number) for number in range(self.num_groups)]
        self.sizes = [group.num_rows for group in groups]
        self.bytes = [group.total_byte_size for group in groups]
        if self.checksums is not None:
            expected = len(next(iter(self.checksums.values()), []))
            if self.num_groups != expected:
                raise self._damaged(f"{expected} row groups expected, {self.num_groups} found")

    @property
    def num_groups(self) -> int:
        """The number of row groups."""
        return self.file.metadata.num_row_groups

    def read(self, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a row group; all columns by default.

        Raises ValueError where they are not those that were written.
        """
        try:
            table = self.file.read_row_group(group, columns=columns)
            found = {} if self.checksums is None else column_checksums(table)
        except DAMAGE as error:
            raise self._damaged(_first_line(error)) from None
        for name, checksum in found.items():
            expected = self.checksums[name][group] if self.checksums else checksum
            if checksum != expected:
                raise self._damaged(
                    f"row group {group}: the checksum of column {name} is {checksum}, "
                    f"{expected} expected"
                )
        return table

    def verify(self) -> None:
        """Read all rows. Raises ValueError where they are not those that were written."""
        digest = RowDigest()
        for group in range(self.num_groups):
            digest.update(self.read(group))
        self.require_content(digest)

    def require_content(self, digest: RowDigest) -> None:
        """Raise ValueError where the digest of all rows is not that of the footer."""
        expected, found = self.footer["content"], digest.hexdigest()
        if found != expected:
            raise self._damaged(f"the digest of its rows is {found}, {expected} expected")

    def _footer(self, metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
        text = (metadata or {}).get(b"mpd")
        if text is None:
            return {}
        try:
            footer = json.loads(text)
            expected = footer.pop("checksum", None)
        except (ValueError, AttributeError) as error:
            raise self._damaged(f"its footer is not JSON: {_first_line(error)}") from None
        if expected not in (None, _checksum(footer)):
            raise self._damaged(
                f"the checksum of its footer is {_checksum(footer)}, {expected} expected"
            )
        return footer

    def _damaged(self, cause: str) -> ValueError:
        return ValueError(f"{self.path}: damaged ({cause}); {self.advice}")


def _checksum(footer: Mapping[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(dict(footer), sort_keys=True).encode())


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
