"""evaluate: graded answers, one artifact for each benchmark."""

import json
import logging

import pytest

from mpd import evaluate, schema, table
from mpd.engines import transformers
from mpd.engines.transformers import TransformersEngine
from mpd.evaluate import graded
from mpd.generate import Completion, Request, seed_of
from mpd.grading import Grader

ENGINE = {"engine": "transformers", "engine_arguments": {}, "dtype": "float32"}
DECODING = {"num_samples": 2, "temperature": 0.7, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8}


@pytest.fixture
def benchmarks(tmp_path, problems):
    """Two benchmarks: the first five problems, and the others."""
    frame = table.read(problems, schema.PROBLEMS)
    paths = {}
    for name, rows in (("dev", frame[:5]), ("hard", frame[5:])):
        paths[name] = tmp_path / f"{name}.parquet"
        table.write(paths[name], rows, schema.PROBLEMS, {})
    return paths


@pytest.fixture
def run(tmp_path, student, chat, benchmarks):
    """A function that runs the stage on the named benchmarks; it returns their rows."""

    def run(*names, more=(), store="store", **changes):
        settings = {
            "benchmarks": {"dev": DECODING, "hard": {**DECODING, "num_samples": 1}},
            "chat": {key: value for key, value in chat.items() if key != "open"},
            "seed": 4,
            **ENGINE,
            **changes,
        }
        output = tmp_path / "evaluate"
        arguments = ["--settings", json.dumps(settings), "--student", str(student)]
        arguments += ["--output", str(output), "--store", str(tmp_path / store), *more]
        arguments += ["--benchmarks", *(f"{name}={benchmarks[name]}" for name in names)]
        evaluate.main(arguments)
        return [table.read(output / f"{name}.parquet", schema.EVALUATE) for name in names]

    return run


@pytest.fixture
def engines(monkeypatch):
    """The engines that were made: one entry for each."""
    made = []

    class Counted(TransformersEngine):
        def __init__(self, *arguments):
            made.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(transformers, "TransformersEngine", Counted)
    return made


def test_completions_are_graded(problems, tiny_format):
    rows = table.read(problems, schema.PROBLEMS)[[0] * 6]  # its gold answer is 2
    rows = rows.with_row_index("sample_index").cast({"sample_index": int})
    texts = [
        "<think>1+3=4. 4-2=2.</think>\\boxed{2}",
        "<think>1+3=4. 4-2=2.</think>\\boxed{3}",
        "<think>1+3=4. 4-2=2.</think>2",
        "<think>So the answer is \\boxed{2}",
    ]
    completions = [Completion(tiny_format.encode(text), [], "stop") for text in texts]
    completions[3] = Completion(completions[3].token_ids[:-1], [], "length")
    completions += [Completion([], [], "too_long"), completions[0]]
    with Grader() as grader:
        found = graded(rows, completions, tiny_format, [8, 16, 17, 18, 64], grader)
    assert found.columns == schema.EVALUATE.names
    assert found.select("answer", "verdict", "correct").rows() == [
        ("2", "correct", True),
        ("3", "wrong", False),
        (None, "none", False),
        (None, "none", False),  # thinking has no end: a box inside it is no answer
        (None, "none", False),
        ("2", "correct", True),
    ]
    assert found["text"].to_list() == [*texts, "", texts[0]]
    # Two tags, 6 pieces for each step, 3 for the box, and the stop id.
    assert found["num_tokens"].to_list() == [18, 18, 16, 8, 0, 18]
    assert found["thinking_tokens"].to_list() == [14, 14, 14, 8, 0, 14]
    # The box ends with token 17; the whole has a stop id too.
    budgets = [[17, 18, 64], [], [], [], [], [17, 18, 64]]
    assert found["correct_budgets"].to_list() == budgets
    reasons = ["stop", "stop", "stop", "length", "too_long", "stop"]
    assert found["finish_reason"].to_list() == reasons


