"""Rows of JSONL, JSON, CSV and Parquet files, their cells as they are written.

Text is UTF-8, with or without a byte order mark, lines end in any way, and blank ones do not count.
Whole numbers are int, others Decimal: nothing is rounded. Everything in a CSV file is text; so are
dates and decimals of a Parquet file.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from mpd.store.signs import quoted
from mpd.text.arrow_cells import cells_of

FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
VISIBLE = "[^\\s\u00ad\u200b-\u200f\u2060\ufeff]"
NUM_NAMED = 10  # rows that one message names


@dataclass(frozen=True)
class BadRow:
    """A row whose cells cannot be read: the sentence says why."""

    reason: str


FileRow = dict[str, Any] | BadRow


def read_rows(
    path: Path, wanted: Collection[str], compact: Callable[[Any], Any] = lambda cell: cell
) -> tuple[list[str], list[FileRow]]:
    """The names of all columns of a file, and its rows with the cells of `wanted`.

    `compact` is called with each cell as soon as it is read, so that rows take less memory.
    Raises ValueError, without the path, where the file as a whole cannot be read.
    """
    import pyarrow as pa

    if path.suffix == ".parquet":
        try:
            names, stream = _parquet_rows(path, wanted)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(str(error).splitlines()[0]) from None
    elif path.suffix == ".csv":
        names, stream = _csv_rows(_text_of(path), wanted)
    else:
        names, stream = [], _json_rows(_text_of(path), path.suffix, wanted)
    columns = dict.fromkeys(names)
    rows: list[FileRow] = []
    is_readable = False
    for row in stream:
        if isinstance(row, BadRow):
            rows.append(row)
            continue
        is_readable = True
        columns.update(dict.fromkeys(row))
        rows.append(_with_cells(row, wanted, compact))
    if rows and not is_readable:
        raise ValueError(f"row 0: {rows[0].reason}" if isinstance(rows[0], BadRow) else "")
    return list(columns), rows


def is_blank(cell: Any) -> bool:
    """Whether a cell is empty: nothing, or text of space and of characters of no width."""
    return cell is None or (isinstance(cell, str) and not re.search(VISIBLE, cell))


def fault_sentence(path: object, faults: Sequence[tuple[str, str]], advice: str) -> str:
    """What is wrong with rows of a file: the sentence of one, or a line for each of the first ten.

    Each fault is a place, such as "row 3", and what is wrong there; `advice` is what to do.
    """
    if len(faults) == 1:
        place, sentence = faults[0]
        return f"{path}, {place}: {sentence}"
    lines = [f"{place}: {sentence}" for place, sentence in faults[:NUM_NAMED]]
    which = f"the first {NUM_NAMED} are" if len(faults) > NUM_NAMED else "they are"
    head = f"{path}: {len(faults)} rows cannot be used; {advice}; {which}:"
    return "\n  ".join([head, *lines])


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


def _parquet_rows(path: Path, wanted: Collection[str]) -> tuple[list[str], Iterable[FileRow]]:
    import pyarrow.parquet as pq

    with path.open("rb") as opened:
        file = pq.ParquetFile(opened)
        names = file.schema_arrow.names
        _require_once(names, wanted)
        held = [name for name in wanted if name in names]
        table = file.read(columns=held)
        columns = {name: cells_of(table.column(name)) for name in held}
    numbers = range(len(table))
    return names, ({name: cells[row] for name, cells in columns.items()} for row in numbers)


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
                BadRow(f"{len(line)} cells where the header has {len(names)}: {quoted(line)}")
            )
    return names, rows


def _json_rows(text: str, suffix: str, wanted: Collection[str]) -> Iterable[FileRow]:
    if text.lstrip().startswith("["):
        return (_json_row(value) for value in _json(text, wanted))
    whole = _single_object(text, wanted) if suffix == ".json" else None
    if whole is None:
        return _json_lines(text, wanted)
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


def _json_lines(text: str, wanted: Collection[str]) -> Iterator[FileRow]:
    # Not splitlines: a string may hold other separators as they are, U+2028 for example.
    for line in re.split(r"\r\n|\n|\r", text):
        line = line.strip(" \t\ufeff")
        if line:
            try:
                yield _json_row(_json(line, wanted))
            except ValueError as error:
                yield BadRow(f"{error} in {line[:80]!r}")


def _json_row(value: Any) -> FileRow:
    if isinstance(value, dict | BadRow):
        return value
    return BadRow(f"not a JSON object, but {str(value)[:80]!r}")


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


def fraction_of(text: str) -> Decimal:
    """The number that a text is; NaN where its exponent is beyond those of Decimal."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")
