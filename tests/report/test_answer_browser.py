import random
import re

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mpd.job.layout import Experiment
from mpd.report import answer_browser, answer_section, browser_packing
from mpd.report.page import markup
from mpd.store import schema, table
from mpd.store.signs import SIGNS
from tests.report.test_browser import HOSTILE, blocks_of
from tests.test_report import words_of


def answer(problem, verdict, tokens, index=0, **changes):
    """An answer to a problem: its row of `evaluate`, and its text."""
    return {
        "problem_id": problem,
        "sample_index": index,
        "gold": "7",
        "finish_reason": "stop",
        "num_tokens": tokens,
        "thinking_tokens": 0,
        "answer": {"correct": "7", "none": None}.get(verdict, "8"),
        "verdict": verdict,
        "correct": verdict == "correct",
        "correct_budgets": [],
        "text": f"{verdict} in {tokens}",
        **changes,
    }


def write_answers(folder, answers):
    """Grades and answers by (method, seed, round, benchmark); returns the evaluations."""
    experiment, evaluations = Experiment(folder / "results" / "tiny"), {}
    for (method, seed, number, benchmark), rows in answers.items():
        round = experiment.round(method, seed, number)
        path = round.benchmark("evaluate", benchmark)
        table.write(path, table.frame_of(rows, schema.EVALUATE), schema.EVALUATE, {})
        texts = [{**row, "prompt_ids": [1], "completion_ids": [1]} for row in rows]
        frame = table.frame_of(texts, schema.ANSWERS)
        table.write(round.benchmark("answers", benchmark), frame, schema.ANSWERS, {})
        evaluations[path] = {**round.place, "benchmark": benchmark}
    return evaluations


# By problem: what the base student, round 1 and round 2 of mpd make of it, verdicts with tokens.
COURSES = {
    "p0": (("correct", 10), ("wrong", 5), ("correct", 6)),
    "p1": (("wrong", 20), ("correct", 8), ("none", 9)),
    "p2": (("correct", 4), ("correct", 8), ("correct", 2)),
}
ANSWERS = {
    (method, 0, number, "one"): [answer(name, *course[number]) for name, course in COURSES.items()]
    for method, number in (("base", 0), ("mpd", 1), ("mpd", 2))
}
ANSWERS["mpd", 0, 2, "one"][1] |= {"finish_reason": "length"}


def asked(*names, benchmark="one", question="1+6?"):
    rows = [
        {"benchmark": benchmark, "problem_id": name, "question": question, "gold": "7"}
        for name in names
    ]
    return pl.DataFrame(rows)


def data_of(folder, answers=ANSWERS, problems=None):
    evaluations = write_answers(folder, answers)
    problems = asked(*COURSES) if problems is None else problems
    return answer_section.answers_data(evaluations, problems, "tiny")


def drawn(section):
    return markup.rendered("answers.html", answers=section)


def frame_of(answers):
    """All answers with the columns of their places."""
    types = {"method": pl.String, "seed": pl.Int32, "round": pl.Int32, "benchmark": pl.String}
    return pl.concat(
        table.frame_of(rows, schema.EVALUATE).with_columns(
            pl.lit(value, dtype).alias(name)
            for (name, dtype), value in zip(types.items(), place, strict=True)
        )
        for place, rows in answers.items()
    )


def cells_of(answers):
    return answer_browser.with_outcomes(answer_browser.cells_of(frame_of(answers)))


def outcomes_of(cells):
    """The names of the outcomes by student and problem, without cells that have none."""
    return {
        (row["method"], row["round"], row["problem_id"]): names
        for row in cells.to_dicts()
        if (names := [name for name in answer_browser.OUTCOMES if row[name]])
    }


def test_outcomes_compare_each_answer_with_that_of_the_base_student_of_its_seed():
    assert outcomes_of(cells_of(ANSWERS)) == {
        ("mpd", 1, "p0"): ["lost"],
        ("mpd", 1, "p1"): ["gained"],
        ("mpd", 1, "p2"): ["longer"],
        ("mpd", 2, "p1"): ["none", "cut"],
    }
    other_seed = {("mpd", 1, *place[2:]): rows for place, rows in ANSWERS.items() if place[2]}
    assert outcomes_of(cells_of(other_seed)) == {("mpd", 2, "p1"): ["none", "cut"]}


