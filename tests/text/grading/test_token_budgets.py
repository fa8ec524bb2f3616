"""Token budgets: the answers of prefixes."""

import pytest

from mpd.text.grading.extraction import extract
from mpd.text.grading.grader import Grader
from mpd.text.grading.token_budgets import answers_by_budget, grade_with_budgets, ladder


@pytest.mark.parametrize(
    ("max_new_tokens", "budgets"),
    [
        (1, [1]),
        (16, [16]),
        (17, [16, 17]),
        (24, [16, 24]),
        (100, [16, 24, 32, 48, 64, 96, 100]),
        (320, [16, 24, 32, 48, 64, 96, 128, 192, 256, 320]),
    ],
)
def test_ladder(max_new_tokens, budgets):
    assert ladder(max_new_tokens) == budgets


def test_the_ladder_of_a_long_thinker_is_short():
    budgets = ladder(32_768)
    assert (len(budgets), budgets[-2:]) == (23, [24_576, 32_768])


class Decoder:
    """Ids are characters; it remembers which prefixes were decoded."""

    def __init__(self):
        self.lengths = []

    def __call__(self, ids):
        self.lengths.append(len(ids))
        return "".join(chr(number) for number in ids)


def cut(text, budgets, think_close="</think>"):
    """Answers by budget, and the lengths of the prefixes that were decoded."""
    decode = Decoder()
    answer = extract(text, think_close)
    found = answers_by_budget([ord(sign) for sign in text], answer, budgets, decode, think_close)
    return found, decode.lengths


THOUGHT = r"<think>\boxed{1}</think>\boxed{2} and more"  # thinking ends at 24, the box at 33


def test_an_answer_counts_from_where_it_is_complete():
    found, decoded = cut(THOUGHT, [10, 20, 24, 32, 33, 40, 42, 50])
    assert found == {33: "2", 40: "2", 42: "2", 50: "2"}
    # 42 and 50 are the whole; 20 has no end of thinking, so that 10 has none either.
    assert decoded == [40, 33, 32, 24, 20]


def test_the_last_end_of_thinking_in_the_prefix_counts():
    text = r"<think></think>\boxed{1}</think>\boxed{2}"
    found, _ = cut(text, [16, 24, 31, 32, 40, 41])
    assert found == {24: "1", 31: "1", 41: "2"}


def test_an_answer_may_be_taken_back():
    found, _ = cut("Answer: 4\nAnswer: 5", [9, 15, 18, 19], think_close=None)
    assert found == {9: "4", 15: "4", 18: "4", 19: "5"}


def test_a_longer_answer_begins_with_a_shorter_one():
    assert cut("Answer: 45", [9, 10], think_close=None) == ({9: "4", 10: "45"}, [9])


def test_without_an_answer_there_is_none_at_any_budget():
    assert cut(r"<think>\boxed{1}", [4, 8, 64]) == ({}, [8])
    assert cut("", [4, 8]) == ({}, [])


def test_grade_gives_verdicts_and_the_budgets_of_correct_answers():
    with Grader() as grader:
        verdicts, budgets = grade_with_budgets(
            ["5", "5", "5", "x+1"],
            ["5", None, "4", "1+x"],
            [{16: "4", 24: "5", 32: "5"}, {}, {16: "5", 24: "4"}, {24: "x", 16: "x+1", 32: "1+x"}],
            grader,
        )
        assert verdicts == ["correct", "none", "wrong", "correct"]
        assert budgets == [[24, 32], [], [16], [16, 32]]
        assert grade_with_budgets([], [], [], grader) == ([], [])
