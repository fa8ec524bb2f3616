import json
import logging
import os
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpd import problems
from mpd.config.problem_settings import BenchmarkProblems
from mpd.config.problems import Source, TrainSource
from mpd.job.layout import Experiment
from mpd.store import schema, table
from mpd.text.questions import problem_id

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="real problem sets are not here")
RUN = "a b c d e f g h i j k l m"  # 13 words


def source_of(path, **changes):
    source = {
        "source": "file",
        "path": str(path),
        "config": None,
        "split": "train",
        "revision": None,
        "question": "question",
        "answer": "answer",
        "form": "auto",
        "num_problems": None,
    }
    assert changes.keys() <= source.keys()
    return {**source, **changes}


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions(*texts):
    return [{"question": text, "answer": number} for number, text in enumerate(texts)]


def loaded(path, **changes):
    rows, bad = problems.load(Source(**source_of(path, **changes)), 0, "train")
    assert bad == []
    assert [row["problem_id"] for row in rows] == [problem_id(row["question"]) for row in rows]
    return [(row["source_row"], row["question"], row["gold"]) for row in rows]


CELLS = [("What is 1+1?", 2), ("What is\n1/2, “half”?", 0.5), ("What is 3³?", 27.0)]
EXPECTED = [
    (0, "What is 1+1?", "2"),
    (1, "What is\n1/2, “half”?", "0.5"),
    (2, "What is 3³?", "27"),
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_load_maps_the_columns_of_every_format(tmp_path, name):
    path = tmp_path / name
    rows = [{"level": "easy", "problem": text, "final": answer} for text, answer in CELLS]
    frame = pl.DataFrame(rows, schema_overrides={"final": pl.Float64}, strict=False)
    if name == "a.jsonl":
        write_jsonl(path, rows)
    elif name == "a.json":
        path.write_text(json.dumps(rows))
    elif name == "a.csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    assert loaded(path, question="problem", answer="final") == EXPECTED


@pytest.mark.parametrize(
    ("answer", "form", "gold"),
    [
        (27.0, "auto", "27"),
        (70, "auto", "70"),
        ("070", "auto", "070"),
        ("3 apples and 4.\n#### 1,234", "auto", "1234"),
        ("so \\boxed{\\frac{1}{2}}.", "auto", "\\frac{1}{2}"),
        ("-2,1", "auto", "-2,1"),
        ("#### 5", "plain", "#### 5"),
        ("\\boxed{1} #### 2", "boxed", "1"),
        ("\\boxed{1} #### 2", "hash", "2"),
    ],
)
def test_load_extracts_the_gold_answer(tmp_path, answer, form, gold):
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "q", "answer": answer}])
    assert loaded(path, form=form) == [(0, "q", gold)]


def test_load_makes_the_embedded_world():
    source = Source(source="tiny", num_problems=3)
    train, again, test = (
        problems.load(source, 5, split)[0] for split in ("train", "train", "test")
    )
    assert train == again
    assert [row["source_row"] for row in train] == [0, 1, 2]
    assert {row["problem_id"] for row in train}.isdisjoint(row["problem_id"] for row in test)
    assert all(str(eval(row["question"])) == row["gold"] for row in train + test)


@pytest.mark.parametrize(
    ("split", "rows"),
    [
        ("train", [0, 1, 2, 3, 4]),
        ("train[:2]", [0, 1]),
        ("train[3:]", [3, 4]),
        ("train[-1:]", [4]),
        ("train[:40%]", [0, 1]),
        ("train[40%:80%]", [2, 3]),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_load_takes_slices_and_counts_rows_of_the_file(tmp_path, name, split, rows):
    path = tmp_path / name
    if name == "a.jsonl":
        write_jsonl(path, questions("q0", "q1", "q2", "q3", "q4"))
    else:
        pl.DataFrame(questions("q0", "q1", "q2", "q3", "q4")).write_parquet(path)
    assert loaded(path, split=split) == [(row, f"q{row}", str(row)) for row in rows]


def test_load_counts_rows_of_slices_that_are_added_up(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", questions("q0", "q1", "", "q3"))
    assert loaded(path, split="train[3:]+train[:2]") == [
        (0, "q3", "3"),
        (1, "q0", "0"),
        (2, "q1", "1"),
    ]
    assert message_of_load(path, split="train[3:]+train[1:3]") == (
        f"{path}, row 2 of train[3:]+train[1:3]: column question is empty; fix or remove it"
    )


def test_load_sees_new_content_of_the_same_time(tmp_path):
    """A file may be replaced by one with the same time, from an archive for example."""
    path = write_jsonl(tmp_path / "a.jsonl", questions("old"))
    os.utime(path, (1_000, 1_000))
    assert loaded(path) == [(0, "old", "0")]
    write_jsonl(path, questions("new"))
    os.utime(path, (1_000, 1_000))
    assert loaded(path) == [(0, "new", "0")]


def message_of_load(path, **changes):
    with pytest.raises(ValueError) as caught:
        problems.load(Source(**source_of(path, **changes)), 0, "train")
    return str(caught.value)


@pytest.mark.parametrize("key", ["question", "answer"])
def test_missing_column_is_refused(tmp_path, key):
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "q", "answer": "1", "level": 3}])
    assert message_of_load(path, **{key: "other"}) == (
        f"{path}: no column other for the {key}; it has question, answer, level: "
        f"set {key} in this problem source"
    )


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"question": "", "answer": "1"}, "question"),
        ({"question": " \n", "answer": "1"}, "question"),
        ({"question": None, "answer": "1"}, "question"),
        ({"question": "q", "answer": ""}, "answer"),
        ({"question": "q", "answer": " "}, "answer"),
        ({"question": "q", "answer": None}, "answer"),
        ({"question": "q"}, "answer"),
    ],
)
def test_empty_cell_is_refused(tmp_path, row, column):
    good = {"question": "q", "answer": "1"}
    path = write_jsonl(tmp_path / "a.jsonl", [good, good, row, good])
    sentence = f"{path}, row 2: column {column} is empty; fix or remove it"
    assert message_of_load(path) == message_of_load(path, split="train[1:]") == sentence


