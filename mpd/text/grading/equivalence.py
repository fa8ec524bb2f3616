"""Whether an answer and a gold answer are the same: by their texts, exactly, by mathematics.

Small exact rules come first, where they are certain; math-verify decides only what they leave.
"""

import re

from mpd.text.grading.boxes import last_box, whole_box
from mpd.text.grading.exact import same_number
from mpd.text.grading.extraction import MAX_CHARACTERS
from mpd.text.grading.labels import (
    brackets_differ,
    choice,
    clock_time,
    is_misread,
    scaled,
    without_text_commands,
    without_unit,
    words_differ,
)
from mpd.text.grading.notation import canonical_integer, normalise_answer
from mpd.text.grading.numerals import read_number
from mpd.text.grading.spelling import to_latex

# Two numbers side by side, which math-verify would multiply: 1 2 3 as 6.
_SIDE_BY_SIDE = re.compile(
    r"(?<!frac )(?<!binom )(?<!sqrt )(?<!frac)(?<!binom)(?<![\d.,_^])\d(?:\d|[.,]\d)* +\d"
)
_BASE = re.compile(r"([0-9A-Za-z]+)_(?:\{ ?(?:\\text\{)?(\d+)\}{1,2}|(\d))")


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
    equal = verify_integer(gold, answer)
    currencies = not (gold.isascii() and answer.isascii()) and words_differ(gold, answer)
    if equal is not None:
        return "correct" if equal and not currencies else "wrong"
    pair = normalise_answer(gold), normalise_answer(answer)
    if not all(pair):
        return "unparsed"
    if currencies:
        return "wrong"
    if pair[0] == pair[1]:
        return "correct"
    # math-verify would read "5} + 3" in a box as 5.
    if any(last_box(rf"\boxed{{{text}}}") != text for text in pair):
        return "unparsed"
    equal = _same_choice(*pair)
    if equal is None:
        equal = _same_exactly(*pair)
    if equal is not None:
        return "correct" if equal else "wrong"
    if any(_SIDE_BY_SIDE.search(to_latex(text)) or is_misread(text) for text in pair):
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


def _same_exactly(gold: str, answer: str) -> bool | None:
    """Whether two answers are the same time, or number; None where these do not decide.

    Texts whose words contradict each other are not the same.
    """
    times = clock_time(gold), clock_time(answer)
    if all(times) or any(time is not None and time[2] for time in times):
        return times[0] == times[1]
    plain = without_text_commands(gold), without_text_commands(answer)
    if plain[0] == plain[1]:
        return True
    if (
        any("\\text" in text for text in (gold, answer))
        and plain[0].casefold() == plain[1].casefold()
    ):
        return bool(re.fullmatch("[A-Za-z ]+", plain[0])) or None
    (gold_count, scale), (answer_count, answer_scale) = scaled(gold), scaled(answer)
    if scale != 1 or answer_scale != 1:
        counts = read_number(gold_count), read_number(answer_count)
        if counts[0] is not None and counts[1] is not None:
            return counts[0].value * scale == counts[1].value * answer_scale
    if words_differ(gold, answer) or brackets_differ(gold, answer):
        return False
    bases = _BASE.fullmatch(gold), _BASE.fullmatch(answer)
    if bases[0] and bases[1]:
        (digits, *base), (other_digits, *other_base) = bases[0].groups(), bases[1].groups()
        return digits == other_digits and (base[0] or base[1]) == (other_base[0] or other_base[1])
    numbers = read_number(without_unit(gold)), read_number(without_unit(answer))
    if numbers[0] is not None and numbers[1] is not None:
        return same_number(numbers[0], numbers[1])
    return _same_list(gold, answer)


def _same_list(gold: str, answer: str) -> bool | None:
    """False for lists of exact numbers of which one has another number, or one more often."""
    lists = [[read_number(part.strip()) for part in text.split(",")] for text in (gold, answer)]
    values = [[n.value for n in numbers if n is not None and not n.decimal] for numbers in lists]
    if any(len(value) < len(numbers) for value, numbers in zip(values, lists, strict=True)):
        return None
    return None if sorted(values[0]) == sorted(values[1]) else False


def verdict_by_mathematics(gold: str, answer: str) -> str:
    """math-verify's verdict: "correct", "wrong", or "unparsed" where one of the two has no reading.

    It may never end or take all memory: call it in a process that can be killed.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    from mpd.text.grading.symbolic import use_exact_comparison, with_one_imaginary_unit

    use_exact_comparison()
    # Read the box as a whole or not at all: any other setting lets math-verify pick a part of the
    # answer, down to its last number, where the whole does not parse.
    config = [LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)]
    readings = with_one_imaginary_unit(
        [
            parse(
                rf"\boxed{{{to_latex(normalise_answer(text)).strip()}}}",
                config,
                extraction_mode="first_match",
                parsing_timeout=None,
            )
            for text in (gold, answer)
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
    # A reading holds the expression, if there is one, and then the text.
    parsed = all(any(not isinstance(item, str) for item in reading) for reading in readings)
    return "wrong" if parsed else "unparsed"
