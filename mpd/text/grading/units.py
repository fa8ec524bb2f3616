r"""Words beside numbers: units, currencies, percent, millions, and other words with a meaning."""

import re
from fractions import Fraction

from mpd.text.grading.labels import BLANK, TEXT, TEXT_GROUP, without_text_commands
from mpd.text.grading.notation import CURRENCIES
from mpd.text.grading.numerals import read_number

_WORD = re.compile(r"[A-Za-zÀ-ÿ]{2,}")
_CONNECTIVES = {"and", "or", "is", "are", "the", "of", "in", "if", "for", "per", "to", "a", "an"}
# Words that change a value or a place: an answer without them is another one.
_MEANINGFUL = {
    "am", "pm", "hundred", "thousand", "million", "billion", "trillion", "dozen", "minus",
    "negative", "not", "no", "none", "less", "more", "least", "most", "fewer", "greater", "odd",
    "even", "over", "under", "than", "only", "plus", "times", "divided",
    "north", "south", "east", "west", "northeast", "northwest", "southeast", "southwest", "bc",
    "ad", "half", "halve", "fourth", "fifth", "tenth", "hundredth", "thousandth",
    "quarter", "third", "double", "twice", "undefined", "infinite", "infinitely",
    "below", "above", "before", "after", "noon", "midnight", "left", "right", "up", "down",
    "remainder", "loss", "gain", "profit", "decrease", "increase", "except", "without",
}  # fmt: skip
_UNITS = {
    "cm": "centimeter centimetre", "m": "meter metre", "km": "kilometer kilometre",
    "mm": "millimeter millimetre", "in": "inch inche", "ft": "foot feet", "yd": "yard",
    "mi": "mile", "kg": "kilogram", "g": "gram", "mg": "milligram", "lb": "pound lbs",
    "oz": "ounce", "s": "second sec", "min": "minute", "h": "hour hr", "l": "liter litre",
    "ml": "milliliter millilitre", "deg": "degree", "rad": "radian", "unit": "unit",
    "sq": "square squared", "cu": "cubic cubed", "dollar": "dollar usd buck",
    "euro": "euro eur", "rupee": "rupee", "yen": "yen",
    "day": "day", "week": "week", "month": "month", "year": "year yr", "cent": "cent",
    "cup": "cup", "gallon": "gallon gal", "quart": "quart qt", "pint": "pint pt", "ton": "ton",
    "percent": "percent percentage pct", "person": "person people", "c": "celsius",
    "f": "fahrenheit", "hz": "hertz", "ohm": "ohm", "kmh": "kph kmph",
}  # fmt: skip
_UNIT_OF = {word: unit for unit, words in _UNITS.items() for word in (unit, *words.split())}
_SPEEDS = {"mph": "mi h", "kmh": "km h", "kph": "km h", "kmph": "km h"}
_CURRENCY_OF = {"$": "dollar", "€": "euro", "£": "lb", "₹": "rupee", "¥": "yen", "¢": "cent"}
_SIGNED = {*_CURRENCY_OF.values(), "percent"}
_SHORT = "mghslLVAWNJ"
# Words that are no unit where they end an answer: they say when it holds, or belong to a formula.
_NO_UNIT = {
    "and", "or", "if", "when", "where", "for", "with", "but", "to", "mod", "choose", "then", "sin",
    "cos", "tan", "log", "ln", "sqrt", "pi", "exp", "lim", "max", "min", "gcd", "lcm", "inf",
    "infinity", "solution", "solutions", "none", "unless", "provided", "as", "is", "not",
}  # fmt: skip
_DEGREES = re.compile(rf"\\circ(?![a-z]) ?\}}? ?(?:{TEXT}\{{ ?)?([CF]?)(?![A-Za-z])")
_DEGREE_SCALE = re.compile(rf"(\\circ ?\}}?) ?(?:{TEXT}\{{ ?[CF] ?\}}|[CF])$")
_SHORT_UNIT = re.compile(rf"(?<=[0-9}}]) ?([{_SHORT}])(?: ?\^ ?\{{?[23]\}}?)?$")
_POWER = re.compile(
    rf"(?:{TEXT}\{{[^{{}}]*\}}|(?<=[0-9}} ])[A-Za-z]{{2,}}|(?<=[0-9}} /])[{_SHORT}])"
    r" ?\^ ?\{? ?([23])",
    re.ASCII,
)
_SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "dozen": 12,
}  # fmt: skip
_SCALE = re.compile(rf"(.*?[0-9}}]) *({'|'.join(_SCALES)})s?(?: (?:of )?([A-Za-z ]+))?", re.I)
_END = re.compile(rf"(?:{BLANK}|,)*(?:(?<!\\)\\)?$")
_PLAIN = re.compile(
    rf"(.*(?:[0-9)}}]|\\%|%|\\pi(?![A-Za-z])))({BLANK}*)"
    r"([A-Za-z]{2,}\.?(?: [A-Za-z]{2,})*(?: ?/ ?[A-Za-z]+)?|[a-z]/[a-z])"
    r"( ?\^ ?(?:\{[23]\}|[23]))?"
)
_GROUP = re.compile(
    rf"(.*\S){BLANK}*{TEXT}\{{([^{{}}]*)\}}( ?\^ ?(?:\{{[23]\}}|[23]))?(?:/{TEXT}\{{[^{{}}]*\}})?"
)
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)\.?(?:,? and |, | )?")


def scaled(text: str) -> tuple[Fraction, str] | None:
    """The value of "3 million dollars", and its unit; None where no such word stands there."""
    match = _SCALE.fullmatch(without_text_commands(text).replace("\\$", "").strip())
    count = read_number(match[1].strip()) if match else None
    if match is None or count is None:
        return None
    unit = (match[3] or "").strip()
    return count.value * _SCALES[match[2].casefold()], unit or ("dollars" if "\\$" in text else "")


