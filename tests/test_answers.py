"""answers: what the engine gives of each benchmark, one artifact for each."""

import json
import logging

import polars as pl
import pytest

from mpd import answers
from mpd.config.generation import Decoding
from mpd.config.resources import GenerationResources
from mpd.engines import transformers
from mpd.engines.base import Completion, Request, seed_of
from mpd.engines.transformers import TransformersEngine
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest
from mpd.text.questions import problem_id

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
def run(tmp_path, student, benchmarks):
    """A function that runs the stage on the named benchmarks; it returns their rows."""

    def run(*names, more=(), store="store", **changes):
        settings = {
            "benchmarks": {"dev": DECODING, "hard": {**DECODING, "num_samples": 1}},
            "chat": {"prompt": "{problem}", "thinking": True},
            "seed": 4,
            **ENGINE,
            **changes,
        }
        output = tmp_path / "answers"
        arguments = ["--settings", json.dumps(settings), "--student", str(student)]
        arguments += ["--output", str(output), "--store", str(tmp_path / store), *more]
        arguments += ["--benchmarks", *(f"{name}={benchmarks[name]}" for name in names)]
        answers.main(arguments)
        return [table.read(output / f"{name}.parquet", schema.ANSWERS) for name in names]

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


def test_rows_are_those_of_the_engine(run, tmp_path, student, benchmarks, vocabulary, tiny_prompts):
    (rows,) = run("dev")
    assert rows.columns == schema.ANSWERS.names
    problems = table.read(benchmarks["dev"], schema.PROBLEMS)
    expected = [(row["problem_id"], index) for row in problems.to_dicts() for index in (0, 1)]
    assert rows.select("problem_id", "sample_index").rows() == expected
    engine = TransformersEngine(student, "float32", GenerationResources())
    prompts = [tiny_prompts.problem_ids(q) for q in problems["question"] for _ in range(2)]
    seeds = [seed_of("evaluate", 4, *key) for key in expected]
    requests = [Request(*of) for of in zip(prompts, seeds, strict=True)]
    completions = engine.generate(requests, Decoding(**DECODING))
    assert rows["prompt_ids"].to_list() == prompts
    assert rows["completion_ids"].to_list() == [done.token_ids for done in completions]
    assert rows["text"].to_list() == [vocabulary.text(done.token_ids) for done in completions]
    assert rows["finish_reason"].to_list() == [done.finish_reason for done in completions]
    assert rows["num_tokens"].to_list() == [len(done.token_ids) for done in completions]
    footer = table.check(tmp_path / "answers" / "dev.parquet", schema.ANSWERS)
    asked = table.column_digest(benchmarks["dev"], schema.PROBLEMS, ["problem_id", "question"])
    assert footer["identity"] == {
        "student": read_manifest(student)["digest"],
        "questions": asked,
        "seed": "4",
    }


def test_a_prompt_that_does_not_fit_is_a_row(run, monkeypatch):
    """None disappears: what was not sampled says so."""
    room = TransformersEngine.fits
    monkeypatch.setattr(
        TransformersEngine,
        "fits",
        lambda self, ids, decoding: len(ids) < 16 and room(self, ids, decoding),
    )
    (rows,) = run("dev")
    left_out = rows.filter(pl.col("prompt_ids").list.len() >= 16)
    assert 0 < len(left_out) < len(rows) == 10
    columns = ("finish_reason", "num_tokens", "text")
    assert set(left_out.select(columns).rows()) == {("too_long", 0, "")}


def test_rows_do_not_depend_on_parts(run):
    (whole,) = run("dev")
    more = ("--resources", '{"rows_per_part": 3, "batch_size": 2}')
    (parts,) = run("dev", more=more, store="other")
    assert parts.equals(whole)


@pytest.fixture
def events(caplog):
    """A function that returns what became of each artifact since it was called last."""
    caplog.set_level(logging.INFO, "mpd")

    def events():
        words = [message.split()[:2] for message in caplog.messages]
        caplog.clear()
        return [first for first, *kind in words if kind == ["answers"]]

    return events


def test_a_second_benchmark_computes_only_itself(run, engines, events):
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


def test_another_gold_answer_samples_nothing_again(run, benchmarks, events):
    """It is graded by, not asked."""
    run("dev")
    problems = table.read(benchmarks["dev"], schema.PROBLEMS)
    table.write(benchmarks["dev"], problems.with_columns(gold=pl.lit("7")), schema.PROBLEMS, {})
    run("dev")
    assert events() == ["computed", "reused"]
    asked = problems.with_columns(question=pl.col("question") + "+1")
    table.write(benchmarks["dev"], asked, schema.PROBLEMS, {})
    run("dev")
    assert events() == ["computed"]


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


def test_errors_name_the_section_of_the_configuration(run, monkeypatch):
    """The engine of this stage is set in `evaluate` and `resources.evaluate`."""
    found = []
    monkeypatch.setattr(
        answers,
        "open_engine",
        lambda manifest, settings, _: found.append(settings.section) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        run("dev")
    assert found == ["evaluate"]


def test_completions_of_the_engine_are_asked_by_prompt(
    run, benchmarks, monkeypatch, tiny_format, tiny_prompts
):
    golds = dict(table.read(benchmarks["dev"], schema.PROBLEMS).select("question", "gold").rows())
    ids = {q: tiny_format.encode(rf"<think></think>\boxed{{{gold}}}") for q, gold in golds.items()}
    questions = {tuple(tiny_prompts.problem_ids(question)): question for question in golds}

    def stream(_, requests, decoding, advance):
        for number, request in enumerate(requests):
            yield number, Completion(ids[questions[tuple(request.prompt_ids)]], [], "stop")

    monkeypatch.setattr(TransformersEngine, "stream", stream)
    (rows,) = run("dev")
    expected = [rf"<think></think>\boxed{{{gold}}}" for gold in golds.values() for _ in range(2)]
    assert rows["text"].to_list() == expected


@pytest.mark.parametrize(("question", "is_input"), [("1+1", False), ("1 <think> 2", True)])
def test_text_that_once_became_control_tokens_is_an_input(tmp_path, student, question, is_input):
    path = tmp_path / "dev.parquet"
    row = {"problem_id": problem_id(question), "question": question, "gold": "2", "source_row": 0}
    table.write(path, table.frame_of([row], schema.PROBLEMS), schema.PROBLEMS, {})
    chat = {"prompt": "{problem}", "thinking": True}
    settings = {"benchmarks": {"dev": DECODING}, "chat": chat, "seed": 4, **ENGINE}
    arguments = ["--settings", json.dumps(settings), "--student", str(student)]
    arguments += ["--output", str(tmp_path / "answers"), "--benchmarks", f"dev={path}"]
    (output,) = answers.outputs(answers.command_line().parse_args(arguments))
    assert ("text_in_prompts" in output.inputs) is is_input
