"""math-verify, with an exact comparison in place of its own to 15 digits, and other readings."""

from dataclasses import replace
from typing import Any

from mpd.text.grading.exact import nearly

DIGITS = 100  # at least, of which closed forms are computed
MAX_DIGITS = 20_000

_REPLACED: dict[str, Any] = {}  # what math-verify had in place of functions of this module


def numbers_equal(a: Any, b: Any, float_rounding: int = 6, numeric_precision: int = 15) -> bool:
    """What math-verify calls to compare two expressions by their values; its own errs near zero.

    It takes the place of `sympy_numeric_eq`, whose arguments it has and whose last two it ignores.
    Rational numbers are compared exactly, other closed forms to at least 100 digits and more where
    their parts are large, relative to their size. Where one of two numbers is a decimal and the
    other is not, `nearly` decides. Expressions with variables are equal if they expand to the
    same, decimals taken as exact.
    """
    from math_verify import grader
    from sympy import Basic, Float, Integer, MatrixBase

    if isinstance(a, MatrixBase) and isinstance(b, MatrixBase):
        a, b = _computed(a), _computed(b)
        return a.shape == b.shape and all(map(numbers_equal, a.flat(), b.flat()))
    if not isinstance(a, Basic) or not isinstance(b, Basic):
        return False
    percents = [grader.get_pct_val(number) for number in (a, b)]
    if any(percent is not None for percent in percents):
        values = [b if n == 1 and percents[1] is None else percents[n] for n in (0, 1)]
        values[0] = a if percents[0] is None else percents[0]
        if all(isinstance(value, Integer) for value in values):  # 9% is 9
            return bool(values[0] == values[1])
    literals = all(map(_is_literal, (a, b)))
    decimal = any(number.has(Float) for number in (a, b))
    a, b = (_computed(_exact_decimals(number)) for number in (a, b))
    if a == b:
        return True
    if a.free_symbols or b.free_symbols:
        return False
    return _values_equal(a, b, decimal and not literals)


def _computed(expression: Any) -> Any:
    """What an expression comes to; itself where SymPy cannot compute it.

    Raises MemoryError where that is too large.
    """
    try:
        return expression.doit()
    except (MemoryError, RecursionError):
        raise
    except Exception:  # of many kinds
        return expression


def _is_literal(number: Any) -> bool:
    """Whether a number is written as an integer or a decimal, perhaps times a power of ten."""
    from sympy import Float, Integer, Mul, Pow

    if isinstance(number, Integer | Float):
        return True
    if isinstance(number, Mul):
        return all(map(_is_literal, number.args))
    return isinstance(number, Pow) and number.base == 10 and isinstance(number.exp, Integer)


def _exact_decimals(expression: Any) -> Any:
    """The expression with decimals as the fractions that their digits say."""
    from sympy import Float, Rational

    decimals = expression.atoms(Float)
    return expression.xreplace({decimal: Rational(str(decimal)) for decimal in decimals})


def _values_equal(a: Any, b: Any, rounded: bool) -> bool:
    """Whether two closed forms have the same value."""
    from fractions import Fraction

    from sympy import Rational

    if a.is_Rational and b.is_Rational:
        if rounded:
            return nearly(Fraction(int(a.p), int(a.q)), Fraction(int(b.p), int(b.q)))
        return bool(a == b)
    values = _evaluated(a, b)
    if values is None:
        return False
    x, y, digits = values
    if rounded:
        return bool(x.is_real and y.is_real) and nearly(Fraction(str(x)), Fraction(str(y)))
    return bool(abs(x - y) <= max(abs(x), abs(y)) * Rational(10) ** (20 - digits))


def _evaluated(a: Any, b: Any) -> tuple[Any, Any, int] | None:
    """Two closed forms as decimals, and to how many digits; None where that is not possible."""
    from sympy import Rational

    atoms = [n for number in (a, b) for n in number.atoms(Rational)]
    digits = DIGITS + sum(len(str(part)) for n in atoms for part in (abs(n.p), n.q) if part > 9) * 4
    if digits > MAX_DIGITS:
        return None
    try:
        x, y = a.evalf(digits), b.evalf(digits)
    except (TypeError, ValueError, AttributeError):
        return None
    finite = x.is_number and y.is_number and x.is_finite and y.is_finite
    return (x, y, digits) if finite else None


