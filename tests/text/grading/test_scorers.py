"""Answers that the scorer of a problem grades, in workers that outlive whatever it does."""

import pytest

from mpd.config.problems import Source
from mpd.text.grading.golds import ScoredProblem
from mpd.text.grading.grader import Grader
from mpd.text.gym_problems import made_problems


@pytest.fixture
def problem_of(fake_gym):
    """A function: the only problem of a task, and its answer."""

    def make(task, **settings):
        source = Source(source="reasoning_gym", task=task, settings=settings, num_problems=1)
        (row,) = made_problems(source, 0, "train")
        return ScoredProblem(row["scorer"], row["entry"]), row["gold"]

    return make


def test_only_the_whole_score_is_correct(problem_of):
    problem, gold = problem_of("sum", bonus=3)
    other, _ = problem_of("open")
    answers = [gold, f"it is {gold}", "0", None]
    with Grader() as grader:
        verdicts = grader.grade([problem] * 4 + [other] * 3, [*answers, "4", "5", "four"])
    assert verdicts == ["correct", "wrong", "wrong", "none", "correct", "wrong", "unparsed"]


def test_one_grader_serves_both_kinds(problem_of):
    problem, gold = problem_of("sum")
    with Grader() as grader:
        assert grader.grade([r"\frac{x}{2}"], ["0.5x"]) == ["correct"]
        verdicts = grader.grade(["x+1", problem, "4"], ["1+x", gold, "4.0"])
        assert verdicts == ["correct"] * 3


def test_whatever_a_scorer_does_is_a_verdict(problem_of, tmp_path):
    problem, gold = problem_of("obeying")
    commands = {
        "raise of": "unparsed",
        "exit": "unparsed",
        "none": "unparsed",
        f"eat {2**31}": "unparsed",
        "spin": "timeout",
        "die": "unparsed",
        gold: "correct",
    }
    with Grader(deadline=1, num_workers=2) as grader:
        verdicts = grader.grade([problem] * len(commands), [*commands])
        assert dict(zip(commands, verdicts, strict=True)) == commands
        assert grader.grade([problem], [gold]) == ["correct"]


def test_a_scorer_reads_files_but_writes_none_and_starts_nothing(problem_of, tmp_path):
    problem, _ = problem_of("obeying")
    (tmp_path / "there").write_text("words of a game")
    commands = [f"read {tmp_path}/there", f"write {tmp_path}/new", f"shell {tmp_path}/new"]
    with Grader() as grader:
        assert grader.grade([problem] * 3, commands) == ["correct", "unparsed", "unparsed"]
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


SCORERS = "__import__('sys').modules['mpd.text.grading.scorers']"
CODES = [
    "__import__('sqlite3').connect('new').execute('create table new (new)')",
    "__import__('polars').DataFrame({'new': [1]}).write_csv('new')",
    f"setattr({SCORERS}._Guard, 'closed', False) or open('new', 'w')",
    f"setattr({SCORERS}, 'scored', lambda *words: 1.0)",
    "(one for one in ()).gi_frame.f_builtins['open']('new', 'w')",
    "(lambda: 1)()",
    "lambdify('x', 'open(chr(120), chr(119))')(1)",
]


def test_an_answer_that_is_evaluated_only_computes(problem_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Grader(num_workers=1) as grader:
        for task in ("evaluating", "parsing"):
            problem, gold = problem_of(task)
            answers = [*CODES, gold, f"{gold}+1", f"({gold})*1"]
            verdicts = grader.grade([problem] * len(answers), answers)
            assert verdicts == ["unparsed"] * len(CODES) + ["correct", "wrong", "correct"]
    assert not list(tmp_path.iterdir())


def test_sympy_reads_the_mathematics_of_an_answer(problem_of):
    problem, gold = problem_of("parsing")
    answers = [f"{gold} + sin(x)**2 + cos(x)**2 - sin(x)**2 - cos(x)**2", f"sqrt({gold}**2)"]
    with Grader() as grader:
        assert grader.grade([problem] * 2, answers) == ["correct"] * 2


def test_another_version_is_refused(problem_of):
    problem, gold = problem_of("sum")
    older = problem._replace(scorer="reasoning-gym==0.0.0:sum")
    with (
        Grader() as grader,
        pytest.raises(ValueError, match=r"reasoning-gym 0\.0\.0, but 0\.0\.1 is"),
    ):
        grader.grade([older], [gold])
