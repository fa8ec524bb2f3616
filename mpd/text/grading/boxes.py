r"""Boxes, `\boxed{...}`: their contents, and which of them are the answer together."""

import re
from collections.abc import Iterator

from mpd.text.grading.notation import normalise_answer

# A box may be over-escaped (`\\boxed`). `\{`, `\}` and a line break `\\` open and close nothing.
_BRACES = re.compile(r"\\{1,2}boxed\s*\{|\\{1,2}boxed(?![A-Za-z])\s*|\\[\\{}]|[{}]")
# A box without braces holds the rest of its formula, or else one number, fraction or letter.
_BARE_FORMULA = re.compile(
    r"(?:\\(?!boxed)[A-Za-z]+(?![A-Za-z])|\\[%$,;! ]|[A-Za-z](?![A-Za-z])|[^A-Za-z$\\\n]){1,60}?"
    r"(?=\$|\\\)|\\\])"
)
_BARE = re.compile(
    r"-?\\[dtc]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)"
    r"|-?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+|\\?%)?|-?\\sqrt\s*(?:\{[^{}]*\}|\d)"
    r"|-?\\(?:pi|infty)(?![A-Za-z])"
    r"|\\(?:text|textbf|mathrm|mathbf)\s*\{[^{}]+\}|[A-Za-z](?=\s*(?:\.|,|$))"
)
# What may stand between boxes that are one answer, side by side: marks, or the next item of a list.
_ITEM = r"(?:\n[ \t]*)+(?:[-*+•]|\(?(?:\d{1,2}|[a-z])[.)])[ \t]+"
_BETWEEN = re.compile(
    rf"(?:(?P<item>{_ITEM})|(?P<mark>[,;&]|\\\\|(?:and also|as well as|or else|and|or)(?![A-Za-z])"
    r"|\\(?:text|mbox|mathrm)\s*\{\s*,?\s*(?:and|or)\s*\})"
    r"|[\s$~]|\*\*|__|\\[()\[\];:! ,]|\\q?quad|[A-Za-z](?:_\{?\w+\}?)?\s*&?[=:])*"
)
_GAP = 80  # characters at most between two boxes that are side by side
# What of the formula around a box belongs to its content: -\boxed{5}, \boxed{3}\sqrt{2}.
_MINUS = re.compile(r"(?:[$=(\[,&]|\\[(\[])\s*-\s*$|(?:^|[\n:]\s*|[a-z]{2}\s)-$")
_FACTOR = re.compile(
    r"\s*(?:\\sqrt\s*(?:\{[^{}]*\}|\d)|\\pi(?![A-Za-z])|\^\s*(?:\{[^{}]*\}|\w)|!)+"
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
            bare = _BARE_FORMULA.match(text, token.end()) or _BARE.match(text, token.end())
            if bare and bare[0].strip(" .,"):
                yield token.start(), bare.end(), bare[0].strip()


def last_box(text: str) -> str | None:
    r"""The content of the box that opens last of those that are balanced and not empty.

    A box is `\boxed{...}`, or `\boxed` before a number, fraction, letter or the rest of a formula.
    One pass: linear in the length of the text.
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
    by commas: "$x = \boxed{2}$ or $x = \boxed{-4}$" gives "2, -4", and so do the items of a list
    that are boxes. It is not sure where the last sentence has another box, with other words in
    between.
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
    answers = [_with_neighbours(text, flat[-1])]
    for box, (start, _, _) in zip(flat[-2::-1], flat[:0:-1], strict=True):
        gap = text[box[1] : start]
        between = _BETWEEN.fullmatch(gap) if len(gap) <= _GAP else None
        is_item = between is not None and between["item"] is not None
        apart = between is None or ("\n" in gap and not (between["mark"] or is_item))
        if apart or ("\n\n" in gap and not is_item):
            same_sentence = not re.search(r"\n|[.!?:;]\s", gap)
            return _joined(answers), not same_sentence or box[2] == answers[-1]
        answers.append(_with_neighbours(text, box))
    return _joined(answers), True


def _with_neighbours(text: str, box: tuple[int, int, str]) -> str:
    """The content of a box, with the minus before it and the factor behind it."""
    start, end, content = box
    factor = _FACTOR.match(text, end)
    if factor:
        content = content if re.fullmatch(r"\w+", content) else f"({content})"
        content += factor[0].strip()
    if _MINUS.search(text, max(0, start - 20), start):
        content = f"-{content}" if re.fullmatch(r"[\w\\{}.,!^]+", content) else f"-({content})"
    return content


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
