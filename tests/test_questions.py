import hashlib

import pytest

from mpd.questions import normalise, problem_id, word_runs


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
        ("Wait... what?", "wait what"),
        ("0.5 and .5 and 5.", "0.5 and 5 and 5"),
        ("Ｆｕｌｌ ｗｉｄｔｈ １", "full width 1"),
        ("x² and ½", "x2 and 1⁄2".replace("⁄", " ")),
        ("STRASSE Straße", "strasse strasse"),
        ("Janet’s ducks, “quoted”", "janet s ducks quoted"),
        ("no\u00a0break", "no break"),
        ("a_b", "a_b"),
        ("?!", ""),
    ],
)
def test_normalise(question, normalised):
    assert normalise(question) == normalised


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


def test_word_runs_are_of_the_normalised_question():
    assert word_runs(", ".join(WORDS[:13]).upper() + "?") == {tuple(WORDS[:13])}
