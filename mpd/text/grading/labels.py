r"""What of an answer is no mathematics: choices, clock times, units and other words."""

import re

from mpd.text.grading.notation import CURRENCIES

_TEXT = r"\\(?:text(?:bf|rm|it|sf|tt|up)?|math(?:bf|rm|it|sf|tt)|mbox|operatorname)\s*"
_TEXT_GROUP = re.compile(rf"{_TEXT}\{{((?:[^{{}}]|\\[{{}}])*)\}}")
_BLANK = r"(?:\s|\\[ ,;:!]|\\q?quad(?![A-Za-z])|~)"
_LABEL = re.compile(
    rf"(?:(?:option|choice|answer){_BLANK}*:?{_BLANK}*)?"
    rf"(?:\(\s*([A-J])\s*\)|([A-J])\s*\)|([A-J])(?=[.:]|{_BLANK}*$))[.:]?",
    re.IGNORECASE,
)
_OPERATOR = re.compile(r"[=+*/^_!<>]|\\(?:cup|cap|times|cdot|subset|in|le|ge|to|setminus)(?![a-z])")
_CLOCK = re.compile(
    r"(?:(?P<hour>[01]?[0-9]|2[0-4]) ?(?::|\{:\}) ?(?P<minute>[0-5][0-9])"
    r"(?: ?: ?(?P<second>[0-5][0-9]))?|(?P<alone>1[0-2]|0?[1-9])(?= ?[ap]\.? ?m))"
    r" ?(?P<half>[ap]\.? ?m\b\.?)?(?: in the (?:morning|afternoon|evening))?(?: ?o'?clock)?",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Za-zÀ-ÿ]{2,}|%")
_UNIT_IN_PLAIN_TEXT = re.compile(r"(?<=[0-9}]) ?(?<![A-Za-z\\])([A-Za-z]{2,}(?: [A-Za-z]{2,})*)")
_CONNECTIVES = {"and", "or", "is", "are", "the", "of", "in", "if", "for", "per", "to", "a", "an"}
# Words that change a value or a place: an answer without them is another one.
_MEANINGFUL = {
    "am", "pm", "hundred", "thousand", "million", "billion", "trillion", "dozen", "minus",
    "negative", "not", "no", "less", "more", "least", "most", "fewer", "greater", "odd", "even",
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
    "sq": "square squared", "cu": "cubic cubed", "mph": "mph", "dollar": "dollar usd buck",
    "day": "day", "week": "week", "month": "month", "year": "year yr", "cent": "cent",
    "cup": "cup", "gallon": "gallon gal", "quart": "quart qt", "pint": "pint pt", "ton": "ton",
    "percent": "percent %", "person": "person people", "c": "celsius", "f": "fahrenheit",
}  # fmt: skip
_UNIT_OF = {word: unit for unit, words in _UNITS.items() for word in (unit, *words.split())}
_DEGREES = re.compile(rf"\\circ(?![a-z]) ?\}}? ?(?:{_TEXT}\{{ ?)?([CF]?)(?![A-Za-z])")
_SHORT_UNIT = re.compile(r"(?<=[0-9}]) ([mghslLVAWNJ])(?: ?\^ ?\{?[23]\}?)?$")
_SCALE = re.compile(
    rf"(.*?)[ ~]*(?:{_TEXT}\{{)? *(hundred|thousand|million|billion|trillion|dozen)s? *\}}?",
    re.IGNORECASE,
)
_SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "dozen": 12,
}  # fmt: skip
_UNIT_BEHIND = re.compile(
    rf"(.*[0-9}}]){_BLANK}*(?:{_TEXT}\{{ *([A-Za-z]+)\.? *\}}|([A-Za-z]{{2,}}))"
)
_BETWEEN_NUMBERS = re.compile(rf"[0-9}}]{_BLANK}*({_TEXT}\{{[^{{}}]*\}}|[A-Za-z ]+){_BLANK}*[0-9]")
_DERIVATIVE = re.compile(r"\\[dt]?frac ?\{ ?(?:d|\\partial)[^{}]*\}\{ ?(?:d|\\partial) ?[A-Za-z]")


def without_text_commands(text: str) -> str:
    r"""The text with what `\text{...}` and its kin hold, in place of the command."""
    while (plain := _TEXT_GROUP.sub(r" \1 ", text)) != text:
        text = plain
    return " ".join(text.replace("\\ ", " ").split())


def choice(text: str) -> tuple[str, str] | None:
    r"""Letter and content of a multiple choice: ("C", "24") of `\textbf{(C)}\ 24`, ("C", "") of C.

    None where the text does not begin with one capital letter in the form of a label, or where
    what follows could be the rest of a formula.
    """
    plain = re.sub(rf"^{_TEXT}\{{([^{{}}]*)\}}|^(\*+|_+)([^*_]+)\2", r"\1\3", text)
    match = _LABEL.match(plain)
    if match is None:
        return None
    letter = match[1] or match[2] or match[3]
    rest = plain[match.end() :]
    content = re.sub(rf"^{_BLANK}+", "", rest).strip()
    if not letter.isupper() or _OPERATOR.match(content):
        return None
    if content and rest == content and plain == text:  # (A)x is a product
        return None
    return None if re.match(rf"(?:or|and|,)(?![a-z])|{_LABEL.pattern}$", content) else (
        letter, content
    )  # fmt: skip


