r"""The split of a rewrite without think tags never cuts a formula, a box or a fenced block."""

import time

import pytest

from mpd.text.splitting import split_at_answer

STEP = "Add both numbers."


@pytest.mark.parametrize(
    "answer",
    [
        "\\boxed{4}",
        "\\[\n\\boxed{4}\n\\]",
        "\\[\nx = \\boxed{4}\n\\]\nas wanted.",
        "So \\[ x =\n\\boxed{4} \\]",
        "\\(\n\\boxed{4}\n\\)",
        "$$\n\\boxed{4}\n$$",
        "Hence $$x =\n\\boxed{4}$$",
        "$x =\n\\boxed{4}$",
        "\\begin{align}\nx &= 4 \\\\[2pt]\n&= \\boxed{4}\n\\end{align}",
        "\\begin{align*}\n\\boxed{4}\n\\end{align*}",
        "\\begin {equation}\n\\boxed{4}\n\\end{equation}",
        "\\begin{center}\n\\begin{tabular}{c}\n1\n\\end{tabular}\n\\boxed{4}\n\\end{center}",
        "\\[\n\\begin{aligned}\n1\n\\end{aligned}\n\\boxed{4}\n\\]",
        "\\boxed{\n4\n}",
        "\\boxed{\\frac{1}\n{2}}",
        "\\boxed{\\begin{pmatrix}\n1 \\\\\n2\n\\end{pmatrix}}",
        "\\[\n\\boxed{4}",  # a formula without an end
        "```math\nx =\n\\boxed{4}\n```",
        "~~~\nx =\n\\boxed{4}\n~~~",
        "[\nx =\n\\boxed{4}\n]",  # its backslashes were lost
        "[  \nx = \\boxed{4}\n  ]",
        "| sum |\n|---|\n| \\boxed{4} |",
        "| a | b |\n  | - | - |\n  | 1 | \\boxed{4} |",
        "> \\[\n> \\boxed{4}\n> \\]",
        "$$\\begin{array}{c}\n1\n\\end{array}$$ gives \\boxed{4}",
        "\\boxed{\\text{a\n\nb}}",
        "**Final Answer**\n\\boxed{4}",
        "### Final answer:\n\n$$\n\\boxed{4}\n$$",
        "So the final answer is:\n\n\\[\n\\boxed{4}\n\\]",
        "**Therefore, the result is**\n\\boxed{4}",
        "Answer: 4",
        "**Answer:** \\(4\\)",
        "\\boxed{4} dollars, not $5\nor more.",
    ],
)
def test_the_answer_begins_where_its_formula_does(answer):
    cut = answer
    if answer == "\\[\n\\boxed{4}":
        cut = "\\boxed{4}"
    parts = split_at_answer(f"{STEP}\n{answer}")
    assert parts == (f"{STEP}\n{answer}".removesuffix(f"\n{cut}"), cut)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Add both numbers\n\\[\n\\boxed{4}\n\\]", ("Add both numbers", "\\[\n\\boxed{4}\n\\]")),
        ("It costs $5.\nAnswer: $5", ("It costs $5.", "Answer: $5")),
        ("It costs $5 a day\nfor $3 days.\n\\boxed{15}", None),
        ("A is \\$5.\nB is \\$6.\n\\boxed{11}", ("A is \\$5.\nB is \\$6.", "\\boxed{11}")),
        ("Pay $x\n\nand $y$.\n\\boxed{4}", ("Pay $x\n\nand $y$.", "\\boxed{4}")),
        ("Let S = {1, 2.\n\\boxed{3}", ("Let S = {1, 2.", "\\boxed{3}")),
        ("\\boxed{3}? No.\n\\boxed{4}", ("\\boxed{3}? No.", "\\boxed{4}")),
        ("\\[ 1 \\]\n\\boxed{4}", ("\\[ 1 \\]", "\\boxed{4}")),
        ("a\r\n\\[\r\n\\boxed{4}\r\n\\]\r\n", ("a", "\\[\n\\boxed{4}\n\\]")),
        ("2+2=4.\n\\boxed{4}\nAnswer: four", ("2+2=4.", "\\boxed{4}\nAnswer: four")),
        ("1. Add.\n2. So \\boxed{4}", ("1. Add.", "2. So \\boxed{4}")),
        ("```markdown\nAdd.\n\\boxed{4}\n```", ("Add.", "\\boxed{4}")),
        ("~~~\nAdd.\n\n\\boxed{4}\n~~~\n", ("Add.", "\\boxed{4}")),
        ("```\n1\n```\nAdd.\n```\n\\boxed{4}\n```", ("```\n1\n```\nAdd.", "```\n\\boxed{4}\n```")),
        ("| a |\n|---|\n\n\\boxed{4}", ("| a |\n|---|", "\\boxed{4}")),
        ("Let A = [\n1, 2.\n\\boxed{4}", ("Let A = [\n1, 2.", "\\boxed{4}")),
        ("So $x$\n\nThe answer\n\\boxed{4}", ("So $x$", "The answer\n\\boxed{4}")),
        ("The answer is:\n\\boxed{4}", ("The answer is:", "\\boxed{4}")),
    ],
)
def test_the_cut(text, parts):
    if parts is None:
        *reasoning, answer = text.splitlines()
        parts = "\n".join(reasoning), answer
    assert split_at_answer(text) == parts


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Add both numbers, so \\boxed{4}", "4"),
        ("2+2=4, so \\boxed{4}", "4"),
        ("2+2=4. So the answer is \\boxed{4}.", "4"),
        ("2+2=4. The final answer is 4.", "4"),
        ("We halve it. Thus $x=\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
        ("Mr. Smith pays 2+2, i.e. \\boxed{4} dollars", "4"),
        ("Factoring gives $x=\\boxed{2}$ or $x=\\boxed{-4}$.", "2, -4"),
        ("Factoring gives $x=\\boxed{2}$ or\n$x=\\boxed{-4}$.", "2, -4"),
        ("\\[\n2+2 = \\boxed{4}\n\\]", "4"),
        ("\\begin{align}\n2+2 &= 4\\\\\n&= \\boxed{4}\n\\end{align}", "4"),
        ("| 2+2 | sum |\n|---|---|\n| yes | \\boxed{4} |", "4"),
        ("2+2=4, so \\boxed{4}\nas wanted.", "4"),
    ],
)
def test_one_line_or_formula_is_never_cut(text, answer):
    """It is the reasoning, whole, and its answer stands behind it once more."""
    assert split_at_answer(text) == (text, f"\\boxed{{{answer}}}")


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{4}",
        "\\boxed{\n4\n}",
        "$x = \\boxed{4}$",
        "The final answer is \\boxed{4}.",
        "Thus, the result is: **\\boxed{4}**",
        "The final answer is 4.",
        "Answer: 4",
        "\\boxed{4}, since 2+2=4.",
        "\\boxed{4}\n\nAdd both numbers.",
        "\\boxed{2} or\n\\boxed{-4}",
        "2+2=4. Answer: 4",
        "2+2=4",
        "\\boxed{4\n",
        "",
    ],
)
def test_nothing_before_the_answer(text):
    assert split_at_answer(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "\\[" * 30_000,
        "$x " * 30_000,
        "{\n" * 30_000,
        "{" * 30_000 + "\\]" * 30_000,
        "{$x" * 30_000,
        "\\boxed{1}\n" * 10_000 + "\\boxed{",
    ],
)
def test_long_texts_are_split_at_once(text):
    start = time.monotonic()
    split_at_answer(f"{text}\n\\boxed{{4}}")
    assert time.monotonic() - start < 5
