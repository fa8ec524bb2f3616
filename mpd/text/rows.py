"""Cells of files that users give, and what is wrong with a row.

Whole numbers are int, others Decimal: nothing is rounded. Everything in a CSV file is text; so are
dates and decimals of a Parquet file.
"""

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
VISIBLE = "[^\\s\u00ad\u200b-\u200f\u2060\ufeff]"
NUM_NAMED = 10  # rows that one message names


@dataclass(frozen=True)
class BadRow:
    """A row whose cells cannot be read: the sentence says why."""

    reason: str


FileRow = dict[str, Any] | BadRow


def is_blank(cell: Any) -> bool:
    """Whether a cell is empty: nothing, or text of space and of characters of no width."""
    return cell is None or (isinstance(cell, str) and not re.search(VISIBLE, cell))


class Faults:
    """What is wrong with rows of a file: how many are bad, and the first ten of them.

    A fault is a place, such as "row 3", and what is wrong there.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first: list[tuple[str, str]] = []

    def add(self, place: str, sentence: str) -> None:
        """Count a bad row."""
        self.count += 1
        if len(self.first) < NUM_NAMED:
            self.first.append((place, sentence))

    def sentence(self, path: object, advice: str) -> str:
        """The sentence of the only bad row, or a line for each of the first; `advice`: what to do.

        There has to be one.
        """
        if self.count == 1:
            place, sentence = self.first[0]
            return f"{path}, {place}: {sentence}"
        lines = [f"{place}: {sentence}" for place, sentence in self.first]
        which = f"the first {NUM_NAMED} are" if self.count > NUM_NAMED else "they are"
        head = f"{path}: {self.count} rows cannot be used; {advice}; {which}:"
        return "\n  ".join([head, *lines])


def fraction_of(text: str) -> Decimal:
    """The number that a text is; NaN where its exponent is beyond those of Decimal."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")