def test_outcomes_of_several_answers_are_those_of_shares_and_of_right_answers():
    verdicts = {"base": ("correct", "correct", "wrong"), "mpd": ("correct", "wrong", "wrong")}
    answers = {
        (method, 0, number, "one"): [
            answer("p0", verdict, tokens, index)
            for index, (verdict, tokens) in enumerate(zip(verdicts[method], lengths, strict=True))
        ]
        for method, number, lengths in (("base", 0, (10, 20, 90)), ("mpd", 1, (16, 1, 1)))
    }
    assert outcomes_of(cells_of(answers)) == {("mpd", 1, "p0"): ["lost", "longer"]}


def test_texts_come_first_of_what_was_lost_with_all_rounds_beside_it():
    rows = {
        place: [*rows, *(answer(f"q{number}", "correct", 9) for number in range(5))]
        for place, rows in ANSWERS.items()
    }
    cells = answer_browser.listed(cells_of(rows))
    order = answer_browser.in_turn(cells)
    found = order.select("method", "round", "problem_id").rows()
    assert found[:3] == [("base", 0, "p0"), ("mpd", 1, "p0"), ("mpd", 2, "p0")]
    assert sorted(order["line"]) == list(range(24))
    # Then every student and outcome in turn.
    assert {row["problem_id"] for row in order[3:10].to_dicts()} >= {"p1", "p2"}
    assert_frame_equal(answer_browser.in_turn(cells.reverse()), order)


def test_index_has_every_answer_once():
    answers = frame_of(ANSWERS)
    cells = answer_browser.listed(cells_of(ANSWERS))
    folders = {("base", 0, 0): "a", ("mpd", 0, 1): "b", ("mpd", 0, 2): "c"}
    problems = asked("p0", "p1", "unused", question="x" * 5000)
    assert answer_browser.index_of(cells, answers.reverse(), problems, folders) == {
        "signs": SIGNS,
        "outcomes": answer_browser.OUTCOMES,
        "difficulties": ["never", "up to half", "more than half", "always"],
        "students": [["base", 0, 0, "a"], ["mpd", 0, 1, "b"], ["mpd", 0, 2, "c"]],
        "bases": [0, 0, 0],
        "benchmarks": ["one"],
        "problems": {
            "benchmark": [0, 0, 0],
            "id": ["p0", "p1", "p2"],
            "question": ["x" * 4000, "x" * 4000, ""],
            "gold": ["7", "7", None],
            "difficulty": [3, 0, 3],
        },
        "counts": [1] * 9,
        "cell_outcomes": [0, 0, 0, 1, 2, 4, 0, 24, 0],
        "tokens": [10, 20, 4, 5, 8, 8, 6, 9, 2],
        "verdict": {"names": ["correct", "none", "wrong"], "lines": "020200010"},
        "finish_reason": {"names": ["length", "stop"], "lines": "111111101"},
        "answer": {"names": [None, "7", "8"], "lines": [1, 2, 1, 2, 1, 1, 1, 0, 1]},
    }


def test_the_development_split_comes_last_and_difficulty_is_over_all_seeds():
    answers = {
        ("base", seed, 0, benchmark): [answer("p0", "correct" if seed else "wrong", 5)]
        for benchmark in ("dev", "zoo", "art")
        for seed in (0, 1)
    }
    cells = answer_browser.listed(cells_of(answers))
    assert cells["benchmark"].to_list() == ["art", "zoo", "dev"] * 2
    assert answer_browser.difficulties(cells)["bin"].to_list() == [1, 1, 1]  # up to half


def test_data_holds_the_texts_of_every_answer(tmp_path):
    found = data_of(tmp_path)
    blocks = blocks_of(found)
    assert list(blocks) == ["answers", "answer-texts-0"]
    (lines,) = blocks["answers"]["texts"]
    texts = dict(zip(lines, blocks["answer-texts-0"]["records"], strict=True))
    assert [texts[line]["texts"] for line in range(9)] == [
        [f"{verdict} in {tokens}"]
        for number in range(3)
        for verdict, tokens in (course[number] for course in COURSES.values())
    ]
    assert blocks["answers"]["students"][1] == ["mpd", 0, 1, "results/tiny/mpd/seed_0/round_1"]
    assert found.counts == (9, "all", "all", 1, "all")
    note = "Answers: 9. In this list: all. With texts: all. Rows “right before, wrong now”: 1, with"
    assert f"{note} texts: all.</p>" in words_of(drawn(found))


