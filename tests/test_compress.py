"""compress: what the teacher is asked, and what becomes of its answers."""

import copy
import json
import shutil

import polars as pl
import pytest

from mpd import compress
from mpd.compress import read_rows, verbatim_candidates
from mpd.config.compress import NoRewrite, TeacherRewrite
from mpd.engines import transformers
from mpd.engines.base import Completion, seed_of
from mpd.engines.rewriting import require_prompts, rewriter
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest, write_manifest
from mpd.text.prompts import Prompts
from mpd.text.vocabulary import Vocabulary
from tests.changes import with_changes

PROMPT = "{problem}\n{trajectory}\nrewrite"
GOOD = "1+3=4. 4-2=2.\n\\boxed{2}"


class Teacher:
    """An engine that notes what it is asked and answers from a list of completions."""

    def __init__(self, vocabulary, *answers, context_length=256):
        self.vocabulary = vocabulary
        self.context_length = context_length
        self.answers = answers
        self.requests = []

    def fits(self, prompt_ids, decoding):
        return len(prompt_ids) + decoding.max_new_tokens <= self.context_length

    def stream(self, requests, decoding, advance):
        self.requests += requests
        for number, done in enumerate(self.answers[: len(requests)]):
            advance(1, len(done.token_ids))
            yield number, done


@pytest.fixture
def completion_of(vocabulary):
    """A function that makes a completion of plain text."""

    def complete(text, finish_reason="stop"):
        ids = vocabulary.encode_plain(text)
        stop = vocabulary.stop_ids if finish_reason == "stop" else []
        return Completion([*ids, *stop], [], finish_reason)

    return complete


@pytest.fixture
def settings(chat):
    return TeacherRewrite(
        temperature=0.6,
        max_new_tokens=8,
        prompt=PROMPT,
        rewriter="teacher",
        chat=chat.model_dump(include={"think", "open", "close"}),
        seed=3,
    )


@pytest.fixture
def rows(shard):
    """Samples with their questions, as a part of the stage has them."""
    questions = table.read(shard["problems"], schema.PROBLEMS).select("problem_id", "question")
    return table.read(shard["sample"], schema.SAMPLE).join(
        questions, "problem_id", maintain_order="left"
    )


@pytest.fixture
def run(tmp_path, shard, student, teacher, settings):
    """A function that runs the stage; it returns the rows."""

    def run(
        *more,
        of=student,
        by=teacher,
        problems=shard["problems"],
        sample=shard["sample"],
        settings=settings,
        **changes,
    ):
        output = tmp_path / "compress.parquet"
        arguments = ["--settings", json.dumps({**settings.model_dump(), **changes})]
        arguments += ["--output", str(output)]
        arguments += ["--problems", str(problems), "--sample", str(sample)]
        arguments += ["--student", str(of), "--teacher", str(by)]
        compress.main([*arguments, "--store", str(tmp_path / "store"), *more])
        return table.read(output, schema.COMPRESS)

    return run


def test_a_rewrite_becomes_the_trained_sequence(
    rows, settings, vocabulary, tiny_format, completion_of
):
    engine = Teacher(vocabulary, completion_of(GOOD))
    (row,) = rewriter(engine, tiny_format, settings, 1, 256)(rows[:1]).to_dicts()
    ids = tiny_format.encode("<think>1+3=4. 4-2=2.</think>\\boxed{2}")
    assert row == {
        "sample_id": rows["sample_id"][0],
        "candidate": 0,
        "status": "ok",
        "rewrite": GOOD,
        "rewrite_tokens": len(completion_of(GOOD).token_ids),
        "text": "<think>1+3=4. 4-2=2.</think>\\boxed{2}",
        "completion_ids": ids,
        "num_tokens": len(ids),
    }


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        ("4-2=3.\n\\boxed{3}\n</think>\n", GOOD, "ok"),
        ("", f"</think>{GOOD}", "ok"),
        ("4-2=3.</think>", f"<think>{GOOD}</think>\\boxed{{2}}", "ok"),
        ("4-2=3.\n\\boxed{3}\n", "", "format"),  # it never ends
    ],
)
def test_thoughts_of_a_teacher_that_always_thinks_are_not_trained(
    rows, settings, vocabulary, tiny_format, before, after, status
):
    tokenizer = copy.deepcopy(vocabulary.tokenizer)
    tokenizer.chat_template += "{{- '<think>\\n' -}}"
    always = Vocabulary(tokenizer, vocabulary.stop_ids)
    ids = [*always.encode(before + after), *always.stop_ids]
    work = rewriter(Teacher(always, Completion(ids, [], "stop")), tiny_format, settings, 1, 256)
    (row,) = work(rows[:1]).to_dicts()
    assert (row["status"], row["rewrite"]) == (status, before + after)
    answers = [GOOD.replace("\n", "</think>"), f"{GOOD}</think>\\boxed{{2}}"]
    expected = [f"<think>{answer}" for answer in answers]
    assert row["text"] in (expected if status == "ok" else [None])


