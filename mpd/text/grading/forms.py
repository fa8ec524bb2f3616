r"""Small exact rules of answers by their form: numerals with a base, percent, dates, tuples."""

import re
from fractions import Fraction

from mpd.text.grading.exact import Number, same_number
from mpd.text.grading.numerals import read_number

_BASES = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
_BASE_OF = {name: str(base) for base, name in enumerate(_BASES.split(), 2)}
_NUMERAL = re.compile(
    r"\(?(?:\\text\{)?([0-9A-Z]+(?:\.[0-9A-Z]+)?)\}?\)?_ ?"
    rf"(?:\{{ ?(?:\\text\{{ ?)?(\d+|{'|'.join(_BASE_OF)}) ?\}}{{1,2}}|(\d)(?!\d))"
)
_DATE = re.compile(r"(\d{4})([-/.])(\d\d?)\2(\d\d?)|(\d\d?)([-/.])(\d\d?)\6(\d{4})|\d{3}-\d{4}")
_RANGE = re.compile(r"\d+(?:\.\d+)? ?- ?\d+(?:\.\d+)?")
_NAME = r"[A-Za-z](?:_(?:\{\w+\}|\w))?"
_OR = re.compile(r"(?<![A-Za-z])(?:and|or)(?![A-Za-z])|;")
_NAMED_TUPLE = re.compile(rf"\(({_NAME}(?:, ?{_NAME})+)\) ?= ?\((.*)\)")
_LEFT_SIDE = re.compile(
    rf"(?:{_NAME}|\\[A-Za-z]+)(?:'|\\prime)*(?:\(.*\))?|\|[A-Za-z]+\|"
    r"|\\(?:angle|text|m?box|lvert|left|sum|prod|int|lim|overline)(?![A-Za-z]).*"
)


def same_numeral(gold: str, answer: str) -> bool | None:
    """Whether two numerals are the same, of which one has a base; None where none has.

    A numeral without a base is taken in that of the other. `5_2` is no numeral, and equals nothing.
    """
    matches = _NUMERAL.fullmatch(gold), _NUMERAL.fullmatch(answer)
    if not any(matches):
        return None
    digits: list[str] = []
    bases: list[int] = []
    for match, text in zip(matches, (gold, answer), strict=True):
        base = int(_BASE_OF.get(match[2] or "", match[2] or match[3])) if match else 0
        digits.append(match[1] if match else text)
        bases.append(base)
        plain = digits[-1].replace(".", "")
        if match and not (plain[0].isdigit() or len(plain) > 1):  # a letter with an index
            return None
        if match and not (2 <= base <= 36 and all(int(digit, 36) < base for digit in plain)):
            return False
    return digits[0] == digits[1] and (not all(bases) or bases[0] == bases[1])


def same_percent(gold: str, answer: str) -> bool | None:
    """Whether a percentage is a number; None where not just one of two is a percentage.

    A whole number of percent may be written without the sign: 25% is 25, and a quarter.
    """
    texts = [re.fullmatch(r"(.*?) ?\\?%", text) for text in (gold, answer)]
    if not any(texts) or all(texts):
        return None
    percent = next(text[1] for text in texts if text)
    count, other = read_number(percent), read_number(answer if texts[0] else gold)
    if count is None or other is None:
        return None
    if count.literal and count.value.denominator == 1 and other.value == count.value:
        return True
    share = Number(count.value / 100, count.decimal)
    return same_number(share, other)


def date_verdict(gold: str, answer: str) -> str | None:
    """The verdict on two texts of which one is a date or a range; None where none is one."""
    for form in (_DATE, _RANGE):
        matches = form.fullmatch(gold), form.fullmatch(answer)
        if any(matches):
            if not all(matches):
                return "unparsed"
            parts = [[int(part) for part in re.findall(r"\d+", text)] for text in (gold, answer)]
            return "correct" if parts[0] == parts[1] else "wrong"
    return None


