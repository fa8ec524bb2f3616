r"""Where the reasoning of a rewrite ends and its answer begins, in a text without think tags.

A cut lies between two lines, and never in a formula, a box, a table or a fenced block that spans
them. A rewrite of one line or one formula is not cut: it is the reasoning, and its answer stands in
a box behind it.
"""

import re
from itertools import pairwise

from mpd.text.grading.extraction import extract

MAX_DEPTH = 64  # of marks that are open at once; the outer ones of more count for nothing

# A line of one bracket is a formula of which the backslashes were lost.
_MARK = re.compile(
    r"\\(?:begin|end)\s*\{[^{}\n]*\}|\\.|\$\$|\$|```|~~~|[{}]|^[ \t]*[\[\]][ \t]*$|\n",
    re.DOTALL | re.MULTILINE,
)
_CLOSED_BY = {"\\[": "\\]", "\\(": "\\)", "{": "}", "[": "]"}
_OPENED_BY = {close: opening for opening, close in _CLOSED_BY.items()}
_FENCED = re.compile(r"(```|~~~)\w*\n(?P<text>.*)\n\1", re.DOTALL)
_TABLE = re.compile(r"[ \t]*\|")  # the start of a row of a table in Markdown
# A line that only says that the answer follows.
_HEADING = re.compile(
    r"\W*(?:(?:so|thus|hence|therefore)\W+)?(?:the\W+)?(?:final\W+)?(?:answer|result)"
    r"(?:\W+is|\W+in\W+a\W+box)?\W*",
    re.IGNORECASE,
)
# Words beside a box that are no reasoning.
_STOCK = {
    *("so", "thus", "hence", "therefore", "the", "a", "final", "answer", "result"),
    *("is", "it", "we", "get", "have"),
}
MIN_WORDS = 2  # of the reasoning in a rewrite of one line


def split_at_answer(text: str) -> tuple[str, str] | None:
    """Reasoning and answer: the answer begins with the last lines that give the text's answer.

    Of a text of one line or one formula, the reasoning is all of it. None where the text gives no
    answer, or nothing stands before it.
    """
    text = "\n".join(text.strip().splitlines())
    fenced = _FENCED.fullmatch(text)
    if fenced and fenced[1] not in fenced["text"]:
        text = fenced["text"].strip()  # a block that is all of the text is a wrapper
    answer = extract(text, None)
    if answer is None:
        return None
    starts = _block_starts(text)
    for start, stop in reversed(list(pairwise([*starts, len(text)]))):
        if extract(text[start:stop], None) is None:
            continue
        # Several boxes may be the answer together.
        if extract(text[start:], None) == answer:
            if start == 0:
                return _uncut(text, answer)
            start = _with_heading(text, start, starts)
            return text[:start].strip(), text[start:].strip()
    return None


def _uncut(text: str, answer: str) -> tuple[str, str] | None:
    """A text without a place to cut, and its answer; None where no reasoning precedes that."""
    position = text.find("\\boxed") if "\\boxed" in text else text.lower().rfind("answer")
    words = re.findall(r"\w+", text[:position].lower())
    words = [word for word in words if word not in _STOCK]
    answer = answer.removesuffix(".")  # of a sentence
    box = f"\\boxed{{{answer}}}"
    is_whole = len(words) >= MIN_WORDS and extract(box, None) == answer
    return (text, box) if is_whole else None


def _with_heading(text: str, start: int, starts: list[int]) -> int:
    """The start of the answer with the heading before it, if there is one and more before that."""
    before = [place for place in starts if place < start]
    while before and not text[before[-1] : start].strip():
        start = before.pop()
    if len(before) > 1 and _HEADING.fullmatch(text[before[-1] : start]):
        return before[-1]
    return start


def _block_starts(text: str) -> list[int]:
    """The starts of lines at which no formula, box or fenced block of earlier lines is open."""
    spans = _spans(text)
    starts, position, end = [0], 0, 0
    for line in re.finditer("\n", text):
        while position < len(spans) and spans[position][0] < line.end():
            end = max(end, spans[position][1])
            position += 1
        in_table = _TABLE.match(text, line.end()) and _TABLE.match(
            text, text.rfind("\n", 0, line.start()) + 1
        )
        if end < line.end() and not in_table:
            starts.append(line.end())
    return starts


def _spans(text: str) -> list[tuple[int, int]]:
    """Start and end of everything in a text that is opened and closed, in order.

    What is opened and never closed counts for nothing.
    """
    spans = []
    open_marks: list[tuple[str, int]] = []

    def close(opening: str, end: int) -> bool:
        for depth in range(len(open_marks) - 1, -1, -1):
            if open_marks[depth][0] == opening:
                spans.append((open_marks[depth][1], end))
                del open_marks[depth:]
                return True
        return False

    for match in _MARK.finditer(text):
        del open_marks[:-MAX_DEPTH]
        mark, start, end = match.group().strip(" \t"), match.start(), match.end()
        if mark.startswith("\\end"):
            close("\\begin" + mark[len("\\end") :].strip(), end)
        elif mark.startswith("\\begin"):
            open_marks.append(("\\begin" + mark[len("\\begin") :].strip(), start))
        elif mark in _OPENED_BY:
            close(_OPENED_BY[mark], end)
        elif mark in _CLOSED_BY:
            open_marks.append((mark, start))
        elif mark in ("$$", "```", "~~~"):
            if not close(mark, end):
                open_marks.append((mark, start))
        elif mark == "$":
            before, after = text[start - 1 : start], text[end : end + 1]
            # As in Markdown: two amounts of money are no formula.
            is_close = before.strip() and not after.isdigit()
            if is_close and close(mark, end):
                continue
            open_marks = [other for other in open_marks if other[0] != mark]
            if after.strip():
                open_marks.append((mark, start))
        elif mark == "\n" and re.match(r"[ \t]*\n", text[end : end + 100]):
            open_marks = [other for other in open_marks if other[0] != "$"]  # a blank line
    return sorted(spans)
