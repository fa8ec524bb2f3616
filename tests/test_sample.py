"""sample: drawn and given trajectories, row by row."""

import copy
import json

import polars as pl
import pytest

from mpd import sample
from mpd.config.generation import Decoding
from mpd.config.resources import GenerationResources
from mpd.engines import transformers
from mpd.engines.base import Request, seed_of
from mpd.engines.transformers import TransformersEngine
from mpd.sample import with_samples
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest
from mpd.text.completions import CompletionWriter
from mpd.text.prompts import Prompts
from mpd.text.questions import problem_id

ENGINE = {"engine": "transformers", "engine_arguments": {}, "dtype": "float32"}
DECODING = {"num_samples": 2, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8}
ONE, OTHER = "1+3-2", "2+2+2"  # two of the shard's questions


@pytest.fixture
def run(tmp_path, student, problems, chat):
    """A function that runs the stage; it returns the rows."""

    def run(*more, of=student, questions=problems, name="sample", day=None, **changes):
        if "trajectories" in changes:
            settings = {"chat": chat.model_dump(exclude={"concise", "solution"})}
        else:
            asking = chat.model_dump(include={"prompt", "thinking"})
            settings = {**DECODING, "trajectories": None, "chat": asking, "seed": 7, **ENGINE}
        if day is not None:
            settings["chat"]["date"] = day
        arguments = ["--settings", json.dumps({**settings, **changes}), "--student", str(of)]
        output = tmp_path / f"{name}.parquet"
        arguments += ["--problems", str(questions), "--output", str(output)]
        sample.main([*arguments, "--store", str(tmp_path / f"store-{name}"), *more])
        return table.read(output, schema.SAMPLE)

    return run


@pytest.fixture
def shard_of(tmp_path, problems):
    """A function that writes some of the problems, in the given order, as a shard."""

    def write(name, rows):
        path = tmp_path / f"{name}.parquet"
        frame = table.read(problems, schema.PROBLEMS)[rows]
        table.write(path, frame, schema.PROBLEMS, {})
        return path

    return write


@pytest.mark.parametrize(
    ("question", "prompt", "is_input"),
    [
        ("1+3-2", "{problem}", False),
        ("1 </think> 2", "{problem}", True),
        ("1+3-2", "{problem} End with </think>.", True),
    ],
)
def test_text_that_once_became_control_tokens_is_an_input(
    tmp_path, student, question, prompt, is_input
):
    """Samples of such prompts are drawn again; those of others are found in the store."""
    problems = tmp_path / "problems.parquet"
    row = {"problem_id": problem_id(question), "question": question, "gold": "2", "source_row": 0}
    table.write(problems, table.frame_of([row], schema.PROBLEMS), schema.PROBLEMS, {})
    settings = {**DECODING, "trajectories": None, "seed": 7, **ENGINE}
    settings["chat"] = {"prompt": prompt, "thinking": True}
    arguments = ["--settings", json.dumps(settings), "--student", str(student)]
    arguments += ["--problems", str(problems), "--output", str(tmp_path / "sample.parquet")]
    (output,) = sample.outputs(sample.command_line().parse_args(arguments))
    names = {"problems", "student", *(["text_in_prompts"] if is_input else [])}
    assert output.inputs.keys() == names


def test_every_problem_has_its_samples():
    problems = pl.DataFrame({"problem_id": ["a", "b"], "question": ["1", "2"]})
    assert with_samples(problems, 2).rows() == [
        ("a", "1", 0, "a-0"),
        ("a", "1", 1, "a-1"),
        ("b", "2", 0, "b-0"),
        ("b", "2", 1, "b-1"),
    ]


