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
        # without braces: one number, fraction or letter
        (r"\boxed 4", "4"),
        (r"\boxed 2", "2"),
        (r"so $x = \boxed 42$.", "42"),
        (r"$\boxed -3$", "-3"),
        (r"\boxed 1,234.5", "1,234.5"),
        (r"\boxed\frac12", r"\frac12"),
        (r"$\boxed \dfrac{3}{4}$", r"\dfrac{3}{4}"),
        (r"\boxed\frac 59", r"\frac 59"),
        (r"\boxed\sqrt{2}", r"\sqrt{2}"),
        (r"\boxed\pi", r"\pi"),
        (r"$\boxed x$", "x"),
        (r"\boxed{1}, or $\boxed 2$", "1, 2"),
        (r"I put it in \boxed and stop", None),
        (r"\boxedtext 4", None),
        # several boxes: one answer where they stand side by side
        (r"The primes are \boxed{3}, \boxed{5} and \boxed{7}.", "3, 5, 7"),
        (r"$\boxed{3},\ \boxed{5}, \text{ and } \boxed{7}$", "3, 5, 7"),
        (r"\[\boxed{3} \quad \boxed{5} \quad \boxed{7}\]", "3, 5, 7"),
        ("So $\\boxed{1}$\n\nThen $\\boxed{2}$.\n\n$\\boxed{3}$ or $\\boxed{5}$", "3, 5"),
        (r"$x = \boxed{2}$ or $x = \boxed{-4}$", "2, -4"),
        (r"$a_1 = \boxed{2}$; $a_2 = \boxed{3}$", "2, 3"),
        (r"\boxed{(1,2)} and \boxed{(3,4)}", "(1,2), (3,4)"),
        ("\\boxed{1},\n\\boxed{2}", "1, 2"),
        ("\\boxed{1}\n\\boxed{2}", "2"),
        (r"First \boxed{3}. Then \boxed{5}", "5"),
        (r"\boxed{3} + 2 = \boxed{5}", "5"),
        (r"\boxed{3}, so the sum is \boxed{5}", "5"),
        ("\\boxed{73}\n\n\\boxed{73}", "73"),
        (r"\boxed{73}, \boxed{73}", "73"),
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
        ("✅ Final Answer: **73**", "73"),
        ("➡️ **Answer:** 73", "73"),
        ("🎯 **Final Answer:** $73$", "$73$"),
        ("• Final answer: 73", "73"),
        ("__Answer__: 73", "73"),
        ("The final answer is $5$. I hope it is correct.", "$5$"),
        ("Final Answer: The final answer is $5$. I hope it is correct.", "$5$"),
        ("The final answer is 5.5. I hope it is correct.", "5.5"),
        ("Therefore, the final answer is: 5.", "5."),
        ("We add. The final answer is $\\frac{1}{2}$. This is less than one.", r"$\frac{1}{2}$"),
        ("So the final answer is **5**", "5"),
        ("The answer is: 110", "110"),
        ("Answer: $5$. I hope it is correct.", "$5$"),
        ("The final answer is $5$. No wait, $6$.", "$5$. No wait, $6$."),
        ("✅ **Answer: 73** ✅", "73"),
        ("Answer: **73** 🎉", "73"),
        ("The final answer is: **73**.", "73"),
        ("The final answer is 73. I hope it's correct.", "73"),
        (r"$\boxed -\frac12$", r"-\frac12"),
        ("Is the final answer isolated?", None),
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
        "the final answer is " * 10_000,
        "\\boxed " * 20_000,
        "✅" * 100_000,
        "*" * 100_000 + "answer" + " " * 100_000,
        "\n" * 100_000,
    ],
    ids=[
        "boxes",
        "backslashes",
        "braces",
        "spaces",
        "sentences",
        "bare",
        "emoji",
        "stars",
        "lines",
    ],
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
        # a box that is all of a plain cell
        (r"\boxed{45}", "plain", "45"),
        (r"$\boxed{45}$.", "plain", "45"),
        (r" \(\boxed{\frac{1}{2}}\) ", "plain", r"\frac{1}{2}"),
        (r"\boxed{45} apples", "plain", r"\boxed{45} apples"),
        ("#### \\boxed{45}", "hash", "45"),
        # the rest of the line after ####, which is no heading
        ("2 + 2\n#### 110\nThe answer is: 110", "auto", "110"),
        ("2 + 2\n#### 1,110\nThe answer is: 1110", "hash", "1110"),
        ("2 + 2\n#### 110\n\n", "hash", "110"),
        ("####\n110", "hash", "110"),
        ("#### 110\nsee page 3", "auto", "110"),
        ("#### 10 apples", "auto", "10 apples"),
        ("#### Step 1\nAdd.\n#### Step 2\nDouble: $\\boxed{10}$", "auto", "10"),
        ("#### 1\nAdd.\n#### 2\nDouble: $\\boxed{10}$", "auto", "10"),
        ("##### Solution\nDouble: $\\boxed{10}$", "auto", "10"),
        # boxes side by side
        (r"$x=\boxed{2}$ or $x=\boxed{-4}$", "auto", "2, -4"),
        (r"$\boxed{3}$, $\boxed{5}$ and $\boxed{7}$", "boxed", "3, 5, 7"),
        ("so $\\boxed{3}$.\nThen $\\boxed{5}$", "boxed", "5"),
        (r"It is \boxed{3}, that is \boxed{3}", "boxed", "3"),
        (" 1,234 ", "plain", "1,234"),
        ("2 + 2 = <<2+2=4>>4\n#### 4", "auto", "4"),
        ("#### 1,234,567", "hash", "1234567"),
        ("#### -1,234", "hash", "-1234"),
        ("#### 3 #### 4", "hash", "4"),
        ("#### -2,1", "hash", "-2,1"),
        ("#### 12,34", "hash", "12,34"),
        (r"so \boxed{3} and \boxed{\frac{1}{2}}.", "auto", r"3, \frac{1}{2}"),
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
        ("#### Step 1\nAdd.\n#### Step 2\nDouble: 10", "auto", "no text after '####'"),
        ("#### 110\nThe answer is: 111", "auto", "no text after '####'"),
        (r"$\boxed{3}$ apples and $\boxed{5}$ pears", "auto", "several .* in one sentence"),
        (r"\boxed{3} or rather \boxed{5}", "boxed", "several .* in one sentence"),
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
