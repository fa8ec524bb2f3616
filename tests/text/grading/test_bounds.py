"""What is too long, too deep or too large to be compared: decided without the clock."""

import pytest

from mpd.text.grading.bounds import (
    MAX_BARS,
    MAX_BITS,
    MAX_DEPTH,
    MAX_FACTORIAL,
    MAX_PARSED,
    MAX_ROOT,
    MAX_TERMS,
    MAX_UNIONS,
    is_too_complex,
)
from mpd.text.grading.grader import Grader


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("x" * MAX_PARSED, "x"),
        ("(" * MAX_DEPTH, "("),
        (r"\{[(" * (MAX_DEPTH // 3) + "(", "("),
        ("|" * MAX_BARS, "|"),
        (r"\cup" * (MAX_UNIONS - 1) + "∩", "∪"),
    ],
)
def test_a_text_is_too_complex_from_one_more_on(text, more):
    assert not is_too_complex(text)
    assert is_too_complex(text + more)


def test_brackets_side_by_side_are_not_deep():
    assert not is_too_complex("(1)" * 100)
    assert not is_too_complex(")" * 100 + "(" * MAX_DEPTH)


LARGE = [
    "9^{9^{9^9}}",
    f"x + 2^{{{MAX_BITS}}}",
    rf"(\frac{{3}}{{7}})^{{{MAX_BITS}}} + x",
    "1.5^{99999999}",
    f"x + {MAX_FACTORIAL + 1}!",
    r"\binom{999999999}{99999999}",
    rf"x + \sqrt[{MAX_ROOT + 1}]{{{'7' * 300}}}",
    r"\sqrt{10^{9999}+1}-\sqrt{10^{9999}}",
    f"(x+1)^{{{MAX_TERMS}}}",
    "(x+y+z+w)^{300}(x+y+z+w+1)^{300}",
    r"\binom{x}{100000}",
    r"e^{e^{e^{e^{e}}}}",
    r"\frac{1}{" * 80 + "2" + "}" * 80,
    "(" * 400 + "x" + ")" * 400,
    "+".join(f"x_{{{number}}}" for number in range(80)),
]


def test_what_is_too_large_is_unparsed_long_before_the_clock():
    with Grader(deadline=60, num_workers=2) as grader:
        assert grader.grade(["x+1"] * len(LARGE), LARGE) == ["unparsed"] * len(LARGE)
        assert grader.grade(LARGE, ["x+1"] * len(LARGE)) == ["unparsed"] * len(LARGE)


def test_a_power_of_a_unit_fraction_is_as_large_as_that_of_its_denominator():
    with Grader() as grader:  # it took 17 s
        power = rf"(\frac{{1}}{{{'9' * 300}}})^{{{MAX_BITS - 1}}}"
        assert grader.grade(["0.5"], [power]) == ["unparsed"]


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("2^{2025}-1", "2^{2025}+1-2"),
        (r"\frac{20!}{10!}x", r"\frac{x20!}{10!}"),
        (r"\binom{100}{50}+x", r"x+\binom{100}{50}"),
        (r"\sqrt{2+\sqrt{2+\sqrt{2}}}", r"(2+\sqrt{2+\sqrt{2}})^{1/2}"),
        (r"\binom{n}{3}", r"\frac{n(n-1)(n-2)}{6}"),
        ("(x+1)^{30}(x-1)^{30}", "(x^2-1)^{30}"),
        (r"\left(1+\sqrt{2}\right)^{12}", r"19601+13860\sqrt{2}"),
    ],
)
def test_what_people_write_is_within_the_bounds(gold, answer):
    with Grader(deadline=60) as grader:
        assert grader.grade([gold], [answer]) == ["correct"]