def test_empty_cell_of_a_csv_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question,answer\nq,1\nq,\n")
    assert message_of_load(path) == f"{path}, row 1: column answer is empty; fix or remove it"


@pytest.mark.parametrize(
    ("answer", "form", "reason"),
    [
        ("5", "hash", "gold answer of form 'hash': no text after '####' in '5'"),
        (True, "auto", "gold answer: expected text or a number, found True"),
    ],
)
def test_answer_in_another_form_is_refused(tmp_path, answer, form, reason):
    rows = [{"question": "q", "answer": answer}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    assert message_of_load(path, form=form) == f"{path}, row 0: column answer: {reason}"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.jsonl", '{"question": "q", "answer"', "json"),
        ("a.json", "[{", "json"),
        ("a.jsonl", "\n", "json"),
        ("a.csv", "question,answer\n", "csv"),
        ("a.csv", "question,answer,answer\nq,1,2\n", "csv"),
        ("a.csv", 'question,answer\n"q,1\n', "csv"),
        ("a.parquet", "PAR1 and no more", "parquet"),
    ],
)
def test_unreadable_file_is_refused(tmp_path, name, content, kind):
    path = tmp_path / name
    path.write_text(content)
    assert message_of_load(path).startswith(f"{path}: no rows of split train readable as {kind}: ")


@pytest.mark.parametrize("split", ["test", "train[", "train[5:]"])
def test_other_split_is_refused(tmp_path, split):
    path = write_jsonl(tmp_path / "a.jsonl", questions("q"))
    start = f"{path}: no rows of split {split} readable as json: "
    assert message_of_load(path, split=split).startswith(start)


def test_missing_empty_and_unknown_files_are_refused(tmp_path):
    path, fix = tmp_path / "a.txt", "fix the path of this problem source in the config"
    assert message_of_load(path) == f"{path}: no such file; {fix}"
    path.touch()
    assert message_of_load(path) == f"{path}: an empty file; {fix}"
    path.write_text("1")
    assert message_of_load(path) == (
        f"{path}: give a file that ends in .jsonl, .json, .parquet, .csv"
    )


def test_a_line_that_was_cut_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "q", "answer": 1}\n{"question":')
    message = message_of_load(path)
    assert message.startswith(f"{path}, row 1: not JSON (")
    assert message.endswith("""in '{"question":'; fix or remove it""")


@pytest.mark.parametrize(
    ("written", "gold"),
    [
        ("9007199254740993", "9007199254740993"),  # 2^53 + 1, beside 0.5
        ("12345678901234567891", "12345678901234567891"),  # more than 64 bits
        ("-12345678901234567890123456789", "-12345678901234567890123456789"),
        ("9" * 400, "9" * 400),  # larger than any double
        ("12345678901234567.5", "12345678901234567.5"),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("27.0", "27"),
        ("2.50", "2.5"),
        ("1e5", "100000"),
        ("1e-05", "0.00001"),
        ("-0.0", "0"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_numbers_keep_all_of_their_digits(tmp_path, name, written, gold):
    path = tmp_path / name
    if name == "a.csv":
        path.write_text(f"question,answer\nhalf,0.5\nq,{written}\n")
    else:
        start, between, end = ("[", ",", "]") if name == "a.json" else ("", "", "")
        rows = ['{"question": "half", "answer": 0.5}', f'{{"question":"q","answer":{written}}}']
        path.write_text(f"{start}{rows[0]}{between}\n{rows[1]}{end}")
    assert loaded(path) == [(0, "half", "0.5"), (1, "q", gold)]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("NaN", "column answer: the number NaN is not finite"),
        ("-Infinity", "column answer: the number -Infinity is not finite"),
        ("1e5000", "column answer: the number 1.000000000e+5000 has more than 1000 digits"),
        ("1e99999999999999999999", "column answer: the number NaN is not finite"),
        ("9" * 1001, "column answer: the number 1.000000000e+1001 has more than 1000 digits"),
        ("9" * 5000, "a whole number of more than 4300 digits in '"),
    ],
)
def test_numbers_that_are_no_answer_are_refused(tmp_path, written, reason):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"question":"p","answer":1}}\n{{"question":"q","answer":{written}}}')
    assert message_of_load(path).startswith(f"{path}, row 1: {reason}")


