r"""How answers are written: boxes, integers, and what changes the look and not the meaning."""

import re
from collections.abc import Iterator

from mpd.text.grading.spelling import from_unicode

# A box may be over-escaped (`\\boxed`). `\{`, `\}` and a line break `\\` open and close nothing.
_BRACES = re.compile(r"\\{1,2}boxed\s*\{|\\{1,2}boxed(?![A-Za-z])\s*|\\[\\{}]|[{}]")
_BARE = re.compile(
    r"-?\\[dtc]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)"
    r"|-?\d+(?:,\d{3})*(?:\.\d+)?%?|-?\\sqrt\s*(?:\{[^{}]*\}|\d)|-?\\(?:pi|infty)(?![A-Za-z])"
    r"|\\(?:text|textbf|mathrm|mathbf)\s*\{[^{}]+\}|[A-Za-z](?=\s*(?:\$|\\\)|\\\]|\.|,|$))"
)
# What may stand between boxes that are one answer, side by side.
_BETWEEN = re.compile(
    r"(?:[\s$~]|\\[()\[\];:! ,]|\\q?quad|(?P<mark>[,;&]|\\\\|(?:and|or)(?![A-Za-z])"
    r"|\\(?:text|mbox|mathrm)\s*\{\s*,?\s*(?:and|or)\s*\})|[A-Za-z](?:_\{?\w+\}?)?\s*=)*"
)
_GAP = 80  # characters at most between two boxes that are side by side
# Math delimiters, and the negative space with which LaTeX closes the gap after a comma: 10,\!080.
_INVISIBLE = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])|\\!\s*")
_FULL_STOP = re.compile(r"(?<!\.)(?<!\\right)(?<!\\right ) ?\.$")
_MARKS = re.compile(r"(\*\*\*|\*\*|\*|___|__|_|`+)(?![*_`\s])((?:(?!\1).)*)(?<![*_`\s\\])\1")
_ABOUT = re.compile(r"\\approx(?![A-Za-z])\s*(?=\S)")
CURRENCIES = "€£¥₹₩₽"
_CURRENCY = re.compile(rf"^([-+]?) ?[{CURRENCIES}] ?(?=[\d.\\+-])|(?<=[\d}}]) ?[{CURRENCIES}]$")
_INTEGER = re.compile(
    r"(?:\\\$ ?)?([+-]?) ?(?:\\\$ ?)?"
    r"([1-9][0-9]{0,2}(?:(?:,|\{,\}|\\,)[0-9]{3})+|[0-9]+)"
    r"(?:\.0*)? ?(?:\\?%)?"
)


def _boxes(text: str) -> Iterator[tuple[int, int, str]]:
    r"""Balanced, filled boxes as (start of `\boxed`, end, content), as they close."""
    open_braces: list[tuple[int, int]] = []  # where the box starts (-1: no box), and the content
    for token in _BRACES.finditer(text):
        if token[0] == "}":
            start, content_start = open_braces.pop() if open_braces else (-1, -1)
            content = text[content_start : token.start()].strip() if start >= 0 else ""
            if content:
                yield start, token.end(), content
        elif token[0][-1] == "{" and token[0] != r"\{":
            open_braces.append((token.start() if "boxed" in token[0] else -1, token.end()))
        elif "boxed" in token[0]:
            bare = _BARE.match(text, token.end())
            if bare:
                yield token.start(), bare.end(), bare[0]


def last_box(text: str) -> str | None:
    r"""The content of the box that opens last of those that are balanced and not empty.

    A box is `\boxed{...}`, or `\boxed` before one number, fraction or letter. One pass: linear in
    the length of the text.
    """
    content = None
    last_start = -1
    for start, _, inside in _boxes(text):
        if start > last_start:
            last_start, content = start, inside
    return content


def boxed_answer(text: str) -> tuple[str | None, bool]:
    r"""The answer in the last boxes, and whether it is surely all of it.

    That is the content of the last box, or of the boxes side by side that end with it, separated
    by commas: "$x = \boxed{2}$ or $x = \boxed{-4}$" gives "2, -4". It is not sure where the last
    sentence has another box, with other words in between.
    """
    flat: list[tuple[int, int, str]] = []
    for box in _boxes(text):
        # Of boxes in a box, the one that opens last counts.
        if flat and flat[-1][0] > box[0]:
            flat[-1] = (box[0], box[1], flat[-1][2])
            while len(flat) > 1 and flat[-2][0] > box[0]:
                del flat[-2]
        else:
            flat.append(box)
    if not flat:
        return None, True
    answers = [flat[-1][2]]
    for (_, end, content), (start, _, _) in zip(flat[-2::-1], flat[:0:-1], strict=True):
        gap = text[end:start]
        between = _BETWEEN.fullmatch(gap) if len(gap) <= _GAP else None
        if between is None or ("\n" in gap and not between["mark"]) or "\n\n" in gap:
            same_sentence = not re.search(r"\n|[.!?:;]\s", gap)
            return _joined(answers), not same_sentence or content == answers[-1]
        answers.append(content)
    return _joined(answers), True


def _joined(answers: list[str]) -> str:
    """Answers in the order of the text, each once."""
    return ", ".join(dict.fromkeys(reversed(answers)))


def whole_box(text: str) -> str | None:
    r"""The content of the box that is all of a text, but for math delimiters and a full stop."""
    bare = normalise_answer(text)
    boxes = list(_boxes(bare)) if "boxed" in bare else []
    if boxes and boxes[-1][:2] == (0, len(bare)):
        return boxes[0][2]
    return None


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
    if text[:1] == "\\":
        text = _ABOUT.sub("", text, count=1) if text.startswith("\\approx") else text
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
