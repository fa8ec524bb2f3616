"""The final answer of a completion, and the gold answer of a data set."""

import math
import re
from decimal import Decimal

from mpd.store.signs import quoted
from mpd.text.grading.boxes import boxed_answer, whole_box
from mpd.text.grading.notation import canonical_integer, normalise_answer
from mpd.text.grading.statements import stated_answer, without_phrase

MAX_CHARACTERS = 1_000  # of one answer; the longest gold answer of MATH-500 has 53

_HASH = re.compile(r"####+[ \t]*(?:\n[ \t]*)*(.*)")
_HEADING = re.compile(r"[ \t*_:]*(?:the )?(?:final )?answer[ \t*_:]*", re.IGNORECASE)
_FOLLOWS_HASH = re.compile(r"\s*(?:the answer is:?(.*))?\s*", re.IGNORECASE)
_ONE_OF_LIST = re.compile(r"\[\s*(['\"])((?:(?!\1).)*)\1\s*\]")


def extract(text: str, think_close: str | None) -> str | None:
    r"""The final answer of a completion.

    That is the content of the last balanced `\boxed{...}` (of boxes in a box the innermost; empty
    ones do not count), of several side by side all contents separated by commas; else what the last
    line that starts with "Answer:" or the last sentence "The answer is" says. The last number of a
    text is never taken for its answer.

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
        answer = stated_answer(text)
    return answer if answer is not None and len(answer) <= MAX_CHARACTERS else None


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
    answer, end = re.sub(r"[ \t]+#+$", "", mark[1].rstrip()), mark.end()
    answer = answer.rpartition("####")[2].strip()
    if _HEADING.fullmatch(answer):
        answer, _, rest = value[end:].strip().partition("\n")
        end = len(value) - len(rest)
    answer = without_phrase(answer)
    follows = _FOLLOWS_HASH.fullmatch(value, end)
    if follows is None:
        has_words = re.search(r"[A-Za-z]{2}", re.sub(r"\\[A-Za-z]+", "", answer))
        return None if has_words or r"\boxed" in value[end:] else answer
    again = (follows[1] or "").strip()
    if again and not _same_text(answer, again):
        raise ValueError(
            f"gold answer: {answer[:80]!r} after '####', but 'The answer is' {again[:80]!r} below; "
            "correct one of the two"
        )
    return answer


def _same_text(a: str, b: str) -> bool:
    """Whether two answers are the same integer, or the same text but for its look."""
    integer = canonical_integer(a)
    return normalise_answer(a) == normalise_answer(b) or (
        integer is not None and integer == canonical_integer(b)
    )


def _gold_number(value: int | float, form: str) -> str:
    """The gold answer in a cell that is a number."""
    if form in ("hash", "boxed") or not math.isfinite(value):
        raise ValueError(f"gold answer of form {form!r}: found the number {value!r}")
    # Decimal: 1e-05 is no LaTeX.
    return str(int(value)) if value == int(value) else format(Decimal(repr(value)), "f")


def _gold_box(value: str) -> str:
    """The gold answer in the last boxes; "" where there is none."""
    boxed, is_all = boxed_answer(value)
    if not is_all:
        raise ValueError(
            f"gold answer of form 'boxed': several \\boxed{{...}} in one sentence of "
            f"{value[-200:]!r}; put all parts of the answer into one box"
        )
    return boxed or ""


def gold(value: str | int | float, form: str) -> str:
    r"""The gold answer in the answer cell of a data set.

    Args:
        value: the cell. A number stands for itself: 27.0 gives "27".
        form: "plain", the text itself, or the content of the box that is all of it, without
            "Answer:" or the like; "hash", the same of the rest of the line after the last `####`
            that is no heading, without thousands commas;
            "boxed", the content of the last balanced `\boxed{...}`, or of those side by side;
            "auto", the one of hash, boxed, plain whose mark is there.

    Raises:
        ValueError: unknown form, a value that is neither text nor a finite number, no answer, one
            of more than MAX_CHARACTERS, two that differ, or several boxes with words in between,
            of which it is not clear which ones are the answer.
    """
    if form not in ("auto", "plain", "hash", "boxed"):
        raise ValueError(f"gold answer form {form!r}: expected auto, plain, hash or boxed")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _gold_number(value, form)
    if not isinstance(value, str):
        raise ValueError(f"gold answer: expected text or a number, found {quoted(value)}")
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
        answer = _gold_box(value)
        expected = r"balanced, filled \boxed{...}"
    else:
        answer = whole_box(value) or without_phrase(value.strip())
        listed = _ONE_OF_LIST.fullmatch(answer)
        answer = listed[2].strip() if listed else answer
        expected = "text"
    if not answer:
        raise ValueError(f"gold answer of form {form!r}: no {expected} in {value[-200:]!r}")
    if len(answer) > MAX_CHARACTERS:
        raise ValueError(
            f"gold answer of form {form!r}: {len(answer)} characters, more than the "
            f"{MAX_CHARACTERS} that are compared, end with {answer[-80:]!r}; put the answer alone "
            "into the cell, a box, or behind '####'"
        )
    return answer