def test_rows_are_those_of_the_engine(run, student, problems, vocabulary, tiny_prompts):
    rows = run()
    assert rows.columns == schema.SAMPLE.names
    questions = table.read(problems, schema.PROBLEMS)
    identifiers = [f"{id}-{index}" for id in questions["problem_id"] for index in (0, 1)]
    assert rows["sample_id"].to_list() == identifiers
    assert rows["sample_index"].to_list() == [0, 1] * 8
    engine = TransformersEngine(student, "float32", GenerationResources(batch_size=5))
    prompts = [tiny_prompts.problem_ids(q) for q in questions["question"] for _ in range(2)]
    seeds = [seed_of("sample", 7, identifier) for identifier in identifiers]
    requests = [Request(*of) for of in zip(prompts, seeds, strict=True)]
    completions = engine.generate(requests, Decoding(**DECODING))
    assert rows["prompt_ids"].to_list() == prompts
    assert rows["completion_ids"].to_list() == [done.token_ids for done in completions]
    assert rows["finish_reason"].to_list() == [done.finish_reason for done in completions]
    assert rows["num_tokens"].to_list() == [len(done.token_ids) for done in completions]
    assert rows["text"].to_list() == [vocabulary.text(done.token_ids) for done in completions]
    for found, done in zip(rows["logprobs"], completions, strict=True):
        assert found.to_list() == pytest.approx(done.logprobs, abs=1e-4)
    assert rows["completion_ids"][0].to_list() != rows["completion_ids"][1].to_list()


def test_rows_do_not_depend_on_shard_order_or_parts(run, shard_of):
    keys = ("sample_id", "prompt_ids", "completion_ids", "finish_reason", "text")
    whole = run().select(keys)
    first = run(questions=shard_of("first", [5, 2, 0]), name="one")
    second = run(questions=shard_of("second", [7, 6, 1, 3, 4]), name="two")
    apart = pl.concat([first, second]).select(keys)
    assert apart.sort("sample_id").equals(whole.sort("sample_id"))
    parts = run("--resources", '{"rows_per_part": 3, "batch_size": 2}', name="parts").select(keys)
    assert parts.equals(whole)
    other = run(seed=8, name="seed")
    assert other["completion_ids"].to_list() != whole["completion_ids"].to_list()


def test_a_prompt_is_rendered_once(run, problems, monkeypatch):
    """Not once to check it and again for each sample."""
    rendered, render = [], Prompts.render
    monkeypatch.setattr(
        Prompts, "render", lambda self, content: rendered.append(content) or render(self, content)
    )
    run()
    assert sorted(rendered) == sorted(table.read(problems, schema.PROBLEMS)["question"])


def test_the_footer_names_the_student(run, tmp_path, student, problems):
    run()
    manifest = read_manifest(student)
    footer = table.check(tmp_path / "sample.parquet", schema.SAMPLE)
    content = table.content_digest(problems, schema.PROBLEMS)
    assert footer["identity"] == {
        "problems": content,
        "seed": "7",
        "student": manifest["digest"],
        "token_map": manifest["token_map"],
    }


def test_a_sample_that_does_not_fit_is_a_row(run, write_model, shard_of, tmp_path, tiny_prompts):
    small = write_model(tmp_path / "small", seed=1, context=13 + 8)
    # Each part has one row, and in the last nothing fits: that is no reason to stop.
    more = ("--resources", '{"rows_per_part": 1}')
    rows = run(*more, of=small, questions=shard_of("both", [0, 4]), num_samples=1)
    short, long = rows.to_dicts()
    assert len(short["prompt_ids"]) == 13
    assert len(long["prompt_ids"]) == 17
    assert short["finish_reason"] in ("stop", "length")
    assert long == {
        "sample_id": f"{problem_id('5+1-4+2-3')}-0",
        "problem_id": problem_id("5+1-4+2-3"),
        "sample_index": 0,
        "prompt_ids": tiny_prompts.problem_ids("5+1-4+2-3"),
        "completion_ids": [],
        "logprobs": None,
        "text": "",
        "finish_reason": "too_long",
        "num_tokens": 0,
    }


@pytest.fixture
def no_model(monkeypatch):
    """No weights can be loaded."""

    def refuse(*_):
        raise AssertionError("loaded")

    monkeypatch.setattr(transformers, "load_model", refuse)