def test_the_teacher_sees_problem_and_trajectory_and_no_gold(
    rows, settings, vocabulary, tiny_format, completion_of
):
    # The gold answer is in the table, so a leak would show: no trajectory holds a 77.
    rows = rows.with_columns(gold=pl.lit("77"))
    engine = Teacher(vocabulary, *[completion_of(GOOD)] * 8)
    rewriter(engine, tiny_format, settings, len(rows), 256)(rows)
    assert len(engine.requests) == 8
    for request, row in zip(engine.requests, rows.to_dicts(), strict=True):
        content = f"{row['question']}\n{row['text']}\nrewrite"
        assert vocabulary.tokenizer.decode(request.prompt_ids) == (
            f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n<think></think>"
        )
        assert request.seed == seed_of("compress", 3, row["sample_id"], 0)


def test_thinking_of_the_rewriting_call_is_a_setting(
    rows, settings, vocabulary, tiny_format, completion_of
):
    engine = Teacher(vocabulary, completion_of(GOOD))
    rewriter(engine, tiny_format, with_changes(settings, thinking=True), 1, 256)(rows[:1])
    text = vocabulary.tokenizer.decode(engine.requests[0].prompt_ids)
    assert text.endswith("<|im_start|>assistant\n")


def test_every_candidate_has_its_row_and_seed(
    rows, settings, vocabulary, tiny_format, completion_of
):
    answers = [
        completion_of(GOOD),
        completion_of("no"),
        completion_of("1\n\\boxed{2}"),
        completion_of("2\n\\boxed{2}"),
    ]
    engine = Teacher(
        vocabulary, *answers, completion_of("3\n\\boxed{2}"), completion_of("4\n\\boxed{2}")
    )
    found = rewriter(engine, tiny_format, with_changes(settings, num_samples=3), 2, 256)(rows[:2])
    one, two = rows["sample_id"][:2]
    assert found.select("sample_id", "candidate", "status", "rewrite").rows() == [
        (one, 0, "ok", GOOD),
        (one, 1, "format", "no"),
        (one, 2, "ok", "1\n\\boxed{2}"),
        (two, 0, "ok", "2\n\\boxed{2}"),
        (two, 1, "ok", "3\n\\boxed{2}"),
        (two, 2, "ok", "4\n\\boxed{2}"),
    ]
    seeds = [seed_of("compress", 3, row, candidate) for row in (one, two) for candidate in range(3)]
    assert [request.seed for request in engine.requests] == seeds


def test_what_cannot_be_rewritten_is_a_row_with_a_status(
    rows, settings, vocabulary, tiny_format, completion_of
):
    reasons = ["length", "stop", "too_long", "stop", "stop", "stop", "stop", "lossy"]
    rows = rows[:8].with_columns(
        finish_reason=pl.Series(reasons),
        text=pl.when(pl.int_range(8) == 3).then(pl.lit("Zebra")).otherwise("text"),
    )
    engine = Teacher(
        vocabulary,
        completion_of(GOOD),
        completion_of(GOOD, "length"),
        Completion([], [], "too_long"),
        completion_of("no answer is"),
    )
    found = rewriter(engine, tiny_format, settings, len(rows), 256)(rows)
    assert found["sample_id"].to_list() == rows["sample_id"].to_list()
    assert found["status"].to_list() == [
        "sample_truncated",
        "ok",
        "sample_too_long",
        "sample_unsayable",
        "rewrite_truncated",
        "rewriting_prompt_too_long",
        "format",
        "sample_lossy",
    ]
    built = found["completion_ids"].is_not_null().to_list()
    assert built == found["num_tokens"].is_not_null().to_list()
    assert built == [False, True] + [False] * 6
    # A cut rewrite is kept as text, though it is well formed: it may lack its end.
    assert found["rewrite"].to_list()[4] == GOOD
    assert found["rewrite_tokens"].to_list()[:5] == [0, 17, 0, 0, 16]
    assert len(engine.requests) == 4


def test_a_rewrite_that_spells_a_control_token_is_no_sequence(
    rows, settings, vocabulary, tiny_format
):
    control = vocabulary.tokenizer.convert_tokens_to_ids("<|im_start|>")
    ids = [
        *vocabulary.encode_plain("1+3=4."),
        control,
        *vocabulary.encode_plain("\n\\boxed{2}"),
    ]
    engine = Teacher(vocabulary, Completion([*ids, *vocabulary.stop_ids], [], "stop"))
    (row,) = rewriter(engine, tiny_format, settings, 1, 256)(rows[:1]).to_dicts()
    assert (row["status"], row["completion_ids"]) == ("format", None)
    assert row["rewrite"] == "1+3=4.<|im_start|>\n\\boxed{2}"


