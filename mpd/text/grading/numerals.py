r"""Numbers in texts: 1\frac14, 2 2/3, 0.1\overline{6}, 6.63\times10^{-34}, \frac{1}{20!}.

Only what has one reading is read; anything else is None and left to others.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from math import comb, factorial

from mpd.text.grading.exact import Number, repeating

MAX_BITS = 40_000  # of numerator and denominator of any number on the way
MAX_DEPTH = 30
MAX_FACTORIAL = 1_000

_TOKEN = re.compile(
    r"(?P<repeating>(?:\d+|(?=\.))\.\d*(?:\\overline|\\bar)\s*(?:\{\d+\}|\d)|\d+\.\(\d+\))"
    r"|(?P<number>\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
    r"|(?P<frac>\\[dtc]?frac(?![A-Za-z]))|(?P<binom>\\[dt]?binom(?![A-Za-z]))"
    r"|(?P<times>\\cdot(?![A-Za-z])|\\times(?![A-Za-z])|\*)|(?P<over>/|\\div(?![A-Za-z]))"
    r"|(?P<open>(?:\\left\s*)?\()|(?P<close>(?:\\right\s*)?\))"
    r"|(?P<sign>[-+])|(?P<power>\^)|(?P<factorial>!)|(?P<brace>\{)|(?P<unbrace>\})|(?P<space>\s+)",
    re.ASCII,
)
_SCIENTIFIC = re.compile(r"([-+]?\d+\.\d+)[eE]([-+]?\d{1,4})", re.ASCII)


def read_number(text: str) -> Number | None:
    """The number that a whole text stands for; None where it is none, or not surely one."""
    scientific = _SCIENTIFIC.fullmatch(text)
    if scientific:
        return _checked(
            Number(Fraction(scientific[1]) * Fraction(10) ** int(scientific[2]), True, True)
        )
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        tokens.append((match.lastgroup or "", match[0]))
        position = match.end()
    try:
        return _Parser(tokens).whole()
    except _UnreadableError:
        return None


class _UnreadableError(Exception):
    """The text is no number, or has several readings."""


def _checked(number: Number) -> Number:
    value = number.value
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _UnreadableError
    return number


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0

    def peek(self, skip: bool = True) -> str:
        """The kind of the next token, past space; "" at the end."""
        if skip and self.position < len(self.tokens) and self.tokens[self.position][0] == "space":
            self.position += 1
        return self.tokens[self.position][0] if self.position < len(self.tokens) else ""

    def take(self, kind: str) -> str:
        """The text of the next token, which has to be of a kind."""
        if self.peek() != kind:
            raise _UnreadableError
        self.position += 1
        return self.tokens[self.position - 1][1]

    def whole(self) -> Number:
        """The value of all tokens."""
        number = self.sum()
        if self.peek():
            raise _UnreadableError
        return number

    def within(self, close: str, read: Callable[[], Number]) -> Number:
        """What stands between the next token and a closing one."""
        self.position += 1
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _UnreadableError
        number = read()
        self.take(close)
        self.depth -= 1
        return number

    def sum(self) -> Number:
        """Signed terms."""
        total: Number | None = None
        while total is None or self.peek() == "sign":
            sign = -1 if self.peek() == "sign" and self.take("sign") == "-" else 1
            term = self.term()
            term = Number(sign * term.value, term.decimal, term.literal)
            total = term if total is None else _checked(
                Number(total.value + term.value, total.decimal or term.decimal)
            )  # fmt: skip
        return total

    def term(self) -> Number:
        """A product, one quotient, or a mixed number."""
        mixed = self.mixed()
        if mixed is not None:
            return mixed
        product = self.factor()
        while (kind := self.peek()) in ("times", "over", "open", "frac"):
            if kind == "frac":  # behind an integer it would be a mixed number
                raise _UnreadableError
            if kind != "open":
                self.position += 1
            if self.peek() == "sign" or (kind == "times" and self.mixed() is not None):
                raise _UnreadableError
            factor = self.factor()
            if kind == "over":
                product = self.quotient(product, factor)
                if self.peek() in ("times", "over", "open", "frac"):  # a/bc has two readings
                    raise _UnreadableError
                return product
            ten = factor.literal and _is_power_of_ten(factor.value)
            product = _checked(
                Number(
                    product.value * factor.value,
                    product.decimal or factor.decimal,
                    product.literal and kind == "times" and ten,
                )
            )
        if self.peek() not in ("", "sign", "close", "unbrace"):
            raise _UnreadableError
        return product

    def mixed(self) -> Number | None:
        r"""A mixed number, `2 2/3` or `2\frac{2}{3}`: an integer and a proper fraction."""
        start = self.position
        self.peek()
        kinds = [kind for kind, _ in self.tokens[self.position : self.position + 5]]
        spaced = kinds[:5] == ["number", "space", "number", "over", "number"]
        stacked = kinds[:2] == ["number", "frac"] or kinds[:3] == ["number", "space", "frac"]
        if not spaced and not stacked:
            self.position = start
            return None
        integer = self.integer()
        if spaced:
            numerator = self.integer()
            self.take("over")
            fraction = Fraction(numerator, self.integer() or 1)
        else:
            fraction = self.fraction().value
        if not 0 < fraction < 1 or self.peek() not in ("", "sign", "close", "unbrace"):
            raise _UnreadableError
        return _checked(Number(integer + fraction))

    def integer(self) -> int:
        """The value of digits."""
        digits = self.take("number")
        if not digits.isdecimal():
            raise _UnreadableError
        return int(digits)

    def factor(self) -> Number:
        """A number with what stands behind it: factorial, then exponent."""
        number = self.primary()
        if self.peek() == "factorial":
            self.position += 1
            number = Number(Fraction(factorial(_integer(number, MAX_FACTORIAL))))
            if self.peek() == "factorial":  # a double factorial
                raise _UnreadableError
        if self.peek() == "power":
            self.position += 1
            number = self.power(number)
            if self.peek() in ("power", "factorial"):
                raise _UnreadableError
        return number

    def power(self, base: Number) -> Number:
        """A number to the power of the next argument."""
        exponent = self.argument().value
        size = max(base.value.numerator.bit_length(), base.value.denominator.bit_length())
        if exponent.denominator != 1 or size * abs(exponent) > MAX_BITS:
            raise _UnreadableError
        if base.value == 0 and exponent <= 0:
            raise _UnreadableError
        literal = base.literal and base.value == 10
        return Number(base.value ** int(exponent), base.decimal, literal)

    def primary(self) -> Number:
        """A literal, a fraction, a binomial coefficient, or an expression in parentheses."""
        kind = self.peek()
        if kind == "open":
            return self.within("close", self.sum)
        if kind == "brace":
            return self.within("unbrace", self.sum)
        if kind == "frac":
            return self.fraction()
        if kind == "binom":
            self.position += 1
            above, below = (_integer(self.argument(), MAX_FACTORIAL) for _ in range(2))
            return Number(Fraction(comb(above, below)))
        if kind == "repeating":
            return Number(repeating(self.take("repeating")))
        text = re.sub(r"[{},\\]", "", self.take("number"))
        return _checked(Number(Fraction(text), decimal="." in text, literal=True))

    def fraction(self) -> Number:
        """The quotient of two arguments."""
        self.take("frac")
        return self.quotient(self.argument(), self.argument())

    def argument(self) -> Number:
        r"""What a command takes: an expression in braces, or one digit (`\frac59`)."""
        if self.peek() == "brace":
            return self.within("unbrace", self.sum)
        digits = self.take("number")
        if not digits.isdecimal():
            raise _UnreadableError
        if len(digits) > 1:  # the rest is the next token
            self.position -= 1
            self.tokens[self.position] = ("number", digits[1:])
            if self.tokens[self.position - 1][0] == "power":  # 2^10: ten, or one and then zero?
                raise _UnreadableError
        return Number(Fraction(int(digits[0])), literal=True)

    def quotient(self, above: Number, below: Number) -> Number:
        """A fraction."""
        if below.value == 0:
            raise _UnreadableError
        return _checked(Number(above.value / below.value, above.decimal or below.decimal))


def _is_power_of_ten(value: Fraction) -> bool:
    return value > 0 and bool(re.fullmatch("10*/?|1/10*", str(value)))


def _integer(number: Number, largest: int) -> int:
    if number.value.denominator != 1 or not 0 <= number.value <= largest:
        raise _UnreadableError
    return int(number.value)