def test_a_run_in_which_nothing_fits_is_refused_before_a_model_is_loaded(run, no_model):
    message = r"no prompt leaves room for sample\.max_new_tokens = 250 .* context of 256 tokens"
    with pytest.raises(ValueError, match=message):
        run(max_new_tokens=250)


def test_a_question_that_cannot_be_said_is_refused_before_a_model_is_loaded(
    run, problems, tmp_path, no_model
):
    path = tmp_path / "problems.parquet"
    frame = table.read(problems, schema.PROBLEMS)
    last = pl.int_range(pl.len()) == len(frame) - 1
    question = pl.when(last).then(pl.lit("1+Zebra")).otherwise("question").alias("question")
    table.write(path, frame.with_columns(question), schema.PROBLEMS, {})
    with pytest.raises(ValueError, match=r"^question '1\+Zebra': this model's vocabulary has no"):
        run(questions=path)


def write_given(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pl.DataFrame(rows).write_parquet(path)
    return str(path)


@pytest.mark.parametrize("name", ["given.jsonl", "given.parquet"])
@pytest.mark.parametrize("content", ["text", "ids"])
def test_given_trajectories(run, tmp_path, tiny_format, tiny_prompts, caplog, name, content):
    texts = ["<think>1+3=4.</think>\\boxed{2}", "<think>So 4", "<think>2+2=4.</think>6"]
    columns = {"text": texts, "ids": [tiny_format.encode(text) for text in texts]}
    columns["ids"][1].pop()  # the stop id, which a text that was cut does not have
    given = [
        {"problem": problem, content: value, "finish_reason": reason}
        for problem, value, reason in zip(
            (ONE, " 1+3-2 ", OTHER), columns[content], ("stop", "length", "stop"), strict=True
        )
    ]
    given.insert(1, {**given[0], "problem": "6+6+6"})  # of no problem here
    with caplog.at_level("INFO", "mpd"):
        rows = run(trajectories=write_given(tmp_path / name, given))
    assert "3 of 4 given trajectories belong to these problems" in caplog.text
    assert rows["sample_id"].to_list() == [
        f"{problem_id(ONE)}-0",
        f"{problem_id(ONE)}-1",
        f"{problem_id(OTHER)}-0",
    ]
    assert rows["completion_ids"].to_list() == columns["ids"]
    assert rows["text"].to_list() == texts
    assert rows["finish_reason"].to_list() == ["stop", "length", "stop"]
    assert rows["logprobs"].to_list() == [None] * 3
    assert rows["num_tokens"].to_list() == [len(ids) for ids in columns["ids"]]
    prompts = [tiny_prompts.problem_ids(question) for question in (ONE, ONE, OTHER)]
    assert rows["prompt_ids"].to_list() == prompts


def test_given_ids_stay_as_they_are_and_are_whole_by_default(run, tmp_path):
    ids = [1, 2, 3]  # no format, no stop id
    path = write_given(tmp_path / "given.jsonl", [{"problem": ONE, "ids": ids}])
    (row,) = run(trajectories=path).to_dicts()
    assert row["completion_ids"] == ids
    assert row["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"question": ONE, "text": "4"}, r"needs the columns problem and text or ids; has \['qu"),
        ({"problem": ONE, "answer": "4"}, "needs the columns problem and text or ids"),
        ({"problem": ONE, "text": None}, "; they are:\n  row 0: no text\n  row 1: no text$"),
        ({"problem": None, "ids": [1]}, "\n  row 0: no problem\n  row 1: no problem$"),
        ({"problem": ONE, "text": "Zebra"}, "cannot encode 'Zebra' without loss"),
        ({"problem": ONE, "text": "<think>4</think>4<|im_end|>\n"},
         r"row 1: its text ends with <\|im_end\|>, which would be trained letter by letter; leave"),
        ({"problem": 12, "text": "4"}, "row 0: column problem must hold text, but holds 12"),
        ({"problem": ONE, "text": ["4"]}, r"row 1: column text must hold text, but holds \['4'\]"),
        ({"problem": ONE, "ids": "4"}, "row 0: column ids must hold lists of token ids, but"),
        ({"problem": ONE, "ids": [1.5]}, r"must hold lists of token ids, but holds \["),
        ({"problem": ONE, "text": "4", "finish_reason": "eos"},
         "finish_reason 'eos'; it must be stop or length"),
        ({"problem": "6+6+6", "text": "4"}, "none of its 2 trajectories answers a training"),
    ],
)  # fmt: skip
def test_given_trajectories_that_cannot_be_used_are_refused(run, tmp_path, given, message):
    path = write_given(tmp_path / "given.jsonl", [given, given])
    with pytest.raises(ValueError, match=message):
        run(trajectories=path)


def test_a_letter_that_the_tokenizer_changes_drops_the_row(
    run, tmp_path, write_model, tokenizer, tiny_format, caplog
):
    """As Qwen's does with an e and a combining accent; here it is a 9, which becomes an 8."""
    from tokenizers import normalizers

    changing = copy.deepcopy(tokenizer)
    changing.backend_tokenizer.normalizer = normalizers.Replace("9", "8")
    student = write_model(tmp_path / "changing", seed=1, vocabulary=changing)
    texts = ["<think>4</think>8", "<think>9</think>8", "<think>4</think>9"]
    given = [{"problem": ONE, "text": text} for text in texts]
    path = write_given(tmp_path / "given.jsonl", given)
    rows = run(of=student, trajectories=path)
    assert rows["finish_reason"].to_list() == ["stop", "lossy", "lossy"]
    assert rows["completion_ids"].to_list() == [tiny_format.encode(texts[0]), [], []]
    lost = [message for message in caplog.messages if "dropped" in message]
    assert lost == [
        f"{path}, row {row}, problem '{ONE}': dropped: the tokenizer cannot encode '9' without loss"
        for row in (1, 2)
    ]


def given_message(run, path, rows, more=(), **changes):
    with pytest.raises(ValueError) as caught:
        run(*more, trajectories=write_given(path, rows), **changes)
    return str(caught.value)


@pytest.mark.parametrize("name", ["given.jsonl", "given.parquet"])
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "no ids"),
        (None, "no ids"),
        ([1, -1], "-1 is no token id"),
        ([2**31], "2147483648 is no token id"),
        ([1, 2**62], "4611686018427387904 is no token id"),
        ([1, "size"], "{size} is no token id: the tokenizer has {size} tokens, from 0 on, and"),
        ([1, "padded"], "{padded} is no token id: the tokenizer has {size} tokens, from 0 on, and"),
        (["stop", 1, "stop"], "the stop id {stop} is at position 0 of 3: a trajectory ends with"),
        ([1, "stop", "stop"], "the stop id {stop} is at position 1 of 3: a trajectory ends with"),
        ([1] * 256, "13 tokens of the prompt and 256 of the trajectory are more than the model's"),
        ([1] * 244, "13 tokens of the prompt and 244 of the trajectory are more than the model's"),
    ],
)
def test_ids_that_are_no_trajectory_of_the_student_are_refused(
    run, tmp_path, vocabulary, teacher, name, ids, message
):
    """The model is one with padded rows: ids of those are no tokens either."""
    size, stop = vocabulary.size, vocabulary.stop_ids[0]
    numbers = {"size": size, "padded": size + 18, "stop": stop}
    if ids is not None:
        ids = [numbers.get(token, token) for token in ids]
    good = {"problem": "3+3", "ids": [1, 2, stop]}
    path = tmp_path / name
    found = given_message(run, path, [good, {"problem": "5+1-4+2-3", "ids": ids}], of=teacher)
    assert found.startswith(f"{path}, row 1: {message.format(**numbers)}".replace("13 to", "17 to"))
    assert "\n" not in found


