"""Whether an answer and a gold answer are the same."""

import json
from pathlib import Path

import pytest

from mpd.text.grading.equivalence import verify_integer
from mpd.text.grading.extraction import MAX_CHARACTERS, gold
from mpd.text.grading.grader import Grader
from tests.text.grading import pairs

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="real problem sets are not here")


@pytest.fixture(scope="module")
def grader():
    with Grader(deadline=60) as grader:
        yield grader


@pytest.mark.parametrize(
    ("expected", "answer", "equal"),
    [
        ("4", "4", True),
        ("4", "5", False),
        ("007", "7", True),
        ("000", "0", True),
        ("-0", "0", True),
        ("7", "+7", True),
        ("7", "-7", False),
        ("-7", "- 7", True),
        ("-7", "−7", True),
        ("1,234", "1234", True),
        ("1234", "1{,}234", True),
        ("10,\\!080", "10080", True),
        ("11,\\! 111,\\! 111,\\! 100", "11111111100", True),
        ("1234", r"1\,234", True),
        (r"\$32,\!348", "32348", True),
        ("36", "$36", True),
        ("36", r"\$36", True),
        ("-36", r"-\$36", True),
        ("36", "$36$", True),
        ("36", "$$ 36. $$", True),
        ("36", r"\(36\)", True),
        ("50", "50%", True),
        ("50", r"$50\%$", True),
        ("27", "27.", True),
        ("27", "27.00", True),
        ("27", "27.000", True),
        ("1" * 5_000, "0" + "1" * 5_000, True),
        ("-2,1", "21", None),
        ("21", "-2,1", None),
        ("1,2345", "12345", None),
        ("0,123", "123", None),
        ("1234,567", "1234567", None),
        ("1, 234", "1234", None),
        ("1 234", "1234", True),
        ("1 234 567", "1234567", True),
        (r"1\ 234\;567", "1234567", True),
        ("1~234", "1234", True),
        ("1 23", "123", None),
        ("1 2345", "12345", None),
        ("0 123", "123", None),
        ("27.5", "27", None),
        ("27", "27..", None),
        ("27", "27 apples", None),
        ("٣", "3", None),
        ("", "3", None),
        ("$", "$", None),
        ("x", "x", None),
    ],
)
def test_verify_integer(expected, answer, equal):
    assert verify_integer(expected, answer) is equal