def test_data_is_the_same_bytes_again_and_holds_nothing_that_a_model_wrote(tmp_path):
    hostile = {
        place: [{**row, "text": HOSTILE, "answer": HOSTILE, "gold": HOSTILE} for row in rows]
        for place, rows in ANSWERS.items()
    }
    problems = asked(*COURSES, question=HOSTILE)
    found = data_of(tmp_path, hostile, problems)
    assert data_of(tmp_path, hostile, problems) == found
    text = drawn(found)
    assert "onerror" not in text
    assert "\u2028" not in text
    tags = re.findall(r"<script[^>]*>", text)
    assert all(tag.startswith('<script type="application/octet-stream" id="data-') for tag in tags)
    data = r'<script type="application/octet-stream" id="data-([^"]+)">([^<]*)</script>'
    assert dict(re.findall(data, text)) == found.blocks


def test_a_budget_keeps_the_texts_of_what_was_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(browser_packing, "CHUNK_CHARACTERS", 1)
    monkeypatch.setattr(answer_section, "TEXT_BYTES", 300)
    found = data_of(tmp_path)
    lines = [line for chunk in blocks_of(found)["answers"]["texts"] for line in chunk]
    assert lines[:3] == [0, 3, 6]  # p0 of the base student and of both rounds
    assert found.counts == (9, "all", f"{len(lines)} of 9", 1, "all")
    assert "The sample is fixed" in drawn(found)
    monkeypatch.setattr(answer_section, "TEXT_BYTES", 10)
    assert data_of(tmp_path).counts[2:] == ("0 of 9", 1, "0 of 1")


def test_too_many_answers_leave_out_problems_but_not_what_was_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(answer_browser, "MAX_ANSWERS", 3)
    found = data_of(tmp_path)
    assert blocks_of(found)["answers"]["problems"]["id"] == ["p0"]
    assert found.counts == (9, "3 of 9", "3 of 9", 1, "all")


def test_answers_without_a_text_are_listed(tmp_path):
    evaluations = write_answers(tmp_path, ANSWERS)
    path = tmp_path / "results/tiny/mpd/seed_0/round_1/answers/one.parquet"
    table.write(path, table.frame_of([], schema.ANSWERS), schema.ANSWERS, {})
    found = answer_section.answers_data(evaluations, asked(*COURSES), "tiny")
    assert found.counts[:3] == (9, "all", "6 of 9")


def test_data_of_no_answer(tmp_path):
    found = data_of(tmp_path, {("base", 0, 0, "one"): []})
    assert drawn(found) == "<p>No answer was graded.</p>\n"


@pytest.fixture(scope="module")
def worst():
    """The longest list, in which nothing can be deflated much."""
    draw = random.Random(0)
    size = answer_browser.MAX_ANSWERS // 30
    letters = "".join(chr(0x1F000 + draw.randrange(0xFFF)) for _ in range(10_000))
    names = [f"{draw.getrandbits(64):016x}" for _ in range(size)]
    rows = [
        answer(name, draw.choice(("correct", "wrong", "none")), draw.randrange(30_000))
        | {"answer": letters[(start := draw.randrange(9_000)) : start + 100]}
        for name in names
    ]
    one = table.frame_of(rows, schema.EVALUATE)
    answers = pl.concat(
        one.with_columns(
            pl.lit("base" if number == 0 else "mpd").alias("method"),
            pl.lit(0).alias("seed"),
            pl.lit(number).alias("round"),
            pl.lit("one").alias("benchmark"),
            num_tokens=one["num_tokens"].shuffle(number),
            answer=one["answer"].shuffle(number),
        )
        for number in range(30)
    )
    problems = asked(*names).with_columns(
        question=pl.Series([letters[number % 9_000 :][:4000] for number in range(size)])
    )
    return answers, problems


def test_the_list_stays_small_whatever_the_answers_are(worst):
    answers, problems = worst
    cells = answer_browser.listed(answer_browser.with_outcomes(answer_browser.cells_of(answers)))
    folders = dict.fromkeys(cells.select(answer_browser.STUDENT).unique().rows(), "x")
    index = answer_browser.index_of(cells, answers, problems, folders)
    assert len(index["tokens"]) == answer_browser.MAX_ANSWERS
    size = len(browser_packing.deflated(browser_packing.as_json(index)))
    # With the 19 MB of trajectories the page stays below 30 MB.
    assert size + answer_section.TEXT_BYTES < 10_500_000
