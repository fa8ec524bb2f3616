r"""Where the reasoning of a rewrite ends and its answer begins, in a text without think tags.

A cut lies between two lines, and never in a formula, a box or a fenced block that spans them.
"""

import re
from itertools import pairwise

from mpd.text.grading.extraction import extract

MAX_DEPTH = 64  # of marks that are open at once; the outer ones of more count for nothing

_MARK = re.compile(r"\\(?:begin|end)\s*\{[^{}\n]*\}|\\.|\$\$|\$|```|[{}]|\n", re.DOTALL)
_CLOSED_BY = {"\\[": "\\]", "\\(": "\\)", "{": "}"}
_OPENED_BY = {close: opening for opening, close in _CLOSED_BY.items()}


def split_at_answer(text: str) -> tuple[str, str] | None:
    """Reasoning and answer: the answer begins with the last lines that give the text's answer.

    None where the text gives no answer, or nothing stands before it.
    """
    text = "\n".join(text.strip().splitlines())
    answer = extract(text, None)
    if answer is None:
        return None
    for start, stop in reversed(list(pairwise([*_block_starts(text), len(text)]))):
        if extract(text[start:stop], None) is None:
            continue
        # Several boxes may be the answer together.
        if extract(text[start:], None) == answer:
            parts = text[:start].strip(), text[start:].strip()
            return parts if all(parts) else None
    return None


def _block_starts(text: str) -> list[int]:
    """The starts of lines at which no formula, box or fenced block of earlier lines is open."""
    spans = _spans(text)
    starts, position, end = [0], 0, 0
    for line in re.finditer("\n", text):
        while position < len(spans) and spans[position][0] < line.end():
            end = max(end, spans[position][1])
            position += 1
        if end < line.end():
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
        mark, start, end = match.group(), match.start(), match.end()
        if mark.startswith("\\end"):
            close("\\begin" + mark[len("\\end") :].strip(), end)
        elif mark.startswith("\\begin"):
            open_marks.append(("\\begin" + mark[len("\\begin") :].strip(), start))
        elif mark in _OPENED_BY:
            close(_OPENED_BY[mark], end)
        elif mark in _CLOSED_BY:
            open_marks.append((mark, start))
        elif mark in ("$$", "```"):
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
