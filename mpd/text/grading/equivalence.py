"""Whether an answer and a gold answer are the same: by their texts, exactly, by mathematics.

Small exact rules come first, where they are certain; math-verify decides only what they leave.
"""

import re

from mpd.text.grading.bounds import Refusals, bound_sympy, is_too_complex
from mpd.text.grading.boxes import last_box, whole_box
from mpd.text.grading.exact import same_number
from mpd.text.grading.extraction import MAX_CHARACTERS
from mpd.text.grading.forms import (
    date_verdict,
    in_one_form,
    same_numeral,
    same_percent,
    same_ratio,
)
from mpd.text.grading.labels import (
    brackets_differ,
    choice,
    clock_time,
    is_misread,
    same_words,
    vertices_differ,
)
from mpd.text.grading.notation import canonical_integer, normalise_answer
from mpd.text.grading.numerals import read_number
from mpd.text.grading.spelling import to_latex
from mpd.text.grading.units import quantities, scaled, signs_differ, without_units, words_differ

# Two numbers side by side, which math-verify would multiply: 1 2 3 as 6.
_SIDE_BY_SIDE = re.compile(
    r"(?<!frac )(?<!binom )(?<!sqrt )(?<!frac)(?<!binom)(?<![\d.,_^])\d(?:\d|[.,]\d)* +\d"
)
_SIGN = re.compile("[^\\x00-\\x7f]|[%$]")
_STRUCK = re.compile(r"\s*~~.*~~\s*", re.DOTALL)  # crossed out, in Markdown


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
    gold, answer = (whole_box(text) or text if "boxed" in text else text for text in (gold, answer))
    equal = None if "~~" in gold + answer else verify_integer(gold, answer)
    signs = [_SIGN.search(text) for text in (gold, answer)]
    if equal or (equal is False and ("%" in gold) == ("%" in answer)):
        return "correct" if equal and not (all(signs) and signs_differ(gold, answer)) else "wrong"
    pair = normalise_answer(gold), normalise_answer(answer)
    if not all(pair) or any(_STRUCK.fullmatch(text) for text in (gold, answer)):
        return "unparsed"
    if any(signs) and signs_differ(gold, answer):
        return "wrong"
    if pair[0] == pair[1]:
        return "correct"
    # math-verify would read "5} + 3" in a box as 5.
    if any(last_box(rf"\boxed{{{text}}}") != text for text in pair):
        return "unparsed"
    equal = _same_choice(*pair)
    if equal is not None:
        return "correct" if equal else "wrong"
    verdict = _verdict_by_form(*pair)
    if verdict is not None:
        return verdict
    if any(map(is_too_complex, pair)):
        return "unparsed"
    if any(_SIDE_BY_SIDE.search(to_latex(text)) or is_misread(to_latex(text)) for text in pair):
        return "unparsed"
    return None


def _same_choice(gold: str, answer: str) -> bool | None:
    """Whether two answers are the same choice; None where the rules of choices do not decide."""
    gold_choice, answer_choice = choice(gold), choice(answer)
    if gold_choice is None and answer_choice is None:
        return None
    if gold_choice is None or answer_choice is None:
        content = (gold_choice or answer_choice or ("", ""))[1]
        other = answer if answer_choice is None else gold
        if not content:
            return None
        return verdict_by_text(other, content) == "correct" or None
    if gold_choice[0] != answer_choice[0]:
        return False
    contents = gold_choice[1], answer_choice[1]
    return True if not all(contents) else verdict_by_text(*contents) == "correct"