def forms_equal(a: Any, b: Any) -> bool:
    """What math-verify calls to compare two expressions by their form; decimals taken as exact."""
    from sympy import Basic, MatrixBase, Rational, simplify

    if not all(isinstance(item, Basic | MatrixBase) for item in (a, b)):
        return False
    try:
        difference = simplify(_exact_decimals(a) - _exact_decimals(b))
    except (MemoryError, RecursionError):
        raise
    except Exception:  # SymPy refuses to subtract the two kinds of objects
        return False
    if isinstance(difference, MatrixBase):
        return bool(difference.is_zero_matrix)
    if not difference.is_zero:
        return False
    if a.free_symbols or b.free_symbols:
        return True
    # SymPy evaluates logarithms to some digits only while it simplifies.
    values = _evaluated(*map(_exact_decimals, (a, b)))
    if values is None:
        return True
    x, y, digits = values
    return bool(
        abs(x - y) <= max(abs(x), abs(y)) * Rational(10) ** (20 - digits)
        or abs(x - y) <= Rational(10) ** (-digits // 2)
    )


def solutions_equal(gold: Any, answer: Any, *precision: int) -> bool:
    """What math-verify calls to compare two relations by their solutions.

    Two relations without solutions are not equal for that.
    """
    from sympy import solve

    if not all(solve(relation, relation.free_symbols) for relation in (gold, answer)):
        return False
    return bool(_REPLACED["solutions"](gold, answer, *precision))


def normalised_latex(text: str, config: Any) -> str:
    """What math-verify calls to normalise LaTeX: as it does, but no letter at the end is a unit.

    To it, `v_0 t` is `v_0`.
    """
    return str(_REPLACED["normalise"](text, replace(config, units=False)))


def expression(latex: str) -> Any:
    """What math-verify calls to parse LaTeX: as it does, but letters keep their case.

    Of an equation chain that has no reading, the last side counts.
    """
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from math_verify import grader, parser

    def read(text: str) -> Any:
        """SymPy's expression."""
        return latex2sympy(
            text,
            is_real=not grader.should_treat_as_complex(text),
            normalization_config=None,
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )

    try:
        return read(latex)
    except Exception:  # of many kinds
        last = parser.get_last_eq(latex)
        if last == latex:
            raise
        return read(last)


def use_exact_comparison() -> None:
    """Let math-verify read and compare as this module does, in this process."""
    from math_verify import grader, parser

    if _REPLACED:
        return
    _REPLACED["solutions"] = getattr(grader, "sympy_solve_and_compare", None)
    _REPLACED["normalise"] = getattr(parser, "normalize_latex", None)
    grader.sympy_solve_and_compare = solutions_equal
    grader.sympy_numeric_eq = numbers_equal
    grader.sympy_symbolic_eq = forms_equal
    parser.normalize_latex = normalised_latex
    parser.parse_latex_cached = expression


def with_one_imaginary_unit(readings: list[list[Any]]) -> list[list[Any]]:
    """The readings with the imaginary unit for `i`, which math-verify reads as a symbol.

    Where an equation is for `i`, it stays a symbol.
    """
    from sympy import Basic, I, MatrixBase, Symbol
    from sympy.logic.boolalg import BooleanAtom

    def replaced(item: Any, unit: Any) -> Any:
        """An item of a reading."""
        if not isinstance(item, Basic | MatrixBase):
            return item
        return item.xreplace({s: unit for s in item.free_symbols if s.name == "i"})

    for unit in (I, Symbol("i")):
        units = [[replaced(item, unit) for item in reading] for reading in readings]
        if not any(isinstance(item, BooleanAtom) for reading in units for item in reading):
            return units
    return readings
