"""Duplicates, and overlap with benchmarks."""

import json
import logging
from pathlib import Path

import pytest

from mpd.text.overlap import without_benchmarks, without_duplicates
from mpd.text.questions import problem_id

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="real problem sets are not here")
RUN = "a b c d e f g h i j k l m"  # 13 words
SUFFIX = "Please reason step by step, and put your final answer within \\boxed{}."


def rows_of(*texts):
    return [
        {"problem_id": problem_id(text), "question": text, "gold": "1", "source_row": number}
        for number, text in enumerate(texts)
    ]


def reasons(rows):
    return [(row["source_row"], row.get("reason")) for row in rows]


def test_without_duplicates_keeps_the_first():
    rows = rows_of("What is 1+1?", "b", "what is  1+1", "WHAT IS 1+1.", "What is 1-1?")
    first, duplicates = without_duplicates(rows)
    assert reasons(first) == [(0, None), (1, None), (4, None)]
    assert reasons(duplicates) == [(2, "duplicate"), (3, "duplicate")]


def test_without_benchmarks():
    rows = rows_of(
        "The same, here?",
        f"before {RUN} after",
        "before b c d e f g h i j k l m after",  # 12 words of the run
        f"{RUN}",
        "another",
    )
    clean, held_out = without_benchmarks(rows, [["the same HERE", f"x {RUN} y"]])
    assert reasons(clean) == [(2, None), (4, None)]
    assert reasons(held_out) == [
        (0, "in_benchmark"),
        (1, "overlaps_benchmark"),
        (3, "overlaps_benchmark"),
    ]


@pytest.mark.parametrize(
    "boilerplate",
    [
        "{} " + SUFFIX.replace("{}", "{{}}"),
        "Solve the following math problem carefully and show all of your work in detail: {}",
        "Let's think step by step. {} Give the final answer as a single integer, without units.",
    ],
)
@pytest.mark.parametrize("count", [3, 40, 400])
def test_shared_boilerplate_is_no_overlap(boilerplate, count, caplog):
    caplog.set_level(logging.INFO, "mpd")
    training = [boilerplate.format(f"train{n} has {n} apples in total?") for n in range(count)]
    held = [boilerplate.format(f"held{n} has {n + 1} pears in total?") for n in range(count)]
    copied = f"{RUN} and what is the sum of them?"
    rows = rows_of(*training, boilerplate.format(f"{copied} Really?"))
    clean, removed = without_benchmarks(rows, [[*held, boilerplate.format(copied)]])
    assert reasons(clean) == [(n, None) for n in range(count)]
    assert reasons(removed) == [(count, "overlaps_benchmark")]
    assert "not counted as overlap, since many problems have it: " in caplog.text


def test_boilerplate_of_one_benchmark_is_no_overlap():
    """Also where it is rare among all problems."""
    phrase = "where m and n are relatively prime positive integers. Find the value of m + n."
    held = [f"p{n} is m / n, {phrase}" for n in range(8)]
    others = [f"other{n}" for n in range(3000)]
    clean, removed = without_benchmarks(rows_of("q", f"y is m / n, {phrase}"), [held, others])
    assert (len(clean), removed) == (2, [])


def test_a_run_of_few_problems_is_overlap():
    others = [f"q{number}" for number in range(100)]
    rows = rows_of(*(f"{RUN} {number}" for number in range(9)), *others)
    clean, removed = without_benchmarks(rows, [[f"x {RUN}"]])
    assert (len(clean), len(removed)) == (100, 9)


NEAR_COPY = (
    "A farmer has {} sheep and {} cows and sells half of them at the market on Monday morning "
    "before lunch. How many are left?"
)


@pytest.mark.parametrize("copies", [5, 6, 10, 14])
@pytest.mark.parametrize("size", [30, 49])
def test_near_copies_in_a_small_set_are_no_boilerplate(copies, size, caplog):
    caplog.set_level(logging.INFO, "mpd")
    training = [NEAR_COPY.format(n, n + 1) for n in range(copies)]
    training += [f"other{n}" for n in range(size - copies)]
    clean, removed = without_benchmarks(
        rows_of(*training), [[NEAR_COPY.format(50, 51), *(f"held{n}" for n in range(9))]]
    )
    assert reasons(removed) == [(n, "overlaps_benchmark") for n in range(copies)]
    assert (len(clean), caplog.text) == (size - copies, "")


def test_a_phrase_of_different_problems_in_a_small_set_is_boilerplate():
    phrase = "where m and n are relatively prime positive integers. Find the value of m + n."
    words = ("circle", "triangle", "game", "sequence", "cube", "polynomial")
    held = [
        " ".join(f"{word}{n} of {word}{place}" for place in range(10)) + f" is m / n, {phrase}"
        for n, word in enumerate(words)
    ]
    others = [f"held{n}" for n in range(24)]
    clean, removed = without_benchmarks(rows_of("q", f"y is m / n, {phrase}"), [[*held, *others]])
    assert (len(clean), removed) == (2, [])


@needs_shared
@pytest.mark.parametrize(
    ("name", "question"),
    [("aime24", "problem"), ("aime25", "problem"), ("amc23", "problem")],
)
def test_the_phrase_of_a_real_competition_is_no_overlap(name, question):
    lines = (SHARED / name / "test.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    held = [row.get(question) or row["question"] for row in rows]
    text = "The sum is m/n, where $m$ and $n$ are relatively prime positive integers. Find $m+n$."
    clean, removed = without_benchmarks(rows_of("q", text), [held])
    assert (len(clean), removed) == (2, [])


@needs_shared
def test_a_prompt_behind_real_questions_is_no_overlap():
    """The two that are removed are those of a test problem with other names and numbers."""

    def questions_of(name, end):
        lines = (SHARED / "gsm8k" / name).read_text().splitlines()
        return [json.loads(line)["question"] + end for line in lines]

    for end in ("", f" {SUFFIX}"):
        rows = rows_of(*questions_of("train.jsonl", end)[:1000])
        _, removed = without_benchmarks(rows, [questions_of("test.jsonl", end)])
        assert [row["source_row"] for row in removed] == [20, 406]
