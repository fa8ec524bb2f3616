"""Exact numbers, and when two of them are the same."""

import re
from dataclasses import dataclass
from fractions import Fraction

ROUNDING = 6  # decimal places that count where a decimal stands for another number
TOLERANCE = Fraction(1, 100_000)  # relative, as above


@dataclass(frozen=True)
class Number:
    """An exact value, and how it was written."""

    value: Fraction
    decimal: bool = False  # a finite decimal with a point is part of it
    literal: bool = False  # an integer or a finite decimal, perhaps times a power of ten


def same_number(a: Number, b: Number) -> bool:
    """Whether two numbers are equal.

    They are compared exactly, but where one of the two is a decimal and the other is neither
    decimal nor integer: there a decimal may be rounded (0.333333 for 1/3), so that the first six
    decimal places and five digits have to agree.
    """
    if (a.literal and b.literal) or not (a.decimal or b.decimal):
        return a.value == b.value
    return nearly(a.value, b.value)


def nearly(a: Fraction, b: Fraction) -> bool:
    """Whether two values agree in decimal places and, relatively, in digits."""
    near = abs(a - b) <= TOLERANCE * max(abs(a), abs(b))
    return near and round(a, ROUNDING) == round(b, ROUNDING)


def repeating(text: str) -> Fraction:
    r"""The value of a repeating decimal, such as `2.1\overline{6}` or `0.(3)`."""
    whole, fraction, cycle = re.fullmatch(r"(\d*)\.(\d*)\D+(\d+)\D?", text).groups()  # type: ignore[union-attr]
    start = Fraction(int(whole + fraction or "0"), 10 ** len(fraction))
    return start + Fraction(int(cycle), 10 ** len(fraction) * (10 ** len(cycle) - 1))