def test_the_longest_given_trajectory_fills_the_context(run, tmp_path, tiny_prompts):
    room = 256 - len(tiny_prompts.problem_ids(ONE))
    path = write_given(tmp_path / "given.jsonl", [{"problem": ONE, "ids": [1] * room}])
    assert run(trajectories=path)["num_tokens"].to_list() == [room]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"problem": "3+3", "text": "\\ud83d"}', "column text has half of a surrogate pair"),
        ('{"problem": "\\udc00", "text": "4"}', "column problem has half of a surrogate pair"),
        ('{"problem": "3+3", "text": ""}', "no text"),
        ('{"problem": "3+3", "text": [1]}', "column text must hold text, but holds [1]"),
        ('{"problem": "3+3", "text": [99999999999]}', "column text must hold text, but holds 999"),
        ('{"problem": "", "text": "4"}', "no problem"),
        ('{"problem": "3+3", "text": "4", "finish_reason": ["stop"]}', "finish_reason ['stop'];"),
        ('{"problem": "3+3", "te', "not JSON ("),
        ('["3+3", "4"]', "not a JSON object, but "),
        ('{"problem": "3+3", "text": "4", "text": "5"}', "the key text is there twice; remove one"),
        ('{"problem": "3+3", "text": "\\u200b"}', "no text"),
        ('{"problem": "3+3", "text": ' + "[" * 100_000, "JSON that is nested too deep"),
        ('{"problem": "3+3", "text": "Zebra"}', "the tokenizer cannot encode 'Zebra' without loss"),
    ],
)
def test_a_line_that_is_no_given_trajectory_is_named(run, tmp_path, line, message):
    path = tmp_path / "given.jsonl"
    path.write_text(f'{{"problem": "{ONE}", "text": "4"}}\n{line}\n')
    with pytest.raises(ValueError) as caught:
        run(trajectories=str(path))
    assert str(caught.value).startswith(f"{path}, row 1: {message}")


