"""Rows of JSONL, JSON, CSV and Parquet files, one after another, their cells as they are written.

Text is UTF-8, with or without a byte order mark, lines end in any way, and blank ones do not count.
Of a JSONL file one line is in memory, of a Parquet file BATCH_ROWS rows, of others the whole file.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from mpd.store.signs import quoted
from mpd.text.arrow_cells import cells_of
from mpd.text.rows import BadRow, FileRow, fraction_of

BATCH_ROWS = 64
ADVICE = "fix or remove it"  # for a row


class RowStream:
    """The rows of a file with the cells of `wanted`, to be read once.

    `compact` is called with each cell as soon as it is read, so that rows take less memory. `names`
    are the columns of the rows that were read: all columns of the file in the end.
    """

    def __init__(
        self,
        path: Path,
        wanted: Collection[str],
        compact: Callable[[Any], Any] = lambda cell: cell,
    ) -> None:
        self.path, self.wanted, self.compact = path, wanted, compact
        self.names: dict[str, None] = {}

    def __iter__(self) -> Iterator[FileRow]:
        """The rows. Raises ValueError, without the path, where the file as a whole is unreadable.

        So it is where every row is bad.
        """
        first: BadRow | None = None
        is_readable = False
        for row in self._rows():
            if isinstance(row, BadRow):
                first = first or row
                yield row
                continue
            is_readable = True
            self.names.update(dict.fromkeys(row))
            yield _with_cells(row, self.wanted, self.compact)
        if first is not None and not is_readable:
            raise ValueError(f"row 0: {first.reason}")

    def _rows(self) -> Iterable[FileRow]:
        if self.path.suffix == ".parquet":
            return self._parquet_rows()
        if self.path.suffix == ".csv":
            names, rows = _csv_rows(_text_of(self.path), self.wanted)
            self.names.update(dict.fromkeys(names))
            return rows
        if self.path.suffix == ".jsonl" and not _begins_list(self.path):
            return _json_lines(_lines_of(self.path), self.wanted)
        return _json_rows(_text_of(self.path), self.path.suffix, self.wanted)

    def _parquet_rows(self) -> Iterator[FileRow]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self.path.open("rb") as opened:
                file = pq.ParquetFile(opened)
                names = file.schema_arrow.names
                _require_once(names, self.wanted)
                self.names.update(dict.fromkeys(names))
                held = [name for name in self.wanted if name in names]
                if not held:
                    yield from ({} for _ in range(file.metadata.num_rows))
                    return
                start = 0
                for batch in file.iter_batches(BATCH_ROWS, columns=held):
                    columns = [
                        cells_of(pa.chunked_array([batch.column(name)]), start) for name in held
                    ]
                    for cells in zip(*columns, strict=True):
                        yield dict(zip(held, cells, strict=True))
                    start += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(str(error).splitlines()[0]) from None


def read_rows(path: Path, wanted: Collection[str]) -> tuple[list[str], list[FileRow]]:
    """The names of all columns of a file, and all rows of its `RowStream`."""
    stream = RowStream(path, wanted)
    rows = list(stream)
    return list(stream.names), rows


def _lines_of(path: Path) -> Iterator[str]:
    """The lines of a text file. Raises ValueError where it is not UTF-8."""
    try:
        # Universal newlines end a line; other separators, such as U+2028, may be in a string.
        with path.open(encoding="utf-8-sig") as file:
            yield from file
    except UnicodeDecodeError:
        _text_of(path)  # which says where
        raise


def _begins_list(path: Path) -> bool:
    """Whether the first character of a text file, apart from space, begins a JSON list."""
    first = next((line for line in _lines_of(path) if line.strip()), "")
    return first.lstrip().startswith("[")


def _text_of(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"byte {error.start} (in line {line}) is not UTF-8, the file has another encoding, "
            "such as Latin-1 or UTF-16; save it as UTF-8"
        ) from None


def _with_cells(
    row: dict[str, Any], wanted: Collection[str], compact: Callable[[Any], Any]
) -> FileRow:
    cells = {name: compact(row.get(name)) for name in wanted}
    for name, cell in cells.items():
        if isinstance(cell, str) and re.search("[\ud800-\udfff]", cell):
            return BadRow(
                f"column {name} has half of a surrogate pair (\\ud800 to \\udfff), which is no "
                f"character, in {cell[:80]!r}; write the row again"
            )
    return cells


def _require_once(names: Sequence[str], wanted: Collection[str]) -> None:
    """Raise ValueError where two columns have one name."""
    twice = next((name for name in wanted if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two columns have the name {twice}; rename one")


def _csv_rows(text: str, wanted: Collection[str]) -> tuple[list[str], list[FileRow]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [line for line in reader if len(line) > 1 or "".join(line).strip()]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None
    names = lines[0] if lines else []
    _require_once(names, wanted)
    rows: list[FileRow] = []
    for line in lines[1:]:
        if len(line) <= len(names):
            rows.append({name: cell or None for name, cell in zip(names, line, strict=False)})
        else:
            rows.append(
                BadRow(
                    f"{len(line)} cells where the header has {len(names)}: {quoted(line)}; {ADVICE}"
                )
            )
    return names, rows


def _json_rows(text: str, suffix: str, wanted: Collection[str]) -> Iterable[FileRow]:
    if text.lstrip().startswith("["):
        return (_json_row(value) for value in _json(text, wanted))
    whole = _single_object(text, wanted) if suffix == ".json" else None
    if whole is None:
        # Not splitlines: a string may hold other separators as they are, U+2028 for example.
        return _json_lines(re.split(r"\r\n|\n|\r", text), wanted)
    if isinstance(whole, dict) and whole and all(isinstance(item, list) for item in whole.values()):
        return _rows_of_columns(whole)
    return [whole]


def _single_object(text: str, wanted: Collection[str]) -> FileRow | None:
    """The object that a text is as a whole; None where it is something else, such as lines."""
    try:
        value = _json(text, wanted)
    except ValueError:
        return None
    return value if isinstance(value, dict | BadRow) else None


def _rows_of_columns(columns: dict[str, list[Any]]) -> list[FileRow]:
    if len({len(cells) for cells in columns.values()}) > 1:
        raise ValueError("its columns have different lengths")
    values = zip(*columns.values(), strict=True)
    return [dict(zip(columns, cells, strict=True)) for cells in values]


def _json_lines(lines: Iterable[str], wanted: Collection[str]) -> Iterator[FileRow]:
    for line in lines:
        line = line.rstrip("\n").strip(" \t\ufeff")
        if line:
            try:
                yield _json_row(_json(line, wanted))
            except ValueError as error:
                yield BadRow(f"{error} in {line[:80]!r}; {ADVICE}")


def _json_row(value: Any) -> FileRow:
    if isinstance(value, dict | BadRow):
        return value
    return BadRow(f"not a JSON object, but {str(value)[:80]!r}; {ADVICE}")


def _json(text: str, wanted: Collection[str]) -> Any:
    """The value of a JSON text. An object that has a wanted key twice is a BadRow."""

    def object_of(pairs: list[tuple[str, Any]]) -> FileRow:
        if len(content := dict(pairs)) == len(pairs):
            return content
        keys = [key for key, _ in pairs]
        twice = next((key for key in keys if key in wanted and keys.count(key) > 1), None)
        return content if twice is None else BadRow(f"the key {twice} is there twice; remove one")

    try:
        return json.loads(
            text, parse_float=fraction_of, parse_constant=Decimal, object_pairs_hook=object_of
        )
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from None
    except ValueError:  # of int
        limit = sys.get_int_max_str_digits()
        raise ValueError(f"a whole number of more than {limit} digits") from None