def test_a_run_in_which_no_rewriting_prompt_fits_is_refused(rows, settings, vocabulary):
    prompts = Prompts(vocabulary, PROMPT, "compress.prompt", False, None)
    shortest = min(
        len(prompts.ids(problem=row["question"], trajectory=row["text"])) for row in rows.to_dicts()
    )
    engine = Teacher(vocabulary, context_length=shortest + 7)
    message = rf"compress\.max_new_tokens = 8 in the model's context of {shortest + 7} tokens"
    with pytest.raises(ValueError, match=message):
        require_prompts(engine, settings, rows)
    engine.context_length += 1  # one row fits: the others are rows with a verdict
    require_prompts(engine, settings, rows)


def test_a_shard_without_whole_trajectories_is_no_error(rows, settings, vocabulary, tiny_format):
    rows = rows.with_columns(finish_reason=pl.lit("length"))
    engine = Teacher(vocabulary, context_length=0)
    require_prompts(engine, settings, rows)
    found = rewriter(engine, tiny_format, settings, len(rows), 256)(rows)
    assert found["status"].to_list() == ["sample_truncated"] * 8


def test_a_template_with_an_unknown_word_is_refused(rows, settings, vocabulary):
    engine = Teacher(vocabulary)
    with pytest.raises(ValueError, match=r"^compress\.prompt: .* no token for 'Zebra'"):
        require_prompts(engine, with_changes(settings, prompt=f"{PROMPT} Zebra"), rows)


def test_the_stage_on_a_random_teacher(run, settings, tmp_path, student, teacher, shard):
    found = run(num_samples=2)
    assert found.columns == schema.COMPRESS.names
    samples = table.read(shard["sample"], schema.SAMPLE)["sample_id"].to_list()
    assert found["sample_id"].to_list() == [name for name in samples for _ in range(2)]
    assert found["candidate"].to_list() == [0, 1] * 8
    assert set(found["status"]) <= {"format", "rewrite_truncated"}  # it writes noise
    assert found["rewrite_tokens"].is_between(1, 8).all()
    identity = table.check(tmp_path / "compress.parquet", schema.COMPRESS)["identity"]
    assert identity == {
        "teacher": read_manifest(teacher)["digest"],
        "token_map": read_manifest(student)["token_map"],
        "problems": table.content_digest(shard["problems"], schema.PROBLEMS),
        "sample": table.content_digest(shard["sample"], schema.SAMPLE),
        "seed": str(settings.seed),
    }


def test_rows_do_not_depend_on_parts(run, tmp_path):
    whole = run()
    shutil.rmtree(tmp_path / "store")
    assert run("--resources", '{"rows_per_part": 3, "batch_size": 2}').equals(whole)


def test_prompts_are_refused_before_a_model_is_loaded(run, monkeypatch):
    def refuse(*_):
        raise AssertionError("loaded")

    monkeypatch.setattr(transformers, "load_model", refuse)
    message = r"no prompt leaves room for compress\.max_new_tokens .* or sample\.max_new_tokens"
    with pytest.raises(ValueError, match=message):
        run(max_new_tokens=256)
    with pytest.raises(ValueError, match=r"^compress\.prompt: .* no token for 'Zebra'"):
        run(prompt=f"{PROMPT} Zebra")


def test_different_token_maps_are_refused_before_a_model_is_loaded(
    run, teacher, tmp_path, monkeypatch
):
    other = tmp_path / "other"
    shutil.copytree(teacher.parent, other)
    state = json.loads((other / "tokenizer.json").read_text())
    vocabulary = state["model"]["vocab"]
    vocabulary["1"], vocabulary["2"] = vocabulary["2"], vocabulary["1"]
    (other / "tokenizer.json").write_text(json.dumps(state))
    (other / "manifest.json").unlink()
    write_manifest(other)
    loaded = []
    monkeypatch.setattr(transformers, "TransformersEngine", lambda *_: loaded.append(1))
    with pytest.raises(ValueError, match="student and teacher have different token maps"):
        run(by=other / "manifest.json")
    assert not loaded
    assert not (tmp_path / "store").exists()


def test_samples_of_other_problems_are_refused(run, problems, tmp_path):
    path = tmp_path / "problems.parquet"
    table.write(path, table.read(problems, schema.PROBLEMS)[1:], schema.PROBLEMS, {})
    with pytest.raises(ValueError, match=r"sample\.parquet: it was made from problems "):
        run(problems=path)