def scaled(text: str) -> tuple[str, int]:
    """The text without a last "million" or the like, and the factor that it stands for."""
    match = _SCALE.fullmatch(text)
    return (match[1], _SCALES[match[2].casefold()]) if match else (text, 1)


def without_unit(text: str) -> str:
    """The text without a known unit in plain letters behind a number, or USD before it."""
    text = re.sub(r"^(?:USD|US\\\$) ?(?=[0-9.])", "", text)
    match = _UNIT_BEHIND.fullmatch(text)
    return match[1] if match and _basic((match[2] or match[3]).casefold()) in _UNITS else text


def is_misread(text: str) -> bool:
    """Whether math-verify would read something else without a word.

    It drops words between two numbers and multiplies these: 5 feet 3 inches is 15 to it. And all
    derivatives of one letter by another are 0.
    """
    between = (match[1] for match in _BETWEEN_NUMBERS.finditer(text))
    words = (set(_WORD.findall(word.casefold())) - {"text", "mbox", "mathrm"} for word in between)
    return any(w and not w & {"and", "or"} for w in words) or bool(_DERIVATIVE.search(text))


def brackets_differ(gold: str, answer: str) -> bool:
    """Whether one text is a set in braces, and the other begins with another bracket."""
    pairs = (gold, answer), (answer, gold)
    return any(
        a.startswith((r"\{", r"\left\{"))
        and b.startswith(("(", "[", r"\left(", r"\left["))
        and not re.search(r"\||\\mid|:", a)
        for a, b in pairs
    )


def clock_time(text: str) -> tuple[int, int, str] | None:
    """A time of day as (hour, seconds in the hour, "am", "pm" or ""); None for another text."""
    plain = without_text_commands(text).replace("\\", "").strip()
    if plain.casefold() in ("noon", "12 noon", "12:00 noon"):
        return 12, 0, "pm"
    if plain.casefold() in ("midnight", "12 midnight", "12:00 midnight"):
        return 12, 0, "am"
    match = _CLOCK.fullmatch(plain)
    if match is None:
        return None
    hour = int(match["hour"] or match["alone"])
    half = "" if match["half"] is None else match["half"][0].casefold() + "m"
    seconds = 60 * int(match["minute"] or 0) + int(match["second"] or 0)
    if hour > 12 or hour == 0:
        if half:
            return None
        hour, half = (hour - 12 or 12, "pm") if 12 < hour < 24 else (12, "am")
    return hour, seconds, half


def words_differ(gold: str, answer: str) -> bool:
    """Whether the words beside the mathematics make two answers different ones.

    That is so where a word that changes a value stands in only one of them, or where both have
    units or other words, and not the same.
    """
    currencies = [{sign for sign in text if sign in CURRENCIES} for text in (gold, answer)]
    dollars = [r"\$" in text or "dollar" in text.casefold() for text in (gold, answer)]
    if any(currencies) and any(dollars) and not all(currencies) and not all(dollars):
        return True
    if all(currencies) and currencies[0] != currencies[1]:
        return True
    a, b = _words(gold), _words(answer)
    if (a ^ b) & _MEANINGFUL:
        return True
    return bool(a and b) and a != b


def _words(text: str) -> set[str]:
    """The words of a text in their basic form, with squares and cubes of units."""
    groups = [group.replace("\\$", " dollar ") for group in _TEXT_GROUP.findall(text)]
    outside = _TEXT_GROUP.sub(" ", text)
    groups += _UNIT_IN_PLAIN_TEXT.findall(outside)
    found: set[str] = set()
    for group in groups:
        plain = re.sub(r"\b([ap])\. ?m\b\.?", r"\1m", group.casefold())
        found |= {_basic(word) for word in _WORD.findall(plain)}
        found |= {_UNIT_OF[word] for word in re.findall(r"\b[a-z]\b", plain) if word in "mghsl"}
    found |= {_UNIT_OF.get(unit, unit) for unit in _SHORT_UNIT.findall(outside)}
    for scale in _DEGREES.findall(text):
        found |= {"deg", *scale.casefold()}
    found |= {"dollar"} if r"\$" in outside else set()
    found |= {"minute of arc"} if re.search(r"[0-9] ?'", outside) else set()
    found -= _CONNECTIVES
    powers = re.search(rf"{_TEXT}\{{[^{{}}]*\}} ?\^ ?\{{? ?([23])", text)
    if powers and found:
        found.add("sq" if powers[1] == "2" else "cu")
    return found


def _basic(word: str) -> str:
    """The word without its plural, or the unit that it names."""
    for form in (word, word.removesuffix("s"), word.removesuffix("es")):
        if form in _UNIT_OF:
            return _UNIT_OF[form]
    if word.removesuffix("s") in _MEANINGFUL:
        return word.removesuffix("s")
    return word if word in _MEANINGFUL or len(word) < 4 else word.removesuffix("s")