def test_a_csv_column_of_long_integers_is_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question,answer\nq,1234567890123456789012345\nr,007\n")
    assert loaded(path) == [(0, "q", "1234567890123456789012345"), (1, "r", "007")]


@pytest.mark.parametrize(
    ("values", "dtype", "golds"),
    [
        (["1.50", "-0.05", "12345678901234567890.25"], pa.decimal128(25, 2), None),
        (["2024-01-31", "1999-12-01"], pa.date32(), None),
        ([0.1, 27.0], pa.float32(), ["0.1", "27"]),
        ([0.1, 1e22], pa.float64(), ["0.1", "10000000000000000000000"]),
        ([2**64 - 1], pa.uint64(), ["18446744073709551615"]),
        (["B", "A", "B"], pa.dictionary(pa.int8(), pa.string()), None),
    ],
)
def test_parquet_columns_are_read_as_written(tmp_path, values, dtype, golds):
    if pa.types.is_decimal(dtype):
        column = pa.array([Decimal(value) for value in values], dtype)
    elif pa.types.is_date(dtype):
        column = pa.array([date.fromisoformat(value) for value in values], dtype)
    elif pa.types.is_dictionary(dtype):
        column = pa.array(values).dictionary_encode()
    else:
        column = pa.array(values, dtype)
    questions = [f"q{number}" for number in range(len(values))]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"question": questions, "answer": column}), path)
    assert [gold for _, _, gold in loaded(path)] == (golds or values)


@pytest.mark.parametrize(
    "cell", ["None", "N/A", "nan", "NaN", "NULL", "null", "true", "inf", "#N/A"]
)
def test_words_of_a_csv_are_text(tmp_path, cell):
    path = tmp_path / "a.csv"
    path.write_text(f"question,answer\nq,{cell}\n{cell},1\n")
    assert loaded(path) == [(0, "q", cell), (1, cell, "1")]


@pytest.mark.parametrize("value", ["2024-01-31", "2024-01-31T00:00:00", "12:30", "1/2/2024"])
def test_dates_of_jsonl_are_text(tmp_path, value):
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "q", "answer": value}] * 2)
    assert loaded(path) == [(0, "q", value), (1, "q", value)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n \n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json"])
def test_marks_line_ends_and_blank_lines_are_accepted(tmp_path, name, mark, end):
    path = tmp_path / name
    lines = ['{"question": "a\u2028b", "answer": "1"}', '{"question": "c", "answer": "2"}']
    if name == "a.csv":
        lines = ["question,answer", "a\u2028b,1", "c,2"]
    elif name == "a.json":
        lines = ["[", lines[0], ",", lines[1], "]"]
    path.write_bytes((mark + end + end.join(lines) + end).encode())
    assert loaded(path) == [(0, "a\u2028b", "1"), (1, "c", "2")]


@pytest.mark.parametrize("folder", ["set[12]", "set*", "set?", "{set}", "a$HOME", "a::b", "~"])
@pytest.mark.parametrize("name", ["train.jsonl", "train[1].jsonl", "train.csv", "[1].parquet"])
def test_a_path_is_a_path(tmp_path, folder, name):
    """Not a pattern, which could find its neighbour."""
    for place, text in ((tmp_path / "set1", "neighbour"), (tmp_path / folder, "right")):
        place.mkdir()
        frame = pl.DataFrame({"question": [text], "answer": ["1"]})
        kinds = {"jsonl": frame.write_ndjson, "csv": frame.write_csv}
        for other in (name, name.replace("[1]", "1")):
            with (place / other).open("wb") as file:
                kinds.get(name.rpartition(".")[2], frame.write_parquet)(file)
    assert loaded(tmp_path / folder / name) == [(0, "right", "1")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252"])
def test_other_encodings_are_one_sentence(tmp_path, name, encoding):
    path = tmp_path / name
    row = json.dumps({"question": "Où ?", "answer": "é"}, ensure_ascii=False)
    path.write_bytes((row if name != "a.csv" else "question,answer\nOù,é\n").encode(encoding))
    message = message_of_load(path)
    assert message.startswith(f"{path}: no rows of split train readable as ")
    assert "is not UTF-8" in message and "\n" not in message


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":', "}")])
def test_deep_json_is_one_sentence(tmp_path, name, start, end):
    path = tmp_path / name
    deep = start * 100_000 + "1" + end * 100_000
    path.write_text(f'{{"question": "q", "answer": "1", "more": {deep}}}\n')
    message = message_of_load(path)
    assert message.startswith(
        f"{path}: no rows of split train readable as json: row 0: JSON that is"
    )
    assert len(message) < 400 and "\n" not in message
    path.write_text(f"[{deep}]")
    assert "JSON that is nested too deep" in message_of_load(path)


def test_half_of_a_surrogate_pair_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "q", "answer": "1"}\n{"question": "\\ud83d", "answer": "1"}\n')
    assert message_of_load(path).startswith(f"{path}, row 1: column question has half of a surr")
    path.write_text('{"question": "\\ud83d\\ude00", "answer": "1"}\n')
    assert loaded(path) == [(0, "😀", "1")]