def _verdict_by_form(gold: str, answer: str) -> str | None:
    """The verdict on two answers by small exact rules; None where these do not decide."""
    verdict = date_verdict(gold, answer)
    if verdict is not None:
        return verdict
    times = clock_time(gold), clock_time(answer)
    if all(times) or (any(times) and "=" not in gold + answer):
        if not all(times) and not any(time[2] for time in times if time):
            return "unparsed"
        return "correct" if times[0] == times[1] else "wrong"
    for rule in (same_words, _same_scaled, _same_quantities, _words_agree, same_numeral,
                 same_percent, same_ratio, _same_number, _same_list):  # fmt: skip
        equal = rule(gold, answer)
        if equal is not None:
            return "correct" if equal else "wrong"
    if vertices_differ(gold, answer) or in_one_form(gold, answer) is None:
        return "unparsed"
    return None


def _same_scaled(gold: str, answer: str) -> bool | None:
    """Whether 3 million dollars are a number with the same unit, or none."""
    values = scaled(gold), scaled(answer)
    if not any(values):
        return None
    plain = [
        f"0 {value[1]}" if value else text
        for value, text in zip(values, (gold, answer), strict=True)
    ]
    if words_differ(*plain):
        return False
    numbers = [value[0] if value else None for value in values]
    for this, text in ((0, gold), (1, answer)):
        if numbers[this] is None:
            number = read_number(without_units(text, "")[0].replace("\\$", "").strip())
            numbers[this] = number.value if number else None
    return None if None in numbers else numbers[0] == numbers[1]


def _same_quantities(gold: str, answer: str) -> bool | None:
    """Whether the parts of two quantities, 5 ft 3 in, are the same; None where one has no parts."""
    parts = quantities(gold), quantities(answer)
    return parts[0] == parts[1] if all(parts) else None


def _words_agree(gold: str, answer: str) -> bool | None:
    """False for answers whose words or brackets contradict each other; else None."""
    return False if words_differ(gold, answer) or brackets_differ(gold, answer) else None


def _same_number(gold: str, answer: str) -> bool | None:
    """Whether two numbers are equal; None where one of the two is none."""
    gold, answer = without_units(gold, answer)
    numbers = read_number(gold), read_number(answer)
    if numbers[0] is None or numbers[1] is None:
        return None
    return same_number(numbers[0], numbers[1])


def _same_list(gold: str, answer: str) -> bool | None:
    """False for lists of exact numbers of which one has another number, or one more often."""
    lists = [[read_number(part.strip()) for part in text.split(",")] for text in (gold, answer)]
    values = [[n.value for n in numbers if n is not None and not n.decimal] for numbers in lists]
    if any(len(value) < len(numbers) for value, numbers in zip(values, lists, strict=True)):
        return None
    return None if sorted(values[0]) == sorted(values[1]) else False


def verdict_by_mathematics(gold: str, answer: str) -> str:
    """math-verify's verdict: "correct", "wrong", or "unparsed".

    That is where one of the two has no reading, or what would have to be computed is too large.
    It may still never end or take all memory: call it in a process that can be killed.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    from mpd.text.grading.symbolic import use_exact_comparison, with_one_imaginary_unit

    use_exact_comparison()
    bound_sympy()
    refusals = Refusals.count
    pair = without_units(normalise_answer(gold), normalise_answer(answer))
    texts = in_one_form(*pair)
    if texts is None:
        return "unparsed"
    # Read the box as a whole or not at all: any other setting lets math-verify pick a part of the
    # answer, down to its last number, where the whole does not parse.
    config = [LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)]
    readings = with_one_imaginary_unit(
        [
            parse(
                rf"\boxed{{{to_latex(text).strip()}}}",
                config,
                extraction_mode="first_match",
                parsing_timeout=None,
            )
            for text in texts
        ]
    )
    try:
        equal = verify(*readings, timeout_seconds=None, raise_on_error=True)
    except (MemoryError, RecursionError):
        return "unparsed"
    except Exception:  # SymPy refuses to compare the two kinds of objects
        equal = False
    if equal:
        return "correct"
    if Refusals.count > refusals:
        return "unparsed"
    # A reading holds the expression, if there is one, and then the text.
    parsed = all(any(not isinstance(item, str) for item in reading) for reading in readings)
    return "wrong" if parsed else "unparsed"
