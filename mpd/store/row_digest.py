"""The digest of the rows of a table."""

import hashlib
import json
from typing import Any

import pyarrow as pa


class RowDigest:
    """Digest of rows that does not depend on how they are cut into chunks.

    One running hash for each buffer of each column: null flags, lengths and values.
    """

    def __init__(self) -> None:
        self.hashes: dict[str, Any] = {}

    def update(self, table: pa.Table) -> None:
        """Add the rows of a table."""
        for name in table.column_names:
            for chunk in table.column(name).chunks:
                self._update(name, chunk)

    def _update(self, name: str, array: pa.Array) -> None:
        self._hash(name, "null", array.is_null().to_numpy(zero_copy_only=False))
        array = array.drop_null()
        if pa.types.is_large_list(array.type):
            self._hash(name, "length", array.value_lengths().to_numpy(zero_copy_only=False))
            self._update(f"{name}.element", array.flatten())
        elif pa.types.is_large_string(array.type):
            values = array.cast(pa.large_binary()).to_pylist()
            self.hashes.setdefault(f"{name} length", hashlib.sha256()).update(
                b"".join(len(value).to_bytes(8, "little") for value in values)
            )
            self.hashes.setdefault(f"{name} value", hashlib.sha256()).update(b"".join(values))
        else:
            self._hash(name, "value", array.to_numpy(zero_copy_only=False))

    def _hash(self, name: str, buffer: str, values: Any) -> None:
        self.hashes.setdefault(f"{name} {buffer}", hashlib.sha256()).update(values.tobytes())

    def hexdigest(self) -> str:
        """The digest of all rows so far; 32 hexadecimal digits."""
        columns = {name: running.hexdigest() for name, running in self.hashes.items()}
        return hashlib.sha256(json.dumps(columns, sort_keys=True).encode()).hexdigest()[:32]