def split_list(text: str) -> list[str]:
    """The parts of a text between commas that stand in no brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def in_one_form(gold: str, answer: str) -> tuple[str, str] | None:
    """Two answers, brought to one form where one is a tuple, assigns values, or is an equation.

    `x=2, y=3` and `(x,y)=(2,3)` are the tuple of their values, a list beside a tuple is one, and
    an equation for one name beside no equation is its right side. None where two answers assign
    values to different names, or where an equation such as 2x=73 beside no equation is not solved.
    """
    assigned = _assignments(gold), _assignments(answer)
    texts = [gold, answer]
    if all(assigned):
        if set(assigned[0] or {}) != set(assigned[1] or {}):
            return None
        names = sorted(assigned[0] or {})
        first, second = (f"({', '.join((a or {})[name] for name in names)})" for a in assigned)
        return first, second
    for this, other in ((0, 1), (1, 0)):
        values = assigned[this]
        if values and "=" not in texts[other]:
            texts[this] = f"({', '.join(values.values())})"
    for this, other in ((0, 1), (1, 0)):
        if "=" in texts[this] and "=" not in texts[other]:
            right = _right_side(texts[this], is_gold=this == 0)
            if right is None:
                return None
            texts[this] = right
    for this, other in ((0, 1), (1, 0)):
        bare = (
            not texts[other].startswith(("(", "[", "\\{", "\\left")) or texts[other].count("(") > 1
        )
        parts = split_list(texts[other])
        if _is_tuple(texts[this]) and bare and len(parts) == len(split_list(texts[this][1:-1])) > 1:
            texts[other] = f"({texts[other]})"
        if texts[this].startswith(r"\{(") and texts[this].endswith(r")\}") and bare:
            texts[this] = texts[this][2:-2]
    return texts[0], texts[1]


def _is_tuple(text: str) -> bool:
    return text.startswith("(") and text.endswith(")") and len(split_list(text)) == 1


def _assignments(text: str) -> dict[str, str] | None:
    """The values of several names in `x=2, y=3` or `(x,y)=(2,3)`; None for other texts."""
    if "=" not in text:
        return None
    named = _NAMED_TUPLE.fullmatch(text)
    if named:
        names, values = split_list(named[1]), split_list(named[2])
        return dict(zip(names, values, strict=True)) if len(names) == len(values) else None
    listed = re.sub(r"(?:\\text\{ ?)?(?<![A-Za-z])and(?![A-Za-z])(?: ?\})?", ",", text)
    parts = [part for part in split_list(listed) if part]
    pairs = [re.fullmatch(rf"({_NAME}) ?= ?([^=<>]+)", part) for part in parts]
    assigned = {pair[1]: pair[2].strip() for pair in pairs if pair}
    return assigned if len(parts) > 1 and len(assigned) == len(parts) else None


def _right_side(text: str, is_gold: bool) -> str | None:
    """What an equation says that a quantity is; the text itself where it has no such form.

    That is its right side where the left one is a name, or (an answer's) an expression in several.
    None for an equation in one unknown that is not solved, and for a false one.
    """
    sides = [side.strip() for side in re.split(r"(?<![\\<>!])=", text)]
    if len(sides) < 2 or not all(sides) or len(split_list(text)) > 1 or _OR.search(text):
        return text
    left, right = sides[0], sides[-1]
    values = read_number(left), read_number(right)
    if values[0] is not None and values[1] is not None and len(sides) == 2:
        return right if values[0].value == values[1].value else None
    if re.search(r"\\(?:le|ge|ne|lt|gt|in|equiv)(?![A-Za-z])|[<>]|\\begin", text):
        return text
    if _LEFT_SIDE.fullmatch(left) or ":" in left:
        return right
    names = set(re.findall(_NAME, re.sub(r"\\[A-Za-z]+", "", left)))
    if len(names) == 1 and re.search("[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", right)):
        return text
    if len(names) == 1 or (is_gold and names and re.search(r"[\d^]", left)):
        return None
    return right if values[1] is not None else text


def same_ratio(gold: str, answer: str) -> bool | None:
    """Whether two ratios a:b or a:b:c are proportional; None where not both are ratios."""
    parts = [re.split(r" ?(?:\{:\}|:| to ) ?", text) for text in (gold, answer)]
    lengths = len(parts[0]), len(parts[1])
    if min(lengths) < 2:
        return False if max(lengths) > 2 else None
    ratios: list[list[Fraction]] = []
    for terms in parts:
        numbers = [read_number(term) for term in terms]
        ratios.append([number.value for number in numbers if number is not None])
        if len(ratios[-1]) < len(numbers) or not any(ratios[-1]):
            return None
    (a, *_), (b, *_) = ratios
    if not a or not b or " to " in gold + answer:
        return ratios[0] == ratios[1]
    return lengths[0] == lengths[1] and all(x * b == y * a for x, y in zip(*ratios, strict=True))