@pytest.mark.parametrize("ids", ["[1, true]", "[1, null]", "[1, 2.0]", '[1, "2"]', "[[1]]", '"12"'])
def test_ids_that_are_no_whole_numbers_are_refused(run, tmp_path, ids):
    path = tmp_path / "given.jsonl"
    path.write_text(f'{{"problem": "{ONE}", "ids": [1]}}\n{{"problem": "{ONE}", "ids": {ids}}}\n')
    with pytest.raises(ValueError, match="row 1: column ids must hold lists of token ids, but"):
        run(trajectories=str(path))


def test_marks_line_ends_and_blank_lines_of_given_files_are_accepted(run, tmp_path):
    path = tmp_path / "given.jsonl"
    rows = [json.dumps({"problem": problem, "text": "4"}) for problem in (ONE, OTHER)]
    path.write_bytes(("\ufeff\r\n" + "\r\n\r\n".join(rows) + "\r\n").encode())
    assert run(trajectories=str(path))["text"].to_list() == ["4", "4"]
    path.write_bytes('{"problem": "3+3", "text": "é"}\n'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"given\.jsonl: not a complete jsonl file \(byte 28 \(in"):
        run(trajectories=str(path))


def test_all_faults_of_a_given_file_are_named_at_once(run, tmp_path, tokenizer):
    rows = [{"problem": ONE, "ids": [1, 10**6 + number]} for number in range(12)]
    found = given_message(run, tmp_path / "given.jsonl", [{"problem": ONE, "ids": [1]}, *rows])
    first, *lines = found.splitlines()
    assert first.endswith("12 rows cannot be used; fix or remove them; the first 10 are:")
    assert [line.split(" is no")[0] for line in lines] == [
        f"  row {number + 1}: {10**6 + number}" for number in range(10)
    ]


