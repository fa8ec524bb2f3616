"""evaluate: answers graded, without a model."""

import json
import logging
import re
import subprocess
import sys

import polars as pl
import pytest

from mpd import evaluate
from mpd.config.chat import ReadingChat
from mpd.evaluate import graded, with_golds
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest
from mpd.text.completions import CompletionReader
from mpd.text.grading.grader import Grader
from mpd.text.vocabulary import TokenizerFile

CHAT = {"think": "tags", "close": "</think>"}
TEXTS = [
    "<think>1+3=4. 4-2=2.</think>\\boxed{2}",
    "<think>1+3=4. 4-2=2.</think>\\boxed{3}",
    "<think>1+3=4. 4-2=2.</think>2",
    "<think>So the answer is \\boxed{2}",
]


def answers_of(format, problem_ids, texts, **changes):
    """Answers of these texts, one sample after another to each problem."""
    rows = []
    for problem_id in problem_ids:
        for index, text in enumerate(texts):
            ids = format.encode(text)
            row = {
                "problem_id": problem_id,
                "sample_index": index,
                "prompt_ids": [1],
                "completion_ids": ids,
                "text": text,
                "finish_reason": "stop",
                "num_tokens": len(ids),
            }
            rows.append({**row, **changes})
    return table.frame_of(rows, schema.ANSWERS)


def test_answers_are_graded(problems, student, tiny_format):
    problem = table.read(problems, schema.PROBLEMS)[:1]  # its gold answer is 2
    answers = answers_of(tiny_format, problem["problem_id"], [*TEXTS, "", TEXTS[0]])
    cut = pl.col("sample_index") == 3
    unasked = pl.col("sample_index") == 4
    answers = answers.with_columns(
        completion_ids=pl.when(unasked)
        .then(pl.lit([], pl.List(pl.Int32)))
        .when(cut)
        .then(pl.col("completion_ids").list.head(8))
        .otherwise("completion_ids"),
        finish_reason=pl.when(unasked)
        .then(pl.lit("too_long"))
        .when(cut)
        .then(pl.lit("length"))
        .otherwise("finish_reason"),
    ).with_columns(num_tokens=pl.col("completion_ids").list.len().cast(pl.Int32))
    with Grader() as grader:
        rows = with_golds(problem, answers)
        found = graded(
            rows,
            CompletionReader(TokenizerFile(student.parent), ReadingChat(**CHAT)),
            [8, 16, 17, 18, 64],
            grader,
        )
    assert found.columns == schema.EVALUATE.names
    key = ["problem_id", "sample_index", "finish_reason", "num_tokens"]
    assert found.select(key).equals(answers.select(key))
    assert found["gold"].to_list() == ["2"] * 6
    assert found.select("answer", "verdict", "correct").rows() == [
        ("2", "correct", True),
        ("3", "wrong", False),
        (None, "none", False),
        (None, "none", False),  # thinking has no end: a box inside it is no answer
        (None, "none", False),
        ("2", "correct", True),
    ]
    # Two tags, 6 pieces for each step, 3 for the box, and the stop id.
    assert found["num_tokens"].to_list() == [18, 18, 16, 8, 0, 18]
    assert found["thinking_tokens"].to_list() == [14, 14, 14, 8, 0, 14]
    # The box ends with token 17; the whole has a stop id too.
    budgets = [[17, 18, 64], [], [], [], [], [17, 18, 64]]
    assert found["correct_budgets"].to_list() == budgets


def test_answers_and_problems_of_other_benchmarks_are_refused(problems, tiny_format):
    frame = table.read(problems, schema.PROBLEMS)
    answers = answers_of(tiny_format, frame["problem_id"][:3], TEXTS[:2])
    assert with_golds(frame[:3], answers)["gold"].to_list() == ["2", "2", "8", "8", "6", "6"]
    for other, counts in (
        (frame[:4], "6 of 6 answers have their problem, and 3 of 4 problems an answer"),
        (frame[:2], "4 of 6 answers have their problem, and 2 of 2 problems an answer"),
    ):
        with pytest.raises(ValueError, match=f"^{counts}: they do not belong to one benchm"):
            with_golds(other, answers)


@pytest.fixture
def files(tmp_path, problems, student, tiny_format):
    """Problems and answers by benchmark: five problems with two samples, and three with one."""
    frame = table.read(problems, schema.PROBLEMS)
    identity = {"student": read_manifest(student)["digest"]}
    paths = {}
    for name, rows, texts in (("dev", frame[:5], TEXTS[:2]), ("hard", frame[5:], TEXTS[:1])):
        paths[name] = tmp_path / f"{name}.parquet", tmp_path / f"answers_{name}.parquet"
        table.write(paths[name][0], rows, schema.PROBLEMS, {})
        answers = answers_of(tiny_format, rows["problem_id"], texts)
        asked = table.column_digest(paths[name][0], schema.PROBLEMS, ["problem_id", "question"])
        table.write(paths[name][1], answers, schema.ANSWERS, {**identity, "questions": asked})
    return paths