@pytest.mark.parametrize(
    ("content", "golds"),
    [
        ('{"question": ["a", "b"], "answer": [1, "x"]}', ["1", "x"]),
        ('{"question": "a", "answer": 1}', ["1"]),
        ('{"question": "a", "answer": 1}\n{"question": "b", "answer": "x"}', ["1", "x"]),
        ('[{"question": "a", "answer": 1}, {"question": "b", "answer": "x"}]', ["1", "x"]),
    ],
)
def test_json_files_of_every_layout(tmp_path, content, golds):
    path = tmp_path / "a.json"
    path.write_text(content)
    assert [gold for _, _, gold in loaded(path)] == golds


@pytest.mark.parametrize(("split", "numbers"), [("train", [0, 1, 2]), ("train[1:]", [1, 2])])
def test_a_dataset_of_the_hub_is_read_as_written(tmp_path, monkeypatch, split, numbers):
    import datasets

    golds = ["12345678901234567890.25", "0.50", "-1.00"]
    column = pa.array([Decimal(gold) for gold in golds], pa.decimal128(25, 2))
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"question": ["a", "b", "c"], "level": [1, 2, 3], "answer": column}), path
    )
    build = datasets.load_dataset_builder

    def load_dataset_builder(name, config, revision):
        assert (name, config, revision) == ("a/b", None, "0" * 40)
        cache = str(tmp_path / "cache")
        builder = build("parquet", data_files=str(path), cache_dir=cache)
        builder.hash = revision  # as a dataset of the hub has it
        return builder

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset_builder", load_dataset_builder)
    source = Source(source="hub", path="a/b", revision="0" * 40, split=split)
    rows, bad = problems.load(source, 0, "train")
    assert bad == []
    assert [(row["source_row"], row["gold"]) for row in rows] == [(n, golds[n]) for n in numbers]
    with pytest.raises(
        ValueError, match=r"^a/b: no column x for the answer; it has question, level"
    ):
        problems.load(source.model_copy(update={"answer": "x"}), 0, "train")


@pytest.mark.parametrize(
    "row",
    [
        '{"question": "a", "question": "b", "answer": "1"}',
        '{"question": "a", "answer": "1", "answer": "2"}',
        '{"question": "a", "answer": "1", "\\u0061nswer": "1"}',
    ],
)
def test_a_row_that_has_a_key_twice_is_refused(tmp_path, row):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{row}\n{{"id": 1, "id": 2, "question": "c", "answer": "3"}}\n')
    key = "question" if row.count('"question"') > 1 else "answer"
    assert message_of_load(path) == f"{path}, row 0: the key {key} is there twice; remove one"
    path = tmp_path / "a.json"
    path.write_text(f'[{row}, {{"question": "c", "answer": "3"}}]')
    assert message_of_load(path) == f"{path}, row 0: the key {key} is there twice; remove one"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_columns_that_are_there_twice_are_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text('{"question": ["a"], "answer": ["1"], "answer": ["2"]}')
    assert "row 0: the key answer is there twice; remove one" in message_of_load(path)


def test_parquet_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    columns = {name: pa.array([name]) for name in "abcd"}
    table = pa.table(columns).rename_columns(["question", "answer", "x", "x"])
    pq.write_table(table, path)
    assert loaded(path) == [(0, "a", "b")]
    pq.write_table(table.rename_columns(["question", "answer", "answer", "x"]), path)
    assert message_of_load(path).endswith(": two columns have the name answer; rename one")


def test_an_exponent_that_no_number_has_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question,answer\nq,1e999999999999999999999\nr,2\n")
    assert message_of_load(path) == f"{path}, row 0: column answer: the number NaN is not finite"
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "q", "answer": "X"}, *questions("r")])
    path.write_text(path.read_text().replace('"X"', "1e999999999999999999999"))
    assert message_of_load(path) == f"{path}, row 0: column answer: the number NaN is not finite"


@pytest.mark.parametrize("text", ["\u200b", " \ufeff ", "\u00a0", "\u00ad\u2060"])
@pytest.mark.parametrize("column", ["question", "answer"])
def test_a_cell_that_nobody_sees_is_empty(tmp_path, text, column):
    rows = [{"question": "q", "answer": "1", column: text}, *questions("r")]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    assert message_of_load(path) == f"{path}, row 0: column {column} is empty; fix or remove it"


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    assert message_of_load(tmp_path / "a.jsonl").startswith(f"{tmp_path}/a.jsonl: a folder, not a")