def test_a_given_file_that_cannot_be_read_is_one_sentence_with_its_path(run, tmp_path):
    def message_of(name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError) as caught:
            run(trajectories=str(tmp_path / name))
        found = str(caught.value)
        assert found.startswith(f"{tmp_path / name}: ") and "\n" not in found
        return found

    whole = write_given(tmp_path / "whole.parquet", [{"problem": ONE, "text": "4"}] * 99)
    half = (tmp_path / "whole.parquet").read_bytes()[:300]
    assert "not a complete parquet file (" in message_of("half.parquet", half)
    assert "not a complete jsonl file (" in message_of("cut.jsonl", b'{"problem": "1+1", "te')
    assert "not a complete jsonl file (" in message_of("empty.jsonl", b"")
    listed = b'[{"problem": "1+1", "text": "4"}]'
    assert message_of("list.json", listed).endswith("give a file that ends in .jsonl or .parquet")
    with pytest.raises(ValueError, match=r"nothing\.jsonl: no such file; fix sample\.traj"):
        run(trajectories=str(tmp_path / "nothing.jsonl"))
    assert len(run(trajectories=whole)) == 99


def test_a_column_may_begin_late_in_a_given_file(run, tmp_path):
    """One cut trajectory after many whole ones, which have no finish_reason."""
    rows = [{"problem": ONE, "text": "4"}] * 150
    late = {"problem": ONE, "text": "4", "finish_reason": "length"}
    found = run(trajectories=write_given(tmp_path / "given.jsonl", [*rows, late]))
    assert found["finish_reason"].to_list() == ["stop"] * 150 + ["length"]


def test_a_shard_may_have_no_given_trajectory_where_another_has_some(run, shard_of, tmp_path):
    path = write_given(tmp_path / "given.jsonl", [{"problem": ONE, "text": "4"}])
    first, second = shard_of("first", [0]), shard_of("second", [2])
    with pytest.raises(ValueError, match="none of its 1 trajectories answers a training problem"):
        run(trajectories=path, questions=second)
    more = ("--training", str(first), str(second))
    assert len(run(*more, trajectories=path, questions=first, name="first_shard")) == 1
    assert len(run(*more, trajectories=path, questions=second, name="second_shard")) == 0


def some_given(problems, number):
    """So many trajectories of the problems in turn, one of which was cut."""
    questions = table.read(problems, schema.PROBLEMS)["question"].to_list()
    return [
        {
            "problem": questions[row % len(questions)],
            "text": f"<think>{row}+{row}</think>{row % 7}",
            "finish_reason": "length" if row == 5 else None,
        }
        for row in range(number)
    ]


@pytest.mark.parametrize("name", ["given.jsonl", "given.parquet"])
@pytest.mark.parametrize("content", ["text", "ids"])
def test_given_trajectories_of_several_shards_are_those_of_one(
    run, shard_of, problems, tmp_path, tiny_format, name, content
):
    given = some_given(problems, 150)
    if content == "ids":
        given = [{**row, "ids": tiny_format.encode(row.pop("text"))} for row in given]
    path = write_given(tmp_path / name, given)
    number = len(table.read(problems, schema.PROBLEMS))
    whole = run(trajectories=path)
    shards = [shard_of(f"shard_{first}", list(range(first, number, 3))) for first in range(3)]
    training = ("--training", *map(str, shards))
    frames = [
        run(*training, trajectories=path, questions=shard, name=f"of_{shard.stem}")
        for shard in shards
    ]
    assert len(whole) == 150 and all(len(frame) > 9 for frame in frames)
    assert pl.concat(frames).sort("sample_id").equals(whole.sort("sample_id"))


@pytest.mark.parametrize("rows_per_part", [1, 7, 150, 1000])
def test_parts_of_given_trajectories_change_no_row(run, problems, tmp_path, rows_per_part):
    path = write_given(tmp_path / "given.jsonl", some_given(problems, 150))
    resources = ("--resources", json.dumps({"rows_per_part": rows_per_part}))
    assert run(*resources, trajectories=path, name="parts").equals(run(trajectories=path))