def test_samples_of_a_problem_that_is_missing_are_refused(shard, problems, tmp_path):
    """Whatever their footers say."""
    path = tmp_path / "problems.parquet"
    table.write(path, table.read(problems, schema.PROBLEMS)[1:], schema.PROBLEMS, {})
    with pytest.raises(ValueError, match="the shards do not belong together"):
        read_rows(path, shard["sample"], {})


def test_a_rewrite_that_fits_no_context_is_a_verdict(
    rows, settings, vocabulary, tiny_format, completion_of
):
    prompt = rows["prompt_ids"][0].to_list()
    length = len(tiny_format.encode("<think>1+3=4. 4-2=2.</think>\\boxed{2}"))
    for room, status in ((length, "ok"), (length - 1, "rewrite_too_long")):
        engine = Teacher(vocabulary, completion_of(GOOD))
        work = rewriter(engine, tiny_format, settings, 1, len(prompt) + room)
        (row,) = work(rows[:1]).to_dicts()
        assert row["status"] == status
        assert row["num_tokens"] == (length if status == "ok" else None)


def test_samples_of_another_student_are_refused(run, teacher):
    with pytest.raises(ValueError, match=r"sample\.parquet: its student is .* is wanted"):
        run(of=teacher)


@pytest.fixture
def given(shard, tmp_path):
    """The samples as if the user had given them: of no student."""
    path = tmp_path / "given.parquet"
    identity = dict(table.check(shard["sample"], schema.SAMPLE)["identity"])
    del identity["student"]
    table.write(path, table.read(shard["sample"], schema.SAMPLE), schema.SAMPLE, identity)
    return path


def test_of_the_student_the_context_and_the_tokenizer_count(
    run, given, student, teacher, variant, caplog
):
    """They decide what is too long and what ends a trained sequence; the weights do not."""
    run(sample=given)
    caplog.set_level("INFO", "mpd")

    def events(of):
        caplog.clear()
        run(sample=given, of=of)
        return [message.split()[0] for message in caplog.messages if "compress" in message]

    assert events(teacher) == ["reused"]
    assert events(variant("config.json", max_position_embeddings=128)) == ["computed"]
    assert events(variant("generation_config.json", eos_token_id=[1, 2])) == ["computed"]


def test_a_day_that_is_missing_is_no_unsayable_sample(run, given, variant):
    asking = variant("chat_template.jinja", "{{ strftime_now('%w') }}")
    with pytest.raises(ValueError, match=r"puts the day into prompts, and chat\.date is null"):
        run(sample=given, by=asking)


def test_without_a_rewriter_trajectories_pass_verbatim(rows, vocabulary):
    stop = vocabulary.stop_ids[0]
    ids = [[5, 6, stop], [7, 8], [], [9, 10]]
    rows = rows[:4].with_columns(
        finish_reason=pl.Series(["stop", "length", "too_long", "stop"]),
        completion_ids=pl.Series(ids, dtype=pl.List(pl.Int32)),
        text=pl.Series(["one", "two", "", "four"]),
    )
    found = verbatim_candidates(rows, [stop])
    assert found["sample_id"].to_list() == rows["sample_id"].to_list()
    columns = ("candidate", "status", "rewrite", "rewrite_tokens", "text", "completion_ids")
    assert found.select(*columns, "num_tokens").rows() == [
        (0, "ok", None, 0, "one", [5, 6, stop], 3),
        (0, "sample_truncated", None, 0, "two", [7, 8], 2),
        (0, "sample_too_long", None, 0, None, None, None),
        (0, "format", None, 0, "four", [9, 10], 2),  # it stopped at an id that does not stop here
    ]


def test_passing_asks_no_teacher(run, settings, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("loaded")

    monkeypatch.setattr(transformers, "load_model", refuse)
    found = run(settings=NoRewrite(rewriter="none", chat=settings.chat.model_dump()))
    assert found["rewrite"].null_count() == len(found) > 0
    identity = table.check(tmp_path / "compress.parquet", schema.COMPRESS)["identity"]
    assert sorted(identity) == ["problems", "sample", "token_map"]


def test_a_sample_of_the_student_is_not_taken_for_the_teachers(run):
    with pytest.raises(ValueError, match=r"sample\.parquet: its student is .* is wanted"):
        run(sampler="teacher")


def test_the_teachers_trajectories_need_the_students_prompts(run, teacher, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(teacher.parent, other)
    template = other / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    (other / "manifest.json").unlink()
    write_manifest(other)
    with pytest.raises(ValueError, match="student and teacher have different chat templates"):
        run(by=other / "manifest.json", sampler="teacher")
