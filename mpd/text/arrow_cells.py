"""The cells of an Arrow column, as they are written."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mpd.store.signs import quoted

if TYPE_CHECKING:
    import pyarrow as pa


def cells_of(column: "pa.ChunkedArray", start: int = 0) -> list[Any]:
    """The cells of an Arrow column: decimals and times as text, fractions as Decimal.

    Raises ValueError with the first row whose text is not UTF-8; rows count from `start`.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_decimal(column.type):
        return [None if cell is None else format(cell, "f") for cell in column.to_pylist()]
    if pa.types.is_floating(column.type):  # its shortest text: 0.1, not 0.10000000149
        texts = column.cast(pa.string()).to_pylist()
        return [None if text is None else Decimal(text) for text in texts]
    if pa.types.is_temporal(column.type) and not pa.types.is_duration(column.type):
        column = column.cast(pa.string())
    try:
        return column.to_pylist()
    except UnicodeDecodeError as error:
        row = next(row for row, cell in enumerate(column) if not _is_readable(cell))
        text = quoted(error.object)
        raise ValueError(f"row {start + row}: {text} is not UTF-8; write the file again") from None


def _is_readable(cell: "pa.Scalar") -> bool:
    try:
        cell.as_py()
    except UnicodeDecodeError:
        return False
    return True