def test_a_stopped_job_encodes_given_trajectories_once(
    run, problems, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO", "mpd")
    path = write_given(tmp_path / "given.jsonl", some_given(problems, 150))
    undisturbed = run(trajectories=path, name="undisturbed")
    resources = ("--resources", json.dumps({"rows_per_part": 40}))
    encode, texts = CompletionWriter.encode_batch, []

    def stopping(writer, batch, are_cut):
        if len(texts) >= 80:
            raise InterruptedError
        texts.extend(batch)
        return encode(writer, batch, are_cut)

    monkeypatch.setattr(CompletionWriter, "encode_batch", stopping)
    with pytest.raises(InterruptedError):
        run(*resources, trajectories=path)
    texts.clear()
    assert run(*resources, trajectories=path).equals(undisturbed)
    assert len(texts) == 70
    assert "resumed: 2 of 4 parts were there" in caplog.messages
    assert any(message.startswith("encoded: 70 sequences, ") for message in caplog.messages)


def test_faults_of_all_parts_are_named_at_once(run, tmp_path):
    rows = [{"problem": ONE, "text": text} for text in ["4", "Zebra", "5", "4", "Lion", "Zebra"]]
    resources = ("--resources", json.dumps({"rows_per_part": 2}))
    found = given_message(run, tmp_path / "given.jsonl", rows, more=resources)
    first, *lines = found.splitlines()
    assert first.endswith("3 rows cannot be used; fix or remove them; they are:")
    assert [line.split(":")[0].strip() for line in lines] == ["row 1", "row 4", "row 5"]


def test_a_column_of_ids_may_begin_late_in_a_given_file(run, tmp_path, vocabulary):
    """It is the one that is read, so that earlier rows lack ids."""
    stop = vocabulary.stop_ids[0]
    rows = [{"problem": ONE, "text": "4"}, {"problem": ONE, "ids": [1, stop]}]
    found = given_message(run, tmp_path / "given.jsonl", rows)
    assert found.endswith("given.jsonl, row 0: no ids")


def test_the_day_of_the_settings_is_in_the_prompt(run, tmp_path, tokenizer, variant):
    """Of a template that asks for the day of the week, drawn or given."""
    asking = variant("chat_template.jinja", "{{ strftime_now('%w') }}")
    path = write_given(tmp_path / "given.jsonl", [{"problem": ONE, "text": "4"}])
    for own in ({}, {"trajectories": path}):
        with pytest.raises(ValueError, match=r"puts the day into prompts, and chat\.date is null"):
            run(of=asking, **own)
        found = run(of=asking, day="2025-01-31", **own)
        plain = run(name="plain", **own)
        friday = tokenizer.convert_tokens_to_ids("5")
        assert found["prompt_ids"][0].to_list() == [*plain["prompt_ids"][0], friday]


def test_given_trajectories_depend_on_how_the_student_says_them_alone(
    run, tmp_path, student, teacher, variant, caplog
):
    """Another student with the same tokens draws nothing, so nothing is computed again."""
    path = write_given(tmp_path / "given.jsonl", [{"problem": ONE, "text": "4"}])
    run(trajectories=path)
    identity = table.check(tmp_path / "sample.parquet", schema.SAMPLE)["identity"]
    assert set(identity) == {"problems", "token_map"}
    assert identity["token_map"] == read_manifest(student)["token_map"]
    caplog.set_level("INFO", "mpd")

    def events(of):
        caplog.clear()
        rows = run(trajectories=path, of=of).row(0, named=True)
        return [text.split()[0] for text in caplog.messages if "sample" in text], rows

    assert events(teacher)[0] == ["reused"]
    # The prompt is rendered by its template, which also says what ends a text.
    before = events(student)[1]
    became, changed = events(variant("chat_template.jinja"))
    assert became == ["computed"]
    assert len(changed["prompt_ids"]) == len(before["prompt_ids"]) + 1
    became, changed = events(variant("tokenizer_config.json", eos_token="<|endoftext|>"))
    assert became == ["computed"]
    # The template still ends turns with <|im_end|>, at which the model stops too.
    assert changed["completion_ids"] == before["completion_ids"]
