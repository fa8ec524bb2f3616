"""Problem sets as others write them: JSON lines, JSON, Parquet and CSV files, datasets of the hub.

The library datasets reads those of the hub, and says what a slice of a split is.
"""

import re
from decimal import Decimal
from typing import Any

from mpd.config.files import problem_files
from mpd.config.problems import Source
from mpd.text.arrow_cells import cells_of
from mpd.text.hub_datasets import hub_dataset
from mpd.text.row_streams import read_rows
from mpd.text.rows import FORMATS, BadRow, FileRow, fraction_of, is_blank

MAX_DIGITS = 1_000  # of a number, before and after its point together
_FRACTION = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def read_cells(source: Source) -> list[tuple[int, FileRow]]:
    """The number of each row, and the row with the cells of the columns that the source names.

    Rows are numbered from the start of the file also where only a slice of it is read; where
    several slices are added up, from the start of their sum.
    Raises ValueError where the source cannot be read, or lacks a column or rows.
    """
    names, rows, start = _hub_rows(source) if source.source == "hub" else _file_rows(source)
    columns = {"question": source.question, "answer": source.answer, **source.references}
    for key, column in columns.items():
        if column not in names:
            raise ValueError(
                f"{source.path}: no column {column} for the {key}; "
                f"it has {', '.join(names)}: set {key} in this problem source"
            )
    if not rows:
        raise ValueError(f"{source.path}: no rows in split {source.split}; fix split or the file")
    return list(enumerate(rows, start))


def answer_text(cell: Any) -> Any:
    """The text of an answer that is a number, all of its digits: 27.0 gives "27".

    Other cells are returned as they are. Raises ValueError where the number is not finite, or
    longer than MAX_DIGITS.
    """
    if isinstance(cell, bool) or not isinstance(cell, int | Decimal):
        return cell
    number = Decimal(cell)
    if not number.is_finite():
        raise ValueError(f"the number {number} is not finite")
    if len(number.as_tuple().digits) > MAX_DIGITS or abs(number.adjusted()) > MAX_DIGITS:
        raise ValueError(f"the number {number:.9e} has more than {MAX_DIGITS} digits")
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def reference_texts(cells: FileRow, source: Source) -> dict[str, str]:
    """What a scorer may see of a row, by its key. Raises ValueError where the row is bad."""
    if isinstance(cells, BadRow):
        raise ValueError(cells.reason)
    for column in source.references.values():
        if is_blank(cells[column]):
            raise ValueError(f"column {column} is empty; fix or remove it")
        if not isinstance(cells[column], str):
            raise ValueError(
                f"column {column} is not text: {cells[column]!r:.80}; fix or remove it"
            )
    return {key: cells[column] for key, column in source.references.items()}


def _wanted(source: Source) -> tuple[str, ...]:
    """The columns that are read of a source."""
    return (source.question, source.answer, *source.references.values())


def _hub_rows(source: Source) -> tuple[list[str], list[FileRow], int]:
    rows = hub_dataset(source)
    names = list(dict.fromkeys(_wanted(source)))
    if not set(names) <= set(rows.column_names):
        return rows.column_names, [], 0
    table = rows.select_columns(names).with_format("arrow")[:]
    columns = {name: cells_of(table.column(name)) for name in names}
    cells: list[FileRow] = [
        {name: column[row] for name, column in columns.items()} for row in range(len(table))
    ]
    lengths = {name: info.num_examples for name, info in rows.info.splits.items()}
    return rows.column_names, cells, _first_number(_slices(source.split, lengths))


def _file_rows(source: Source) -> tuple[list[str], list[FileRow], int]:
    (path,) = problem_files(source)
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: give a file that ends in {', '.join(FORMATS)}")
    try:
        names, rows = read_rows(path, _wanted(source))
        slices = _slices(source.split, {"train": len(rows)})
        part = [row for start, end in slices for row in rows[start:end]]
        if not part:
            raise ValueError("it has no such rows")
    except ValueError as error:
        raise ValueError(
            f"{path}: no rows of split {source.split} readable as {FORMATS[path.suffix]}: {error}"
        ) from None
    if path.suffix == ".csv":
        part = [_with_number(row, source.answer) for row in part]
    return names, part, _first_number(slices)


def _with_number(row: FileRow, column: str) -> FileRow:
    """A row of a CSV file, whose answer is a number where its text is one with a fraction."""
    if isinstance(row, BadRow):
        return row
    text = (row[column] or "").strip()
    is_fraction = _FRACTION.fullmatch(text) and not text.removeprefix("-").isdigit()
    return {**row, column: fraction_of(text)} if is_fraction else row


def _slices(split: str, lengths: dict[str, int]) -> list[tuple[int, int]]:
    """Start and end of each slice that a split adds up."""
    from datasets import ReadInstruction

    slices = ReadInstruction.from_spec(split).to_absolute(lengths)
    return [(part.from_, part.to) for part in slices]


def _first_number(slices: list[tuple[int, int]]) -> int:
    """The number of the first row in its file; 0 where slices are added up."""
    return slices[0][0] if len(slices) == 1 else 0