BAD = [
    ({"question": "two", "answer": ""}, "column answer is empty; fix or remove it"),
    ({"question": None, "answer": "3"}, "column question is empty; fix or remove it"),
    ({"question": "four", "answer": True}, "column answer: gold answer: expected text or"),
    ({"question": 5, "answer": "5"}, "column question is not text: 5"),
    ([1], "not a JSON object, but '[1]'"),
    ({"question": "x", "answer": float("nan")}, "column answer: the number NaN is not finite"),
]


def test_all_bad_rows_are_named_at_once(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [*questions("q"), *(row for row, _ in BAD * 2)])
    first, *lines = message_of_load(path).splitlines()
    assert first == (
        f"{path}: 12 rows cannot be used; fix or remove them, or set problems.on_bad_row: drop; "
        "the first 10 are:"
    )
    assert len(lines) == 10
    assert lines[0] == "  row 1 ('two'): column answer is empty; fix or remove it"
    for number, (line, (_, reason)) in enumerate(zip(lines, BAD * 2, strict=False), 1):
        assert line.startswith(f"  row {number} (") and reason in line


def test_bad_rows_can_be_dropped(tmp_path, caplog):
    """They are in dropped.parquet with the reason, and a benchmark goes without them."""
    rows = [*questions(*TRAINING), *(row for row, _ in BAD)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    output = tmp_path / "train"
    with pytest.raises(ValueError, match="6 rows cannot be used"):
        run(train_settings(path), output, tmp_path / "store")
    run({**train_settings(path), "on_bad_row": "drop"}, output, tmp_path / "store")
    assert "6 rows that cannot be read are dropped: " in caplog.text
    dropped = table.read(output / "dropped.parquet", schema.DROPPED).filter(
        pl.col("reason").str.starts_with("unreadable: ")
    )
    assert dropped["source_row"].to_list() == list(range(11, 17))
    assert dropped["question"].to_list() == ["two", None, "four", None, None, "x"]
    assert dropped["problem_id"][0] == problem_id("two")
    for reason, (_, start) in zip(dropped["reason"], BAD, strict=True):
        assert reason.startswith(f"unreadable: {start}")
    settings = BenchmarkProblems(**source_of(path), on_bad_row="drop")
    assert len(problems.benchmark_rows(settings)) == 10


def rows_of(*texts):
    return [
        {"problem_id": problem_id(text), "question": text, "gold": "1", "source_row": number}
        for number, text in enumerate(texts)
    ]


def test_split_is_seeded_disjoint_and_complete():
    rows = rows_of(*(f"q{number}" for number in range(20)))
    dev, train, rest = problems.split_rows(rows, num_train=8, num_dev=5, seed=1)
    assert (len(dev), len(train), len(rest)) == (5, 8, 7)
    numbers = [row["source_row"] for row in dev + train + rest]
    assert sorted(numbers) == list(range(20))
    assert numbers != list(range(20))
    assert {row["reason"] for row in rest} == {"not_selected"}
    assert problems.split_rows(rows, 8, 5, seed=1) == (dev, train, rest)
    assert problems.split_rows(rows, 8, 5, seed=2)[0] != dev
    assert [row["source_row"] for row in rows] == list(range(20))  # the argument is left as it is


def test_more_training_problems_leave_the_development_split():
    rows = rows_of(*(f"q{number}" for number in range(20)))
    dev, train, _ = problems.split_rows(rows, num_train=4, num_dev=5, seed=1)
    same, more, rest = problems.split_rows(rows, num_train=None, num_dev=5, seed=1)
    assert same == dev
    assert more[:4] == train
    assert (len(more), rest) == (15, [])


@pytest.mark.parametrize(
    ("num_train", "num_dev", "wanted"),
    [
        (3, 3, "benchmarks, but 6 are needed (num_dev: 3, num_train: 3)"),
        (None, 3, "benchmarks, but 4 are needed (num_dev: 3, at least one more)"),
        (4, None, "benchmarks and dev, but 4 are needed (num_train: 4)"),
    ],
)
def test_too_few_problems_are_refused(num_train, num_dev, wanted):
    with pytest.raises(ValueError) as caught:
        problems.split_rows(rows_of("a", "b", "c"), num_train, num_dev, seed=0)
    assert str(caught.value) == (
        "problems: 3 training problems are left after removing duplicates and those of "
        f"{wanted}; lower that, or give more problems"
    )


def train_settings(path, **changes):
    settings = {
        "train": source_of(path),
        "num_train": 4,
        "num_dev": 2,
        "num_shards": 2,
        "seed": 0,
    }
    assert changes.keys() <= settings.keys()
    return {**settings, **changes}


def run(settings, output, store, *arguments):
    problems.main(
        [
            *("--settings", json.dumps(settings)),
            *("--output", str(output)),
            *("--store", str(store)),
            *map(str, arguments),
        ]
    )


@pytest.fixture
def benchmark(tmp_path):
    """A benchmark of two problems, one of them with a run of 13 words."""
    path = write_jsonl(
        tmp_path / "raw" / "benchmark.jsonl",
        [
            {"question": "Held out?", "answer": 1},
            {"question": f"x {RUN} y", "answer": 2},
            {"question": "held OUT", "answer": 1},
        ],
    )
    output = tmp_path / "results" / "eval" / "benchmark.parquet"
    run({**source_of(path), "seed": 0}, output, tmp_path / "store")
    return output


def test_main_writes_a_benchmark(benchmark):
    assert table.read(benchmark, schema.PROBLEMS).rows() == [
        (problem_id("held out"), "Held out?", "1", 0),
        (problem_id(f"x {RUN} y"), f"x {RUN} y", "2", 1),
    ]
    assert json.loads(benchmark.with_suffix(".json").read_text())["kind"] == "problems"


TRAINING = [
    "q0",
    "held out.",
    "q1",
    "Q1?",
    "q2",
    f"{RUN} z",
    "q3",
    "q4",
    "q5",
    "q6",
    "q7",
]


def test_main_writes_shards_dev_and_what_was_dropped(tmp_path, benchmark, caplog):
    caplog.set_level(logging.INFO, "mpd")
    path = write_jsonl(tmp_path / "raw" / "train.jsonl", questions(*TRAINING))
    output = tmp_path / "results" / "train"
    run(train_settings(path), output, tmp_path / "store", "--benchmarks", benchmark)

    names = {file.name for file in output.iterdir()}
    parts = {"shard_0.parquet", "shard_1.parquet", "dev.parquet"}
    assert names == {*parts, "dropped.parquet", "provenance.json", ".provenance.receipt"}
    sizes = {name: len(table.read(output / name, schema.PROBLEMS)) for name in parts}
    assert sizes == {"shard_0.parquet": 2, "shard_1.parquet": 2, "dev.parquet": 2}

    kept = pl.concat([table.read(output / name, schema.PROBLEMS) for name in parts])
    dropped = table.read(output / "dropped.parquet", schema.DROPPED)
    chosen = kept["source_row"].to_list()
    reasons = {1: "in_benchmark", 3: "duplicate", 5: "overlaps_benchmark"}
    reasons |= {row: "not_selected" for row in range(11) if row not in [*reasons, *chosen]}
    assert len(reasons) + len(chosen) == 11
    assert kept.sort("source_row").rows() == [
        (problem_id(TRAINING[row]), TRAINING[row], str(row), row) for row in sorted(chosen)
    ]
    expected = table.frame_of(
        [
            {
                "source_row": row,
                "problem_id": problem_id(TRAINING[row]),
                "question": TRAINING[row],
                "reason": reasons[row],
            }
            for row in sorted(reasons)
        ],
        schema.DROPPED,
    )
    assert dropped.equals(expected)
    messages = [record.getMessage() for record in caplog.records if record.name == "mpd"]
    assert messages[:3] == [
        "1 training problems removed: in_benchmark",
        "1 training problems removed: overlaps_benchmark",
        "1 duplicates removed; 4 train, 2 dev",
    ]


def test_a_development_split_of_its_own_is_held_out_like_a_benchmark(tmp_path, benchmark, caplog):
    caplog.set_level(logging.INFO, "mpd")
    path = write_jsonl(tmp_path / "raw" / "train.jsonl", questions(*TRAINING))
    others = ["q0", "HELD out", "q6 ?", "d1", "d1.", "d2"]
    held_out = write_jsonl(tmp_path / "raw" / "dev.jsonl", questions(*others))
    output = tmp_path / "results" / "train"
    settings = {**train_settings(path, num_dev=None), "dev": source_of(held_out)}
    run(settings, output, tmp_path / "store", "--benchmarks", benchmark)

    dev = table.read(output / "dev.parquet", schema.PROBLEMS)
    assert dev["question"].to_list() == ["q0", "q6 ?", "d1", "d2"]
    shards = [output / f"shard_{number}.parquet" for number in (0, 1)]
    train = pl.concat(table.read(shard, schema.PROBLEMS) for shard in shards)
    assert len(train) == 4
    dropped = table.read(output / "dropped.parquet", schema.DROPPED)
    reasons = dict(dropped.select("source_row", "reason").iter_rows())
    assert [reasons[row] for row in (0, 1, 3, 5, 9)] == [
        *("in_dev", "in_benchmark", "duplicate", "overlaps_benchmark", "in_dev"),
    ]
    assert set(reasons) | set(train["source_row"]) == set(range(11))
    messages = [record.getMessage() for record in caplog.records if record.name == "mpd"]
    assert "1 development problems removed: in_benchmark" in messages
    assert "4 problems; left out: 1 duplicates, 0 outside the subset of num_problems" in messages
    assert "2 training problems removed: in_dev" in messages

    # Its file is an input.
    write_jsonl(held_out, questions("d1", "d2"))
    run(settings, output, tmp_path / "store", "--benchmarks", benchmark)
    dev = table.read(output / "dev.parquet", schema.PROBLEMS)
    assert dev["question"].to_list() == ["d1", "d2"]


def test_a_development_split_may_be_a_slice_of_the_training_problems(tmp_path):
    path = write_jsonl(tmp_path / "train.jsonl", questions(*(f"q{n}" for n in range(9))))
    dev = source_of(path, split="train[:5]", num_problems=3)
    settings = {**train_settings(path, num_train=None, num_dev=None, num_shards=1), "dev": dev}
    run(settings, tmp_path / "train", tmp_path / "store")
    dev = table.read(tmp_path / "train" / "dev.parquet", schema.PROBLEMS)["source_row"].to_list()
    train = table.read(tmp_path / "train" / "shard_0.parquet", schema.PROBLEMS)["source_row"]
    assert len(dev) == 3
    assert dev == sorted(dev)
    assert set(dev) < set(range(5))
    assert sorted([*dev, *train]) == list(range(9))


def test_a_development_split_that_is_held_out_as_a_whole_is_refused(tmp_path, benchmark):
    path = write_jsonl(tmp_path / "train.jsonl", questions("q0", "q1"))
    held_out = write_jsonl(tmp_path / "dev.jsonl", questions("Held out"))
    settings = {**train_settings(path, num_dev=None, num_train=1), "dev": source_of(held_out)}
    sentence = "problems.dev: no problem is left, since all 1 cannot be read, are in a benchmark"
    with pytest.raises(ValueError, match=sentence):
        run(settings, tmp_path / "train", tmp_path / "store", "--benchmarks", benchmark)


def test_a_development_split_that_has_all_training_problems_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "train.jsonl", questions("q0", "q1"))
    settings = {**train_settings(path, num_dev=None, num_train=1), "dev": source_of(path)}
    with pytest.raises(ValueError, match=r"problems.dev has all training problems .*; set its num"):
        run(settings, tmp_path / "train", tmp_path / "store")