CASES = [
    # answers that need no mathematics
    ("4", None, "none"),
    (r"\frac{1}{2}", None, "none"),
    ("4", "4.0", "correct"),
    ("4", "5", "wrong"),
    (r"\text{(C)}", r"\text{(C)}", "correct"),
    ("x+1", r"\(x+1\).", "correct"),
    ("x", "", "unparsed"),
    ("x", "$$", "unparsed"),
    ("x", "y" * (MAX_CHARACTERS + 1), "unparsed"),
    ("5", "5} + 3", "unparsed"),
    ("5", "{5", "unparsed"),
    # fractions and decimals
    (r"\frac{1}{2}", "0.5", "correct"),
    (r"\frac{1}{2}", "1/2", "correct"),
    (r"\frac{1}{2}", r"\dfrac{2}{4}", "correct"),
    (r"\frac{1}{2}", "-1/2", "wrong"),
    ("-1/2", "−1/2", "correct"),
    (r"\frac 59", "5/9", "correct"),
    (r"1\frac{4}{5}", r"\frac{9}{5}", "correct"),
    (r"1\frac{4}{5}", r"\frac{4}{5}", "wrong"),
    (".35625", "0.35625", "correct"),
    (r"\frac{1}{3}", "0.33", "wrong"),
    ("1,234.5", "1234.5", "correct"),
    ("0.5", r"50\%", "correct"),
    (r"\sqrt{51}", r"\sqrt{50}", "wrong"),
    (r"11\sqrt2", r"11\sqrt{2}", "correct"),
    ("1024", "2^{10}", "correct"),
    (r"\frac{3}{4}", r"\frac34", "correct"),
    (r"\frac{3}{4}", r"\tfrac{3}{4}", "correct"),
    (r"-\frac{3}{4}", r"\frac{3}{-4}", "correct"),
    (r"\frac{2}{3}", "0.6667", "wrong"),
    ("7", r"\frac{14}{2}", "correct"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", "correct"),
    (r"2\pi", "6.28", "wrong"),
    (r"\log_2 8", "3", "correct"),
    ("10", r"\binom{5}{2}", "correct"),
    ("2^{100}", "1267650600228229401496703205376", "correct"),
    ("2^{100}", "1267650600228229401496703205377", "wrong"),
    # percent: of an integer the sign may be left out, and a share is what it is of hundred
    (r"25\%", "25", "correct"),
    (r"25\%", r"\frac{1}{4}", "correct"),
    (r"12.5\%", "0.125", "correct"),
    (r"12.5\%", "1.25", "wrong"),
    (r"\frac{1}{3}", r"33.3\%", "wrong"),
    ("25", "0.25", "wrong"),
    ("0.25", "25", "wrong"),
    ("25", r"25 \text{ percent}", "correct"),
    # thousands, powers of ten, money
    ("12345", r"12,345\text{ dollars}", "correct"),
    ("12345.5", r"12{,}345.5", "correct"),
    ("1234", "1.234", "wrong"),
    ("10000", "1,0000", "wrong"),
    ("1200", r"1.2 \times 10^3", "correct"),
    ("1.5", r"\$1.50", "correct"),
    ("1234.5", r"\$1{,}234.50", "correct"),
    ("64", r"\text{\$64}", "correct"),
    # intervals, tuples, lists: order counts in a tuple, not in a list
    ("[0,1)", r"\left[0,1\right)", "correct"),
    ("[0,1)", "(0,1)", "wrong"),
    (r"(0,\infty)", r"(0,+\infty)", "correct"),
    (r"[-1,1] \cup [2,3]", r"[2,3]\cup[-1,1]", "correct"),
    (r"\{1,2,3\}", r"\{3,2,1\}", "correct"),
    (r"\{1,2,3\}", r"\{1,2\}", "wrong"),
    ("1,2", r"x=1 \text{ or } x=2", "correct"),
    (r"\pm 3", "3,-3", "correct"),
    ("3", r"\pm 3", "wrong"),
    ("(3,4]", r"\left(3, 4\right]", "correct"),
    ("(3,4]", "[3,4]", "wrong"),
    (r"(-\infty, 2) \cup (3, \infty)", r"(3,\infty)\cup(-\infty,2)", "correct"),
    (r"x \in [-2,7]", "[-2,7]", "correct"),
    ("(3,4)", "(4,3)", "wrong"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)", "correct"),
    ("-2,1", "1,-2", "correct"),
    ("-2,1", "21", "wrong"),
    ("-2,1", "-2", "wrong"),
    ("3, 5, 7", "7, 5 and 3", "correct"),
    ("3, 5, 7", "3, 5", "wrong"),
    (r"3 \pm 2 \sqrt{2}", r"3+2\sqrt2, 3-2\sqrt2", "correct"),
    (r"3 \pm 2 \sqrt{2}", r"3+2\sqrt2", "wrong"),
    # algebra, matrices
    ("(a+5)(b+2)", "ab+2a+5b+10", "correct"),
    ("p - q", "q - p", "wrong"),
    ("x=5", "5", "correct"),
    ("5", "x = 5", "correct"),
    ("y = -2x", "y+2x=0", "correct"),
    (
        r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
        r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}",
        "correct",
    ),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}", "wrong"),
    (r"6-5i", r"-5i+6", "correct"),
    (r"6-5i", r"6+5i", "wrong"),
    ("5", "2+3=5", "correct"),
    ("6", "2+3=5", "wrong"),
    # units and text
    ("12", r"12\ \mathrm{cm}^2", "correct"),
    ("12", "12 apples", "correct"),
    ("60", r"60^{\circ}", "correct"),
    ("60", r"60 \text{ degrees}", "correct"),
    ("60", r"1 \text{ hour}", "wrong"),
    ("90", r"\angle ABC = 90^\circ", "correct"),
    (r"\text{(A)}", r"\textbf{(A)}", "correct"),
    ("A", "B", "wrong"),
    ("Yes", r"\text{No}", "wrong"),
    ("2:3", "2:3", "correct"),
    ("2:3", "3:2", "wrong"),
    ("5", r"\mathbf{5}", "correct"),
    ("5", "five", "wrong"),
    (r"90^\circ", "90", "correct"),
    (r"864 \mbox{ inches}^2", "864", "correct"),
    (r"5.4 \text{ cents}", "5.4", "correct"),
    ("12", r"12\text{ cm}", "correct"),
    ("12", r"12~\text{cm}", "correct"),
    ("12", "13 cm", "wrong"),
    (r"\text{Evelyn}", "Evelyn", "correct"),
    (r"\text{east}", r"\text{west}", "wrong"),
    (r"\text{(C)}", "C", "correct"),
    (r"\text{(C)}", "D", "wrong"),
    # nothing is picked out of an answer: not its last number, not its first
    ("3", "5 apples and 3 pears", "wrong"),
    ("12", "answer is 12", "wrong"),
    ("12", r"12 \text{ or } 13", "wrong"),
    ("5", "5 # 3", "unparsed"),
    ("5", "5 😀", "unparsed"),
    ("5", r"\frac", "unparsed"),
]


