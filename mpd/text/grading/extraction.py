"""The final answer of a completion, and the gold answer of a data set."""

import math
import re
from decimal import Decimal

from mpd.text.grading.notation import canonical_integer, last_box

MAX_CHARACTERS = 1_000  # of one answer; the longest gold answer of MATH-500 has 53

_ANSWER_LINE = re.compile(
    r"^[ \t>#*_`-]*(?:the[ \t]+)?(?:final[ \t]+)?answer[ \t*_`]*:(.*)$",
    re.IGNORECASE | re.MULTILINE,
)


def extract(text: str, think_close: str | None) -> str | None:
    r"""The final answer of a completion.

    That is the content of the last balanced `\boxed{...}` (of boxes in a box the innermost; empty
    ones do not count), else the rest of the last line that starts with "Answer:". The last number
    of a text is never taken for its answer.

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
    answer = last_box(text)
    if answer is None:
        lines = [line.strip(" \t\r*`") for line in _ANSWER_LINE.findall(text)]
        answer = next((line for line in reversed(lines) if line), None)
    return answer if answer is not None and len(answer) <= MAX_CHARACTERS else None


def gold(value: str | int | float, form: str) -> str:
    r"""The gold answer in the answer cell of a data set.

    Args:
        value: the cell. A number stands for itself: 27.0 gives "27".
        form: "plain", the text itself; "hash", what follows the last `####`, without thousands
            commas; "boxed", the content of the last balanced `\boxed{...}`; "auto", the one of
            hash, boxed, plain whose mark is there.

    Raises:
        ValueError: unknown form, a value that is neither text nor a finite number, or no answer.
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
        form = "hash" if "####" in value else "boxed" if r"\boxed" in value else "plain"
    if form == "hash":
        _, mark, answer = value.rpartition("####")
        answer = answer.strip() if mark else ""
        answer = (canonical_integer(answer) if "," in answer else None) or answer
        expected = "text after '####'"
    elif form == "boxed":
        answer = last_box(value) or ""
        expected = r"balanced, filled \boxed{...}"
    else:
        answer = value.strip()
        expected = "text"
    if not answer:
        raise ValueError(f"gold answer of form {form!r}: no {expected} in {value[-200:]!r}")
    return answer