def test_a_development_split_of_the_embedded_world_has_a_seed_of_its_own():
    source = Source(source="tiny", num_problems=20)
    train, dev, again = (
        [row["problem_id"] for row in problems.load(source, 0, split)[0]]
        for split in ("train", "dev", "dev")
    )
    assert dev == again
    assert len(set(train) & set(dev)) < 5


def test_references_of_the_training_problems_are_a_table(tmp_path):
    rows = [
        {**row, "first": f"first {number}", "steps": f"steps {number}"}
        for number, row in enumerate(questions("q0", "q1", "q2", "q3"))
    ]
    path = write_jsonl(tmp_path / "train.jsonl", rows)
    columns = {"original": "first", "solution": "steps"}
    settings = {**train_settings(path, num_train=3, num_dev=1, num_shards=1)}
    settings["train"] = {**settings["train"], **columns}
    output = tmp_path / "train"
    run(settings, output, tmp_path / "store")
    train = table.read(output / "shard_0.parquet", schema.PROBLEMS)
    references = table.read(output / "references.parquet", schema.REFERENCES)
    assert references.rows() == [
        (row["problem_id"], f"first {row['source_row']}", f"steps {row['source_row']}")
        for row in train.to_dicts()
    ]
    settings["train"] = {**settings["train"], "original": None}
    run(settings, output, tmp_path / "store")
    references = table.read(output / "references.parquet", schema.REFERENCES)
    assert references["original"].null_count() == len(references) == 3


