"""The final answer of a completion, and the gold answer of a data set."""

import math
import re
from decimal import Decimal

from mpd.text.grading.notation import boxed_answer, canonical_integer, normalise_answer, whole_box

MAX_CHARACTERS = 1_000  # of one answer; the longest gold answer of MATH-500 has 53

# What stands before "answer" at the start of a line: marks, emoji, and a conclusion's first word.
_START = r"^(?:[^\w\n]|_){0,80}(?:(?:so|thus|hence|therefore)[ \t]*,?[ \t]*)?"
_ANSWER_LINE = re.compile(
    rf"{_START}(?:the[ \t]+)?(?:final[ \t]+)?answer[ \t*_`]*:(.*)$"
    rf"|(?:{_START}|(?<=[.!?:] ))(?:so|thus|hence|therefore)?[ \t,]*the[ \t]+"
    r"(?:final[ \t]+answer[ \t]+is\b[ \t]*:?|answer[ \t]+is[ \t]*:)(.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_IS = re.compile(r"[ \t*_`]*the[ \t]+(?:final[ \t]+)?answer[ \t]+is\b:?", re.IGNORECASE)
_HOPE = re.compile(r"[.!]?[ \t]+I hope (?:it|this)(?: is|'s| helps)\b.*$", re.IGNORECASE)
_ENDING = re.compile(r"(?:[\s*`\u2700-\u27bf\ufe0f\U0001f000-\U0001faff]|(?<=[*`])\.)+$")
_FORMULA = re.compile(r"(\$[^$]+\$)\.(?:[ \t][^$\d]*)?")
_HASH = re.compile(r"####+[ \t]*\n?(.*)")
_FOLLOWS_HASH = re.compile(r"\s*(?:the answer is:?(.*))?\s*", re.IGNORECASE)


def extract(text: str, think_close: str | None) -> str | None:
    r"""The final answer of a completion.

    That is the content of the last balanced `\boxed{...}` (of boxes in a box the innermost; empty
    ones do not count), of several side by side all contents separated by commas; else the rest of
    the last line that starts with "Answer:" or of the last sentence "The final answer is". The last
    number of a text is never taken for its answer.

    Args:
        text: the completion.
        think_close: what ends the thinking, such as "</think>": only what follows its last
            occurrence counts. None where the format has no thinking part.

    Returns:
        The answer, or None: the thinking has no end, no answer is marked, or it is longer than
        MAX_CHARACTERS.
    """
    if think_close is not None:
        _, close, text = text.rpartition(think_close)
        if not close:
            return None
    answer, _ = boxed_answer(text)
    if answer is None:
        lines = [_stated(line or sentence) for line, sentence in _ANSWER_LINE.findall(text)]
        answer = next((line for line in reversed(lines) if line), None)
    return answer if answer is not None and len(answer) <= MAX_CHARACTERS else None


def _stated(line: str) -> str:
    """The answer in what follows "Answer:" or "The final answer is"."""
    line = _HOPE.sub("", _IS.sub("", line, count=1)).strip(" \t\r*`")
    line = _ENDING.sub("", line)
    if line.count("**") == 1:  # the other one stood at an end
        line = line.replace("**", "")
    formula = _FORMULA.fullmatch(line)
    return formula[1] if formula else line


def _hash_answer(value: str) -> str | None:
    """What follows the last `####`, in its line or else the next; None where that is a heading.

    A heading has words and is followed by text; the answer is followed by nothing, or by "The
    answer is:" and the same answer again.
    """
    mark = None
    for match in _HASH.finditer(value):
        mark = match
    if mark is None:
        return None
    answer = mark[1].rpartition("####")[2].strip()
    follows = _FOLLOWS_HASH.fullmatch(value, mark.end())
    if follows is None:
        has_words = re.search(r"[A-Za-z]{2}", re.sub(r"\\[A-Za-z]+", "", answer))
        return None if has_words or r"\boxed" in value[mark.end() :] else answer
    again = (follows[1] or "").strip()
    return None if again and not _same_text(answer, again) else answer


def _same_text(a: str, b: str) -> bool:
    """Whether two answers are the same integer, or the same text but for its look."""
    integer = canonical_integer(a)
    return normalise_answer(a) == normalise_answer(b) or (
        integer is not None and integer == canonical_integer(b)
    )


def gold(value: str | int | float, form: str) -> str:
    r"""The gold answer in the answer cell of a data set.

    Args:
        value: the cell. A number stands for itself: 27.0 gives "27".
        form: "plain", the text itself, or the content of the box that is all of it; "hash", the
            rest of the line after the last `####` that is no heading, without thousands commas;
            "boxed", the content of the last balanced `\boxed{...}`, or of those side by side;
            "auto", the one of hash, boxed, plain whose mark is there.

    Raises:
        ValueError: unknown form, a value that is neither text nor a finite number, no answer, or
            several boxes with words in between, of which it is not clear which ones are the answer.
    """
    if form not in ("auto", "plain", "hash", "boxed"):
        raise ValueError(f"gold answer form {form!r}: expected auto, plain, hash or boxed")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if form in ("hash", "boxed") or not math.isfinite(value):
            raise ValueError(f"gold answer of form {form!r}: found the number {value!r}")
        # Decimal: 1e-05 is no LaTeX.
        return str(int(value)) if value == int(value) else format(Decimal(repr(value)), "f")
    if not isinstance(value, str):
        raise ValueError(f"gold answer: expected text or a number, found {value!r}")
    if form == "auto":
        hash_answer = _hash_answer(value)
        form = "boxed" if r"\boxed" in value else "hash" if "####" in value else "plain"
        form = "hash" if hash_answer else form
    if form == "hash":
        answer = _hash_answer(value) or ""
        answer = (canonical_integer(answer) if "," in answer else None) or answer
        answer = whole_box(answer) or answer
        expected = "text after '####'"
    elif form == "boxed":
        boxed, is_all = boxed_answer(value)
        answer = boxed or ""
        expected = r"balanced, filled \boxed{...}"
        if not is_all:
            raise ValueError(
                f"gold answer of form {form!r}: several \\boxed{{...}} in one sentence of "
                f"{value[-200:]!r}; put all parts of the answer into one box"
            )
    else:
        answer = whole_box(value) or value.strip()
        expected = "text"
    if not answer:
        raise ValueError(f"gold answer of form {form!r}: no {expected} in {value[-200:]!r}")
    return answer
