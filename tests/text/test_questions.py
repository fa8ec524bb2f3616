import hashlib

import pytest

from mpd.text.questions import boilerplate_runs, normalise_question, problem_id, word_runs


@pytest.mark.parametrize(
    ("question", "normalised"),
    [
        ("  What is\n 1+2 ?", "what is 1+2"),
        ("1+2", "1+2"),
        ("1-2", "1-2"),
        ("1 - 2", "1 - 2"),
        ("Is x<=3, or x>=4?", "is x<=3 or x>=4"),
        ("2*3/4^5 = 50%", "2*3/4^5 = 50%"),
        ("It costs $3.50.", "it costs 3.50"),
        ("It costs \\$3.50.", "it costs 3.50"),
        ("Wait... what?", "wait what"),
        ("0.5 and .5 and 5.", "0.5 and .5 and 5"),
        ("Ｆｕｌｌ ｗｉｄｔｈ １", "full width 1"),
        ("x² and ½ of a₁", "x^2 and 1/2 of a_1"),
        ("3½ · 10⁻³", "3 1/2 · 10^-^3"),
        ("1−2 – 3", "1-2 - 3"),
        ("STRASSE Straße", "strasse strasse"),
        ("Janet’s ducks, “quoted”", "janet's ducks quoted"),
        ("f′(x) = f'(x)", "f'(x) = f'(x)"),
        ("Find $\\sqrt{2}$; \\(x\\) or \\[|y|\\]", "find \\sqrt{2} x or |y|"),
        ("\\\\[2pt]", "\\\\[2pt]"),
        ("no\u00a0break", "no break"),
        ("a_b", "a_b"),
        ("soft\u00adhyphen\u200b", "soft hyphen"),
        ('?,;:". …', ""),
    ],
)
def test_normalise(question, normalised):
    assert normalise_question(question) == normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is (2+3) * 4?", "What is 2+3 * 4?"),
        ("What is 5!?", "What is 5?"),
        ("Simplify |x|", "Simplify x"),
        ("Find f'(2)", "Find f(2)"),
        ("[0, 1)", "(0, 1)"),
        ("{1, 2}", "(1, 2)"),
        ("A \\ B", "A B"),
        ("\\frac{1}{2}", "frac{1}{2}"),
        ("2 × 3", "2 ÷ 3"),
        ("1 − 2", "1 2"),
        ("x ≤ 3", "x ≥ 3"),
        ("3²", "32"),
        ("x₂", "x2"),
        ("3½", "31/2"),
        (".5 + 1", "5 + 1"),
        ("√2", "2"),
        ("⌊2.5⌋", "⌈2.5⌉"),
        ("4 # 2", "4 @ 2"),
    ],
)
def test_different_problems_keep_their_own_identity(one, other):
    assert problem_id(one) != problem_id(other)


def test_problem_id_is_a_digest_of_the_normalised_question():
    digest = hashlib.sha256(b"what is 1+2").hexdigest()[:16]
    assert problem_id("What is 1+2?") == problem_id(" what  is 1+2") == digest
    assert problem_id("What is 1-2?") != digest


WORDS = [f"w{number}" for number in range(1, 16)]


@pytest.mark.parametrize(
    ("num_words", "num_runs"),
    [(0, 0), (1, 0), (12, 0), (13, 1), (14, 2), (15, 3)],
)
def test_word_runs_have_13_words(num_words, num_runs):
    expected = {tuple(WORDS[start : start + 13]) for start in range(num_runs)}
    assert word_runs(" ".join(WORDS[:num_words])) == expected


def test_word_runs_are_of_the_normalised_question_without_brackets():
    assert word_runs(", ".join(WORDS[:13]).upper() + "?") == {tuple(WORDS[:13])}
    assert word_runs("(" + "] [".join(WORDS[:13]) + "!)") == {tuple(WORDS[:13])}


@pytest.mark.parametrize("count", [5, 50, 10_001, 25_000])
def test_boilerplate_is_in_a_tenth_of_the_questions_of_a_set(count):
    least = max(5, -(-count // 10))
    often = [f"one two three four five {number}" for number in range(count)]
    share = [f"a b c d e {n}" if n % 10 == 0 or count < 50 else f"f {n}" for n in range(count)]
    rare = [f"{' '.join('ghijk')} {n}" if n < least // 2 else f"l {n}" for n in range(count)]
    assert boilerplate_runs([often, share, rare, []]) == {
        ("one", "two", "three", "four", "five"),
        tuple("abcde"),
    }


def test_boilerplate_is_left_out_of_runs():
    question = f"Read this with great care: {' '.join(WORDS[:13])}"
    boilerplate = {("read", "this", "with", "great", "care")}
    assert word_runs(question, boilerplate) == {tuple(WORDS[:13])}
    assert len(word_runs(question)) == 6
