"""Bounds on what is read as mathematics, and on what SymPy may compute of it.

They are the same on every machine, and decide before the clock does. The parser takes exponentially
long in some kinds of nesting, and SymPy multiplies a power out, however large it is.
"""

import math
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

MAX_PARSED = 500  # characters; of the gold answers of MATH-500 the longest has 53
MAX_DEPTH = 10  # of brackets in brackets; of those answers the deepest has 3
MAX_BARS = 16  # signs |, whose nesting nothing shows
MAX_UNIONS = 8  # signs of union and intersection
MAX_BITS = 40_000  # of the numerator or denominator of a power: 12,000 decimal digits
MAX_ROOT_BITS = 2_000  # of that under a root, whose factors are looked for
MAX_ROOT = 1_000  # of the root's degree
MAX_FACTORIAL = 10_000  # and of the smaller part of what is chosen from
MAX_SYMBOLIC_CHOICE = 20  # of which a binomial coefficient with a variable is expanded
MAX_TERMS = 1_000  # of a power of a sum that is multiplied out, of sums that are added up
MAX_PRECISION = 500_000  # bits

_BARS = re.compile(r"\||\\[lr]?vert(?![A-Za-z])", re.IGNORECASE)
_UNIONS = re.compile(r"\\(?:big)?(?:cup|cap)(?![A-Za-z])|[∪∩]")


class TooLargeError(MemoryError):
    """A number or an expression beyond the bounds. Few handlers of SymPy catch a MemoryError."""


class Refusals:
    """How often SymPy was stopped in this process, and whether it is bound already."""

    count = 0
    bound = False


def is_too_complex(text: str) -> bool:
    """Whether a text is too long, nested too deep or has too many parts to be parsed.

    Brackets of all kinds count, also escaped ones. One pass over the text.
    """
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth = max(depth - 1, 0)
    return (
        len(text) > MAX_PARSED
        or deepest > MAX_DEPTH
        or len(_BARS.findall(text)) > MAX_BARS
        or len(_UNIONS.findall(text)) > MAX_UNIONS
    )


def bound_sympy() -> None:
    """Have SymPy raise TooLargeError in place of computing beyond the bounds, in this process."""
    if Refusals.bound:
        return
    Refusals.bound = True
    from mpmath.libmp import libelefun
    from sympy import Integer, Rational, binomial, factorial, harmonic
    from sympy.concrete import summations
    from sympy.core import evalf
    from sympy.ntheory import multinomial

    for kind in (Integer, Rational):
        kind._eval_power = _guarded(kind._eval_power, _is_large_power)
    for function in (factorial, harmonic):
        function.eval = classmethod(_guarded(function.eval.__func__, _is_large_factorial))
    binomial.eval = classmethod(_guarded(binomial.eval.__func__, _is_large_choice))
    multinomial.multinomial_coefficients = _guarded(
        multinomial.multinomial_coefficients, _has_many_terms
    )
    summations.eval_sum_direct = _guarded(summations.eval_sum_direct, _is_long_sum)
    evalf.evalf = _guarded(evalf.evalf, lambda _, precision, *__: precision > MAX_PRECISION)
    for name in ("ln2_fixed", "pi_fixed"):  # what exp, sin and cos of large numbers are made of
        constant = _guarded(getattr(libelefun, name), lambda bits, *_: bits > MAX_PRECISION)
        setattr(libelefun, name, constant)


def _guarded(function: Callable[..., Any], is_beyond: Callable[..., bool]) -> Callable[..., Any]:
    """The function, which raises where its arguments are beyond a bound."""

    @wraps(function)
    def guarded(*arguments: Any, **keywords: Any) -> Any:
        if is_beyond(*arguments):
            Refusals.count += 1
            raise TooLargeError
        return function(*arguments, **keywords)

    return guarded


def _is_large_power(base: Any, exponent: Any) -> bool:
    if not exponent.is_Rational:
        return False
    size = max(int(base.p).bit_length(), int(base.q).bit_length())
    if size == 1:  # 0, 1 and -1
        return False
    degree = int(exponent.q)
    if degree > 1 and (size > MAX_ROOT_BITS or degree > MAX_ROOT):
        return True
    return size * abs(int(exponent.p)) > MAX_BITS * degree


def _is_large_factorial(_: type, n: Any, *__: Any) -> bool:
    return bool(n.is_Integer) and abs(int(n)) > MAX_FACTORIAL


def _is_large_choice(_: type, n: Any, k: Any) -> bool:
    if n.is_Integer and k.is_Integer:
        return min(abs(int(k)), abs(int(n) - int(k))) > MAX_FACTORIAL
    return bool(k.is_Integer) and abs(int(k)) > MAX_SYMBOLIC_CHOICE


def _has_many_terms(num_summands: Any, power: Any) -> bool:
    count, exponent = int(num_summands), int(power)
    return exponent > MAX_TERMS or math.comb(exponent + count - 1, count - 1) > MAX_TERMS


def _is_long_sum(_: Any, limits: tuple[Any, Any, Any]) -> bool:
    length = limits[2] - limits[1]
    return bool(length.is_Integer) and int(length) > MAX_TERMS
