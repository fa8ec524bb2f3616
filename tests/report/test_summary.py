import pytest

from mpd.report.summary import summarise, summary_frame
from mpd.store import schema, table
from tests.test_report import evaluated

PLACE = {"method": "mpd", "round": 1, "seed": 0, "benchmark": "one"}
CUT = {"finish_reason": "length", "answer": None, "verdict": "none"}


def test_summarise_takes_problems_as_the_units():
    answered = evaluated(
        *[("a", True, 10), ("a", True, 20), ("a", True, 30), ("a", False, 40)],
        *[("b", True, 100), ("b", False, 100), ("b", False, 100), ("b", False, 300, CUT)],
        *[("c", False, 5), ("c", False, 5), ("c", False, 5), ("c", False, 5, CUT)],
    )
    # Accuracies of the problems: 3/4, 1/4, 0. Mean 1/3, variance (squares 25, 1, 16)/144/2.
    # Tokens of the problems: 25, 150, 5. Mean 60, variance (35² + 90² + 55²)/2 = 6175.
    assert summarise(PLACE, answered) == {
        **PLACE,
        "num_problems": 3,
        "num_samples": 4,
        "accuracy": pytest.approx(1 / 3, rel=1e-14),
        "accuracy_se": pytest.approx((42 / 144 / 2 / 3) ** 0.5, rel=1e-14),
        "pass_at_k": 2 / 3,
        "mean_tokens": 60.0,
        "mean_tokens_se": pytest.approx((6175 / 3) ** 0.5, rel=1e-14),
        "tokens_p10": 5.0,  # of 5 5 5 5 10 20 30 40 100 100 100 300
        "tokens_median": 25.0,
        "tokens_p90": 100.0,
        "tokens_max": 300.0,
        "thinking_tokens": 0.0,
        "answer_tokens": 60.0,
        "solved_tokens": 60.0,  # of 20 and 100
        "tokens_per_correct": 180.0,
        "truncation_rate": 2 / 12,
        "no_answer_rate": 2 / 12,
        "timeout_rate": 0.0,
    }


def test_summarise_counts_truncated_and_answerless_apart():
    answered = evaluated(
        ("a", False, 9, {"finish_reason": "length"}),
        ("b", False, 9, {"answer": None, "verdict": "none"}),
        ("c", False, 9, {"answer": None, "verdict": "none"}),
        ("d", False, 9, {"finish_reason": "too_long", "answer": None, "verdict": "none"}),
    )
    summary = summarise(PLACE, answered)
    assert (summary["truncation_rate"], summary["no_answer_rate"]) == (0.25, 0.75)
    assert (summary["accuracy"], summary["accuracy_se"]) == (0.0, 0.0)


def test_summarise_counts_answers_on_which_the_checker_gave_up():
    answered = evaluated(
        *[("a", False, 9, {"verdict": "timeout"}), ("b", False, 9), ("c", True, 9)],
        ("d", False, 9, {"verdict": "timeout"}),
    )
    summary = summarise(PLACE, answered)
    assert (summary["timeout_rate"], summary["accuracy"]) == (0.5, 0.25)


NO_ROOM = {"finish_reason": "too_long", "answer": None, "verdict": "none"}


def test_summarise_takes_no_tokens_from_what_was_never_sampled():
    answered = evaluated(
        *[("a", True, 10), ("a", False, 0, NO_ROOM)],
        *[("b", True, 20), ("b", True, 40)],
        *[("c", False, 0, NO_ROOM), ("c", False, 0, NO_ROOM)],
    )
    summary = summarise(PLACE, answered)
    assert (summary["num_problems"], summary["num_samples"]) == (3, 2)
    assert summary["accuracy"] == 0.5  # of 1/2, 1 and 0
    assert (summary["mean_tokens"], summary["mean_tokens_se"]) == (20.0, 10.0)  # of 10 and 30
    assert (summary["truncation_rate"], summary["no_answer_rate"]) == (0.0, 0.5)


