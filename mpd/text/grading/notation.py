r"""How answers are written: boxes, integers, and what LaTeX adds without changing a meaning."""

import re

# A box may be over-escaped (`\\boxed`). `\{`, `\}` and a line break `\\` open and close nothing.
_BRACES = re.compile(r"\\{1,2}boxed\s*\{|\\[\\{}]|[{}]")
# Math delimiters, and the negative space with which LaTeX closes the gap after a comma: 10,\!080.
_INVISIBLE = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])|\\!\s*")
_FULL_STOP = re.compile(r"(?<!\.)(?<!\\right)(?<!\\right ) ?\.$")
_INTEGER = re.compile(
    r"(?:\\\$ ?)?([+-]?) ?(?:\\\$ ?)?"
    r"([1-9][0-9]{0,2}(?:(?:,|\{,\}|\\,)[0-9]{3})+|[0-9]+)"
    r"(?:\.0*)? ?(?:\\?%)?"
)


def last_box(text: str) -> str | None:
    r"""The content of the `\boxed{...}` that opens last of those that are balanced and not empty.

    One pass: linear in the length of the text.
    """
    open_braces: list[tuple[int, bool]] = []  # where the content starts, and whether it is a box's
    last_start, content = -1, None
    for token in _BRACES.finditer(text):
        if token[0] == "}":
            start, is_box = open_braces.pop() if open_braces else (-1, False)
            inside = text[start : token.start()].strip() if is_box and start > last_start else ""
            if inside:
                last_start, content = start, inside
        elif token[0] == "{" or "boxed" in token[0]:
            open_braces.append((token.end(), token[0] != "{"))
    return content


def normalise_answer(text: str) -> str:
    """The text without what changes its look and not its meaning."""
    text = _INVISIBLE.sub("", text.replace("\N{MINUS SIGN}", "-").replace("~", " "))
    return _FULL_STOP.sub("", " ".join(text.split()))


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