def test_stories_have_originals_and_reference_solutions():
    columns = {"question": "question_translated", "original": "question", "solution": "solution"}
    source = TrainSource(source="tiny", world="stories", num_problems=3, **columns)
    plain = Source(source="tiny", world="stories", num_problems=3)
    rows, expected = (problems.load(each, 0, "train")[0] for each in (source, plain))
    assert [row["original"] for row in rows] == [row["question"] for row in expected]
    assert [row["gold"] for row in rows] == [row["gold"] for row in expected]
    assert all(row["question"] != row["original"] for row in rows)
    assert all(row["solution"].endswith(f"boxed{{{row['gold']}}}") for row in rows)


def test_the_chains_of_the_embedded_world_have_no_reference_solutions():
    source = TrainSource(source="tiny", num_problems=2, solution="steps")
    with pytest.raises(ValueError, match="no column steps for the solution; its problems have qu"):
        problems.load(source, 0, "train")


@pytest.mark.parametrize(
    ("value", "message"),
    [(" ", "column steps is empty; fix or remove it"), (5, "column steps is not text: 5")],
)
def test_a_row_without_its_reference_is_bad(tmp_path, value, message):
    rows = [{**row, "steps": value} for row in questions("q0", "q1")]
    path = write_jsonl(tmp_path / "train.jsonl", rows)
    settings = {**train_settings(path, num_train=1, num_dev=1)}
    settings["train"] = {**settings["train"], "solution": "steps"}
    with pytest.raises(ValueError, match=message):
        run(settings, tmp_path / "train", tmp_path / "store")
    settings["train"] = {**settings["train"], "solution": "absent"}
    with pytest.raises(ValueError, match="no column absent for the solution"):
        run(settings, tmp_path / "train", tmp_path / "store")