def test_summarise_refuses_a_student_that_answered_nothing():
    with pytest.raises(ValueError) as caught:
        summarise(PLACE, evaluated(("a", False, 0, NO_ROOM), ("b", False, 0, NO_ROOM)))
    assert str(caught.value) == (
        "benchmark one: mpd, seed 0, round 1 answered nothing, since no prompt leaves room for "
        "max_new_tokens in the student's context; lower evaluate.max_new_tokens, or that of the "
        "benchmark"
    )


def test_summarise_one_problem_has_no_standard_error():
    summary = summarise(PLACE, evaluated(("a", True, 4), ("a", False, 8)))
    assert summary["accuracy"] == 0.5
    assert summary["accuracy_se"] == summary["mean_tokens_se"] == 0.0
    assert (summary["num_problems"], summary["num_samples"]) == (1, 2)


def test_summarise_tells_what_tokens_were_spent_on():
    answered = evaluated(
        *[("a", True, 10, {"thinking_tokens": 6}), ("a", False, 40, {"thinking_tokens": 40})],
        *[("b", True, 20, {"thinking_tokens": 10}), ("b", True, 30, {"thinking_tokens": 20})],
        *[("c", False, 60, {"thinking_tokens": 50}), ("c", False, 0, NO_ROOM)],
    )
    summary = summarise(PLACE, answered)
    assert summary["pass_at_k"] == 2 / 3
    # By problem: 25, 25 and 60 tokens, of which 23, 15 and 50 are thinking.
    assert summary["mean_tokens"] == pytest.approx(110 / 3)
    assert summary["thinking_tokens"] == pytest.approx(88 / 3)
    assert summary["answer_tokens"] == pytest.approx(22 / 3)
    assert summary["solved_tokens"] == 17.5  # of 10 and 25
    assert summary["tokens_per_correct"] == 160 / 3


def test_summarise_has_no_tokens_of_correct_answers_where_there_are_none():
    summary = summarise(PLACE, evaluated(("a", False, 10), ("b", False, 20)))
    assert (summary["accuracy"], summary["pass_at_k"]) == (0.0, 0.0)
    assert (summary["solved_tokens"], summary["tokens_per_correct"]) == (None, None)


def write(folder, **students):
    """Evaluations on disk with their places; students given as method_seed_benchmark."""
    evaluations = {}
    for name, answers in students.items():
        method, seed, benchmark = name.split("_")
        path = folder / f"{name}.parquet"
        table.write(path, evaluated(*answers), schema.EVALUATE, {})
        place = {"method": method, "round": int(method != "base"), "seed": int(seed)}
        evaluations[path] = {**place, "benchmark": benchmark}
    return evaluations


def test_summary_has_aes_against_the_base_student_of_the_same_seed_and_benchmark(tmp_path):
    half, all_of_it, none = (
        [("a", first, 10), ("b", second, 10)]
        for first, second in ((True, False), (True, True), (False, False))
    )
    short = [("a", True, 2), ("b", False, 3)]
    evaluations = write(
        tmp_path,
        mpd_0_one=short,
        base_0_one=half,
        mpd_0_two=half,
        base_0_two=all_of_it,
        mpd_1_one=short,
        base_1_one=none,
        mpd_2_one=short,
    )
    found = summary_frame(evaluations)
    assert found.to_arrow().schema == table.arrow_schema(schema.SUMMARY)
    assert found.select("method", "seed", "benchmark", "aes").rows() == [
        ("base", 0, "one", None),
        ("base", 0, "two", None),
        ("base", 1, "one", None),
        ("mpd", 0, "one", 0.75),
        ("mpd", 0, "two", -2.5),
        ("mpd", 1, "one", None),  # its base student solves nothing
        ("mpd", 2, "one", None),  # there is no base student of its seed
    ]