def test_rows_are_those_of_the_engine(run, student, chat, benchmarks, tiny_format):
    (rows,) = run("dev")
    assert rows.columns == schema.EVALUATE.names
    problems = table.read(benchmarks["dev"], schema.PROBLEMS)
    expected = [(row["problem_id"], index) for row in problems.to_dicts() for index in (0, 1)]
    assert rows.select("problem_id", "sample_index").rows() == expected
    assert rows["gold"].to_list() == [gold for gold in problems["gold"] for _ in range(2)]
    engine = TransformersEngine(student, chat, "float32", batch_size=64, threads=1)
    prompts = [tiny_format.problem_ids(q) for q in problems["question"] for _ in range(2)]
    seeds = [seed_of("evaluate", 4, *key) for key in expected]
    requests = [Request(*of) for of in zip(prompts, seeds, strict=True)]
    completions = engine.generate(requests, DECODING)
    assert rows["completion_ids"].to_list() == [done.token_ids for done in completions]
    assert rows["num_tokens"].to_list() == [len(done.token_ids) for done in completions]


def test_the_largest_budget_is_that_of_the_benchmark(run, benchmarks, monkeypatch, tiny_format):
    """At it an answer is what it is without any; its budgets end there."""
    golds = dict(table.read(benchmarks["dev"], schema.PROBLEMS).select("question", "gold").rows())
    ids = {q: tiny_format.encode(rf"<think></think>\boxed{{{gold}}}") for q, gold in golds.items()}
    questions = {tuple(tiny_format.problem_ids(question)): question for question in golds}

    def complete(_, requests, decoding, advance):
        for number, request in requests:
            yield number, Completion(ids[questions[tuple(request.prompt_ids)]], [], "stop")

    monkeypatch.setattr(TransformersEngine, "_complete", complete)
    limits = {"dev": {**DECODING, "max_new_tokens": 20}}
    (rows,) = run("dev", benchmarks=limits)
    assert rows["correct"].all()
    assert set(rows["num_tokens"]) == {6}
    assert rows["correct_budgets"].to_list() == [[16, 20]] * 10


def test_rows_do_not_depend_on_parts(run):
    (whole,) = run("dev")
    more = ("--rows-per-part", "3", "--batch-size", "2")
    (parts,) = run("dev", more=more, store="other")
    assert parts.equals(whole)


def test_a_second_benchmark_computes_only_itself(run, engines, caplog):
    caplog.set_level(logging.INFO, "mpd")

    def events():
        said = [message.split()[:2] for message in caplog.messages]
        caplog.clear()
        return [first for first, *kind in said if kind == ["evaluate"]]

    (dev,) = run("dev")
    assert events() == ["computed"]
    assert len(engines) == 1
    again, _ = run("dev", "hard")
    assert events() == ["reused", "computed"]
    assert len(engines) == 2
    assert again.equals(dev)
    run("dev", "hard")
    assert events() == ["reused", "reused"]
    assert len(engines) == 2


def test_one_engine_answers_all_benchmarks(run, engines):
    dev, hard = run("dev", "hard")
    assert len(engines) == 1
    assert (len(dev), len(hard)) == (10, 3)


def test_another_seed_or_student_is_another_artifact(run, engines):
    (one,) = run("dev")
    (other,) = run("dev", seed=5)
    assert len(engines) == 2
    assert one["completion_ids"].to_list() != other["completion_ids"].to_list()


def test_a_benchmark_in_which_nothing_fits_is_refused_before_a_model_is_loaded(run, monkeypatch):
    """Else every answer would be too long, and the student would seem to think in 0 tokens."""

    def refuse(*_):
        raise AssertionError("loaded")

    monkeypatch.setattr(transformers, "load_model", refuse)
    limits = {"dev": {**DECODING, "max_new_tokens": 250}}
    message = r"no prompt leaves room for evaluate\.max_new_tokens \(benchmark dev\) = 250 in"
    with pytest.raises(ValueError, match=message):
        run("dev", benchmarks=limits)
