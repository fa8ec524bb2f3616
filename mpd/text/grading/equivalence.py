"""Whether an answer and a gold answer are the same: by their texts, by integers, by mathematics."""

from mpd.text.grading.extraction import MAX_CHARACTERS
from mpd.text.grading.notation import canonical_integer, last_box, normalise_answer


def verify_integer(gold: str, answer: str) -> bool | None:
    """Whether two integers are equal; None where one of the two is not written as an integer."""
    gold_integer, answer_integer = canonical_integer(gold), canonical_integer(answer)
    if gold_integer is None or answer_integer is None:
        return None
    return gold_integer == answer_integer


def verdict_by_text(gold: str, answer: str | None) -> str | None:
    """The verdict ("correct", "wrong", "none", "unparsed"), or None if it takes mathematics."""
    if answer is None:
        return "none"
    if max(len(gold), len(answer)) > MAX_CHARACTERS:
        return "unparsed"
    equal = verify_integer(gold, answer)
    if equal is not None:
        return "correct" if equal else "wrong"
    gold, answer = normalise_answer(gold), normalise_answer(answer)
    if not gold or not answer:
        return "unparsed"
    if gold == answer:
        return "correct"
    # math-verify would read "5} + 3" in a box as 5.
    if any(last_box(rf"\boxed{{{text}}}") != text for text in (gold, answer)):
        return "unparsed"
    return None


def verdict_by_mathematics(gold: str, answer: str) -> str:
    """math-verify's verdict: "correct", "wrong", or "unparsed" where one of the two has no reading.

    It may never end or take all memory: call it in a process that can be killed.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    # Read the box as a whole or not at all: any other setting lets math-verify pick a part of the
    # answer, down to its last number, where the whole does not parse.
    config = [LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)]
    readings = [
        parse(
            rf"\boxed{{{normalise_answer(text)}}}",
            config,
            extraction_mode="first_match",
            parsing_timeout=None,
        )
        for text in (gold, answer)
    ]
    try:
        equal = verify(*readings, timeout_seconds=None, raise_on_error=True)
    except (MemoryError, RecursionError):
        return "unparsed"
    except Exception:  # SymPy refuses to compare the two kinds of objects
        equal = False
    if equal:
        return "correct"
    # A reading holds the expression, if there is one, and then the text.
    parsed = all(any(not isinstance(item, str) for item in reading) for reading in readings)
    return "wrong" if parsed else "unparsed"
