r"""How answers are written: integers, and what changes the look and not the meaning."""

import re

from mpd.text.grading.spelling import from_unicode

# Math delimiters, and the negative space with which LaTeX closes the gap after a comma: 10,\!080.
_INVISIBLE = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])|\\!\s*|\\(?:display|text)style(?![A-Za-z])\s*")
_FULL_STOP = re.compile(r"(?<!\.)(?<!\\right)(?<!\\right ) ?\.$")
_MARKS = re.compile(r"(\*\*\*|\*\*|\*|___|__|_|`+)(?![*_`\s])((?:(?!\1).)*)(?<![*_`\s\\])\1")
_AT_START = re.compile(r"(?:(?:\\approx|\\therefore)(?![A-Za-z])|=(?!=))\s*(?=\S)")
_AT_END = re.compile(r"(?:\s|\\[ ,;:]|\\q?quad(?![A-Za-z]))*(?:(?<!\\)\\)?$")
# 1 234 567: groups of three digits behind spaces, where they are no mixed number or list.
_GROUPS = re.compile(
    r"(?<![\w.^}\])/])(?<![A-Za-z] )(?<!\d,)[1-9]\d{0,2}(?:(?: |\\[ ;:])\d{3})+(?![\d/^]| ?[/\d])"
)
CURRENCIES = "€£¥₹₩₽"
_CURRENCY = re.compile(rf"^([-+]?) ?[{CURRENCIES}] ?(?=[\d.\\+-])|(?<=[\d}}]) ?[{CURRENCIES}]$")
_INTEGER = re.compile(
    r"(?:\\\$ ?)?([+-]?) ?(?:\\\$ ?)?"
    r"([1-9][0-9]{0,2}(?:(?:,|\{,\}|\\,)[0-9]{3})+|[0-9]+)"
    r"(?:\.0*)? ?(?:\\?%)?"
)


def normalise_answer(text: str) -> str:
    r"""The text without what changes its look and not its meaning.

    Left out are math delimiters, Markdown's marks around the whole, a final full stop, a sign of
    currency, and a leading `\approx`. Unicode's mathematics becomes LaTeX.
    """
    text = from_unicode(text)
    text = " ".join(_INVISIBLE.sub("", text.replace("~", " ")).split())
    text = _FULL_STOP.sub("", text)
    while text[:1] in ("*", "_", "`") and text and (marked := _MARKS.fullmatch(text)):
        text = _FULL_STOP.sub("", marked[2].strip())
    if text[:1] in ("\\", "="):
        text = _AT_START.sub("", text, count=1) if _AT_START.match(text) else text
    if "\\" in text[-6:]:
        text = text[:-200] + _AT_END.sub("", text[-200:])
    if " " in text and "&" not in text:
        text = _GROUPS.sub(lambda groups: re.sub(r"\D", "", groups[0]), text)
    return text if text.isascii() else _CURRENCY.sub(r"\1", text)


def canonical_integer(text: str) -> str | None:
    r"""The digits of an integer, after a minus sign if it is negative; None for any other text.

    Ignored are math delimiters, `$`, `\$`, `%`, `\%`, leading zeros, a leading `+`, a final full
    stop, a decimal part of zeros, and thousands separators (`,`, `{,}`, `\,`) where they separate
    groups of three: "-2,1" is a list. Comma and point are read as in English: "27.000" is 27.
    The digits stay text, since int() refuses more than 4,300 of them.
    """
    match = _INTEGER.fullmatch(normalise_answer(text))
    if match is None:
        return None
    digits = re.sub("[^0-9]", "", match[2]).lstrip("0") or "0"
    return "-" + digits if match[1] == "-" and digits != "0" else digits