def quantities(text: str) -> list[tuple[Fraction, str]] | None:
    """The parts of "5 ft 3 in"; None for texts that are not two quantities or more."""
    plain = without_text_commands(text)
    parts = _QUANTITY.findall(plain)
    if len(parts) < 2 or "".join(_QUANTITY.split(plain)[::3]).strip():
        return None
    units = [_UNIT_OF.get(unit.casefold().removesuffix("s"), unit.casefold()) for _, unit in parts]
    return [(Fraction(count), unit) for (count, _), unit in zip(parts, units, strict=True)]


def without_units(gold: str, answer: str) -> tuple[str, str]:
    """Two answers whose words do not differ, without the units behind their numbers.

    One letter in plain text is a unit only where the other answer names it: 5m may be a product.
    """
    texts = [_without_unit(text) for text in (gold, answer)]
    for this, other in ((0, 1), (1, 0)):
        letter = _SHORT_UNIT.search(texts[this])
        if letter and texts[other] != (gold, answer)[other] and _words(gold) == _words(answer):
            texts[this] = texts[this][: letter.start()]
    return texts[0], texts[1]


def _without_unit(text: str) -> str:
    text = re.sub(r"^(?:USD|US\\\$) ?(?=[0-9.])", "", text)
    text = _DEGREE_SCALE.sub(r"\1", text)
    for _ in range(3):
        match = _GROUP.fullmatch(text)
        words = match[2].casefold() if match else ""
        if match and _is_unit(words) and (len(words.strip()) > 1 or match[2].strip() in _SHORT):
            text = _END.sub("", match[1])
    match = _PLAIN.fullmatch(text)
    if match is None:
        return text
    first, *others = re.findall("[A-Za-z]+", match[3].casefold())
    known = _basic(first) in _UNITS or first in _SPEEDS
    if match[2] and not known:
        known = len(first) >= 4 or (len(first) == 3 and bool(re.search("[aeiou]", first)))
    if "/" in match[3]:
        known = all(_basic(word) in _UNITS for word in (first, *others))
    return match[1].rstrip() if known and _is_unit(match[3].casefold()) else text


def _is_unit(words: str) -> bool:
    """Whether words behind a number may be left out."""
    found = re.findall("[a-z]+", words)
    if not found or re.search(r"[=<>\\^_\d]", re.sub(r"\^[23]", "", words)):
        return False
    return found == ["min"] or found == ["in"] or not set(found) & (_NO_UNIT | _MEANINGFUL)


def words_differ(gold: str, answer: str) -> bool:
    """Whether the words beside the mathematics make two answers different ones.

    That is so where a word that changes a value stands in only one of them, or where both have
    units or other words, and not the same.
    """
    a, b = _words(gold), _words(answer)
    if (a ^ b) & _MEANINGFUL:
        return True
    return bool(a and b) and a != b


def signs_differ(gold: str, answer: str) -> bool:
    """Whether signs of currency or percent, which a number may lose, make two answers differ."""
    a, b = _words(gold), _words(answer)
    return bool(a and b and (a ^ b) & _SIGNED)


def _words(text: str) -> set[str]:
    """The words of a text in their basic form, with squares and cubes of units."""
    signs = {_CURRENCY_OF.get(sign, sign) for sign in text if sign in CURRENCIES + "¢"}
    lone = text.replace("\\$", "").count("$") % 2
    signs |= {"dollar"} if r"\$" in text or lone else set()
    groups = TEXT_GROUP.findall(text)
    outside = TEXT_GROUP.sub(" ", text).replace("$", "")
    plain = _PLAIN.fullmatch(outside.strip(" .*"))
    if plain and (plain[2] or _basic(plain[3].casefold().strip(".")) in _UNITS or "/" in plain[3]):
        groups.append(plain[3])
    found: set[str] = set()
    for group in groups:
        found |= _words_of(group)
    found |= {_UNIT_OF.get(unit.casefold(), unit) for unit in _SHORT_UNIT.findall(outside)}
    for scale in _DEGREES.findall(text):
        found |= {"deg", *scale.casefold()}
    found |= {"percent"} if "%" in text else set()
    found |= {"minute or foot"} if re.search(r"[0-9] ?'(?!')(?!\d{3})", outside) else set()
    found |= {"second or inch"} if re.search(r"[0-9] ?(?:\"|'')", outside) else set()
    powers = _POWER.search(text) or re.search(r"\^([23])", " ".join(groups))
    if powers and found:
        found.add("sq" if powers[1] == "2" else "cu")
    return found | signs


def _words_of(group: str) -> set[str]:
    plain = re.sub(r"\b([ap])\. ?m\b\.?", r"\1m", group.casefold())
    for word, parts in _SPEEDS.items():
        plain = re.sub(rf"\b{word}\b", parts, plain)
    words = _WORD.findall(plain)
    if words and words[-1] == "in" and set(words[:-1]) <= {"square", "sq", "cubic", "cu"}:
        words[-1] = "inch"
    found = {_basic(word) for word in words if word not in _CONNECTIVES}
    found |= {_UNIT_OF[letter] for letter in re.findall(r"\b[a-z]\b", plain) if letter in "mghsl"}
    return found | ({"percent"} if "%" in group else set())


def _basic(word: str) -> str:
    """The word without its plural, or the unit that it names."""
    for form in (word, word.removesuffix("s"), word.removesuffix("es")):
        if form in _UNIT_OF:
            return _UNIT_OF[form]
    if word.removesuffix("s") in _MEANINGFUL:
        return word.removesuffix("s")
    return word if word in _MEANINGFUL or len(word) < 4 else word.removesuffix("s")
