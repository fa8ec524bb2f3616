"""The final answer of a completion, and the gold answer of a data set."""

import pytest

from mpd.text.grading.extraction import MAX_CHARACTERS, extract, gold


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"It is \boxed{4}.", "4"),
        (r"\boxed{1} or rather \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed {7}", "7"),
        (r"\\boxed{7}", "7"),
        (r"\boxed{ 7 }", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x } y", r"\left\{ x"),
        (r"\begin{cases} 1 \\{-2} \end{cases} \boxed{1\\2}", r"1\\2"),
        (r"} \boxed{3}", "3"),
        (r"{ \boxed{3}", "3"),
        (r"\boxed{3}. Wait, \boxed{4", "3"),
        (r"\boxed{3, hence \boxed{4}", "4"),
        (r"\boxed{4}. I put it in \boxed{}.", "4"),
        (r"\boxed{4", None),
        (r"\fbox{4}", None),
        (r"\boxed 4", None),
        ("The last number is 4", None),
        ("", None),
        ("Answer: 5", "5"),
        ("so\nanswer:5\nand so on", "5"),
        ("Answer: 4\nAnswer: 5", "5"),
        ("Answer: 4\nAnswer:", "4"),
        ("**Answer:** 5", "5"),
        ("**Answer: 5**", "5"),
        ("**Final Answer**: -5", "-5"),
        ("### The final answer: $x = 5$", "$x = 5$"),
        ("> - ANSWER: `5`\r\n", "5"),
        ("The answer is 5", None),
        ("My answer: 5", None),
        ("\\boxed{4}\nAnswer: 5", "4"),
        ("\\boxed{4\nAnswer: 5", "5"),
        (rf"\boxed{{{'1' * MAX_CHARACTERS}}}", "1" * MAX_CHARACTERS),
        (rf"\boxed{{{'1' * (MAX_CHARACTERS + 1)}}}", None),
    ],
)
def test_extract_without_thinking(text, answer):
    assert extract(text, None) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"<think>\boxed{1}</think>\boxed{2}", "2"),
        (r"<think>\boxed{1}</think>so it is 2", None),
        (r"<think>\boxed{1}</think>", None),
        (r"<think>\boxed{1}", None),
        (r"\boxed{1}", None),
        (r"</think>\boxed{1}</think>\boxed{2}", "2"),
        (r"</think>\boxed{1}</think>", None),
        ("<think>Answer: 1</think>\nAnswer: 2", "2"),
        (r"<think>\boxed{</think>\boxed{2}", "2"),
    ],
)
def test_extract_counts_only_what_follows_the_thinking(text, answer):
    assert extract(text, "</think>") == answer


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 20_000,
        "\\" * 100_000,
        "{" * 50_000 + "}" * 50_000,
        "\\boxed" + " " * 100_000,
        "*" * 100_000 + "answer" + " " * 100_000,
        "\n" * 100_000,
    ],
    ids=["boxes", "backslashes", "braces", "spaces", "stars", "lines"],
)
def test_extract_is_linear_on_hostile_text(text):
    assert extract(text, None) is None


@pytest.mark.parametrize(
    ("value", "form", "answer"),
    [
        (27.0, "auto", "27"),
        (27.5, "auto", "27.5"),
        (-1.0, "plain", "-1"),
        (0.00001, "auto", "0.00001"),
        (588, "auto", "588"),
        (0, "plain", "0"),
        ("025", "auto", "025"),
        (" 1,234 ", "plain", "1,234"),
        ("2 + 2 = <<2+2=4>>4\n#### 4", "auto", "4"),
        ("#### 1,234,567", "hash", "1234567"),
        ("#### -1,234", "hash", "-1234"),
        ("#### 3 #### 4", "hash", "4"),
        ("#### -2,1", "hash", "-2,1"),
        ("#### 12,34", "hash", "12,34"),
        (r"so \boxed{3} and \boxed{\frac{1}{2}}.", "auto", r"\frac{1}{2}"),
        (r"\boxed{1} #### 2", "auto", "2"),
        (r"\boxed{1} #### 2", "boxed", "1"),
        (r"\boxed{1} #### 2", "plain", r"\boxed{1} #### 2"),
        (r"\text{(C)}", "auto", r"\text{(C)}"),
    ],
)
def test_gold(value, form, answer):
    assert gold(value, form) == answer


@pytest.mark.parametrize(
    ("value", "form", "message"),
    [
        ("4", "hash", "no text after '####' in '4'"),
        ("4 ####  ", "auto", "no text after '####'"),
        ("4", "boxed", r"no balanced, filled \\boxed"),
        (r"\boxed{4", "auto", r"no balanced, filled \\boxed"),
        (r"\boxed{}", "boxed", r"no balanced, filled \\boxed"),
        ("  ", "plain", "no text in '  '"),
        ("", "auto", "no text in ''"),
        (4, "hash", "found the number 4"),
        (float("nan"), "auto", "found the number nan"),
        (float("inf"), "plain", "found the number inf"),
        (None, "auto", "expected text or a number, found None"),
        (True, "auto", "expected text or a number, found True"),
        ("4", "last", "'last': expected auto, plain, hash or boxed"),
    ],
)
def test_gold_refuses(value, form, message):
    with pytest.raises(ValueError, match=message):
        gold(value, form)