def in_both_orders(rows):
    return [*rows, *((answer, gold) for gold, answer in rows)]


@pytest.mark.parametrize("kind", pairs.CORRECT)
def test_pairs_that_are_equal(grader, kind):
    rows = in_both_orders(pairs.CORRECT[kind])
    verdicts = grader.grade(*zip(*rows, strict=True))
    assert [row for row, verdict in zip(rows, verdicts, strict=True) if verdict != "correct"] == []


@pytest.mark.parametrize("kind", pairs.NOT_CORRECT)
def test_pairs_that_are_not_equal(grader, kind):
    rows = in_both_orders(pairs.NOT_CORRECT[kind])
    verdicts = grader.grade(*zip(*rows, strict=True))
    assert [row for row, verdict in zip(rows, verdicts, strict=True) if verdict == "correct"] == []
    assert set(verdicts) <= {"wrong", "unparsed"}


def test_accepted_mistakes(grader):
    for table, correct in [
        (pairs.ACCEPTED_AS_CORRECT, True),
        (pairs.ACCEPTED_AS_NOT_CORRECT, False),
    ]:
        golds, answers, _ = zip(*table, strict=True)
        verdicts = grader.grade(golds, answers)
        assert [verdict == "correct" for verdict in verdicts] == [correct] * len(table)


def test_grade(grader):
    golds, answers, verdicts = zip(*CASES, strict=True)
    graded = grader.grade(golds, answers)
    assert list(zip(golds, answers, graded, strict=True)) == CASES
    assert tuple(graded) == verdicts


def golds_of(path: str) -> list[str]:
    lines = (SHARED / path).read_text().splitlines()
    return [gold(json.loads(line)["answer"], "auto") for line in lines]


@needs_shared
@pytest.mark.parametrize(
    ("path", "num_rows"),
    [
        ("gsm8k/train.jsonl", 7473),
        ("gsm8k/test.jsonl", 1319),
        ("aime24/test.jsonl", 30),
        ("aime25/test.jsonl", 30),
        ("amc23/test.jsonl", 40),
    ],
)
def test_integer_golds_grade_themselves(path, num_rows):
    golds = golds_of(path)
    assert [answer for answer in golds if verify_integer(answer, answer) is not True] == []
    assert len(golds) == num_rows


@needs_shared
def test_math500_golds_grade_themselves(grader):
    golds = golds_of("math500/test.jsonl")
    # The texts differ, and many are no numbers.
    verdicts = grader.grade(golds, [rf"\displaystyle {answer}" for answer in golds])
    missed = [(a, v) for a, v in zip(golds, verdicts, strict=True) if v != "correct"]
    assert missed == []
    assert grader.grade(golds, golds) == ["correct"] * 500