def test_main_reuses_by_the_content_of_its_files(tmp_path, benchmark, caplog):
    caplog.set_level(logging.INFO, "mpd")
    store, output = tmp_path / "store", tmp_path / "results" / "train"
    path = write_jsonl(tmp_path / "raw" / "train.jsonl", questions(*TRAINING))
    arguments = train_settings(path), output, store, "--benchmarks", benchmark

    def verdict():
        caplog.clear()
        run(*arguments)
        return caplog.messages[-1].split()[0]

    assert verdict() == "computed"
    first = {file.name: file.read_bytes() for file in output.iterdir()}
    os.utime(path, (1_000, 1_000))
    assert verdict() == "reused"
    write_jsonl(path, questions(*TRAINING, "one more"))
    assert verdict() == "computed"
    write_jsonl(path, questions(*TRAINING))
    assert verdict() == "reused"
    assert {file.name: file.read_bytes() for file in output.iterdir()} == first


def test_fewer_shards_leave_no_old_ones(tmp_path):
    path = write_jsonl(tmp_path / "train.jsonl", questions(*TRAINING))
    output, seen = tmp_path / "train", {}
    for shards in (3, 1, 5):
        settings = train_settings(path, num_shards=shards, num_train=4)
        run(settings, output, tmp_path / "store")
        frames = [
            table.read(output / f"shard_{shard}.parquet", schema.PROBLEMS)
            for shard in range(shards)
        ]
        assert len(list(output.glob("shard_*"))) == shards
        assert (output / "dev.parquet").stat().st_nlink >= 2
        seen[shards] = [len(frame) for frame in frames], pl.concat(frames).rows()
    assert [seen[shards][0] for shards in (3, 1, 5)] == [[1, 1, 2], [4], [0, 1, 1, 1, 1]]
    assert seen[3][1] == seen[1][1] == seen[5][1]


def test_benchmark_subset_is_seeded_and_in_order(tmp_path, caplog):
    texts = [*(f"q{number}" for number in range(30)), "Q1?"]
    path = write_jsonl(tmp_path / "b.jsonl", questions(*texts))

    def chosen(seed, count):
        settings = BenchmarkProblems(**source_of(path, num_problems=count), seed=seed)
        return [row["source_row"] for row in problems.benchmark_rows(settings)]

    caplog.set_level(logging.INFO, "mpd")
    first = chosen(0, 5)
    sentence = "5 problems; left out: 1 duplicates, 25 outside the subset of num_problems"
    assert caplog.messages == [sentence]
    assert len(first) == 5
    assert first == sorted(set(first)) == chosen(0, 5)
    assert first != chosen(1, 5)
    assert chosen(0, 30) == chosen(0, 99) == list(range(30))


def test_user_mistake_is_one_sentence(tmp_path):
    path = tmp_path / "train.jsonl"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mpd.problems"),
            *("--settings", json.dumps(train_settings(path))),
            *("--output", str(tmp_path / "train")),
            *("--store", str(tmp_path / "store")),
        ],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"problems: error: {path}: no such file; "
        "fix the path of this problem source in the config\n"
    )
    assert list(tmp_path.iterdir()) == []


@needs_shared
@pytest.mark.parametrize(
    ("name", "question", "count", "integers"),
    [
        ("gsm8k/test.jsonl", "question", 1319, 1319),
        ("gsm8k/train.jsonl", "question", 7473, 7473),
        ("math500/test.jsonl", "problem", 500, None),
        ("aime24/test.jsonl", "problem", 30, 30),
        ("aime25/test.jsonl", "problem", 30, 30),
        ("amc23/test.jsonl", "problem", 40, 40),
    ],
)
def test_real_problem_sets(name, question, count, integers):
    path = SHARED / name
    rows = loaded(path, question=question)
    assert len(rows) == count
    raw = [json.loads(line) for line in path.read_text().splitlines()]
    assert [text for _, text, _ in rows] == [row[question] for row in raw]
    golds = [gold for _, _, gold in rows]
    if integers:
        assert sum(gold.removeprefix("-").isdigit() for gold in golds) == integers
        assert [int(gold) for gold in golds] == [plain_gold(row["answer"]) for row in raw]
    else:
        assert golds == [row["answer"] for row in raw]


def plain_gold(answer):
    """The integer of GSM8K's worked solutions, and of the contests' answers."""
    return int(float(str(answer).split("####")[-1].replace(",", "")))


def test_a_question_that_is_no_text_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": 7, "answer": "1"}])
    assert (
        message_of_load(path) == f"{path}, row 0: column question is not text: 7; fix or remove it"
    )


def test_shards_that_are_no_more_are_removed(tmp_path):
    folder = tmp_path / "mpd/seed_0/round_1/filter"
    folder.mkdir(parents=True)
    names = [f"shard_{number}.{kind}" for number in range(12) for kind in ("parquet", "json")]
    for name in [*names, "shard_x.parquet", "other.parquet"]:
        (folder / name).touch()
    problems.remove_surplus(Experiment(tmp_path), 2)
    left = {path.name for path in folder.iterdir()}
    assert left == {*names[:4], "shard_x.parquet", "other.parquet"}