@pytest.fixture
def arguments_of(tmp_path, student, files):
    """A function that gives the command line of the stage on the named benchmarks."""

    def arguments(*names, more=(), **changes):
        limits = {"dev": {"max_new_tokens": 20}, "hard": {"max_new_tokens": 64}}
        settings = {"benchmarks": limits, "chat": CHAT, **changes}
        given = ["--settings", json.dumps(settings), "--student", str(student), *more]
        given += ["--output", str(tmp_path / "evaluate"), "--store", str(tmp_path / "store")]
        given += ["--benchmarks", *(f"{name}={files[name][0]}" for name in names)]
        return [*given, "--answers", *(f"{name}={files[name][1]}" for name in names)]

    return arguments


@pytest.fixture
def run(tmp_path, arguments_of):
    """A function that runs the stage on the named benchmarks; it returns their rows."""

    def run(*names, **changes):
        evaluate.main(arguments_of(*names, **changes))
        folder = tmp_path / "evaluate"
        return [table.read(folder / f"{name}.parquet", schema.EVALUATE) for name in names]

    return run


def test_every_answer_is_graded_up_to_the_budget_of_its_benchmark(run, tmp_path, student, files):
    dev, hard = run("dev", "hard")
    assert (len(dev), len(hard)) == (10, 3)
    answers = table.read(files["dev"][1], schema.ANSWERS)
    assert dev.select("problem_id", "sample_index").equals(
        answers.select("problem_id", "sample_index")
    )
    # Of the golds 2, 8, 6, 3 and 1 the samples say 2 and 3.
    right = [True, False, *[False] * 4, False, True, False, False]
    assert dev["correct"].to_list() == right
    assert dev["correct_budgets"].to_list() == [[20] if of else [] for of in right]
    assert hard["correct_budgets"].to_list() == [[], [], [24, 32, 48, 64]]  # golds 6, 4 and 2
    footer = table.check(tmp_path / "evaluate" / "dev.parquet", schema.EVALUATE)
    assert footer["identity"] == {
        "student": read_manifest(student)["digest"],
        "problems": table.content_digest(files["dev"][0], schema.PROBLEMS),
        "answers": table.content_digest(files["dev"][1], schema.ANSWERS),
    }


def test_rows_do_not_depend_on_parts(run, monkeypatch, tmp_path):
    (whole,) = run("dev")
    monkeypatch.setattr(evaluate, "ROWS_PER_PART", 3)
    (parts,) = run("dev", more=("--store", str(tmp_path / "other")))
    assert parts.equals(whole)


def test_what_is_graded_by_decides_what_is_graded_again(run, files, caplog):
    caplog.set_level(logging.INFO, "mpd")

    def events():
        words = [message.split()[:2] for message in caplog.messages]
        caplog.clear()
        return [first for first, *kind in words if kind == ["evaluate"]]

    run("dev")
    assert events() == ["computed"]
    run("dev", "hard")
    assert events() == ["reused", "computed"]
    run("dev", "hard", chat={**CHAT, "think": "none"})
    assert events() == ["computed", "computed"]
    run("dev", benchmarks={"dev": {"max_new_tokens": 24}})
    assert events() == ["computed"]
    problems = table.read(files["dev"][0], schema.PROBLEMS)
    table.write(files["dev"][0], problems.with_columns(gold=pl.lit("3")), schema.PROBLEMS, {})
    dev, _ = run("dev", "hard")
    assert events() == ["computed", "reused"]
    assert dev["correct"].to_list() == [False, True] * 5


def test_answers_of_another_student_are_refused(run, files):
    answers = table.read(files["dev"][1], schema.ANSWERS)
    table.write(files["dev"][1], answers, schema.ANSWERS, {"student": "another"})
    with pytest.raises(ValueError, match=r"answers_dev\.parquet: its student is another, but"):
        run("dev")


def test_a_benchmark_without_answers_is_refused(arguments_of):
    arguments = arguments_of("dev", "hard")
    with pytest.raises(ValueError, match="--answers: none to benchmark hard; give hard=<its file>"):
        evaluate.main(arguments[:-1])


def test_a_file_without_a_name_is_refused(arguments_of, files):
    arguments = arguments_of("dev")
    arguments[-1] = str(files["dev"][1])
    message = f"argument --answers: expected name=answers.parquet, found {files['dev'][1]}"
    with pytest.raises(ValueError, match=re.escape(message)):
        evaluate.main(arguments)


def test_one_pool_of_workers_grades_all_benchmarks_and_parts(run, files, monkeypatch, checked):
    """Golds that are no integers need a worker; each of them takes seconds to start."""
    monkeypatch.setattr(evaluate, "ROWS_PER_PART", 4)
    for problems, _ in files.values():
        frame = table.read(problems, schema.PROBLEMS)
        golds = pl.Series("gold", [f"x{number}" for number in range(len(frame))])
        table.write(problems, frame.with_columns(golds), schema.PROBLEMS, {})
    dev, hard = run("dev", "hard")
    assert [*dev["verdict"], *hard["verdict"]] == ["wrong"] * 13
    assert checked().count("started") == 1
    assert len(checked()) == 1 + 13


def test_it_loads_no_torch_and_no_pandas(arguments_of, tmp_path):
    """Run to its end, in a process of its own."""
    code = (
        "import sys; from mpd import evaluate\n"
        "if __name__ == '__main__':\n"
        "    evaluate.main(sys.argv[1:])\n"
        "    print([name for name in ('torch', 'transformers', 'pandas') if name in sys.modules])\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    command = [sys.executable, str(script), *arguments_of("dev", "hard")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    rows = table.read(tmp_path / "evaluate" / "hard.parquet", schema.EVALUATE)
    assert len(rows) == 3
