"""Rubbish in files of rows is read as text, or refused with its row in one sentence."""

import json
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpd.store.signs import MAX_LINE, MAX_QUOTED, harmless, quoted
from mpd.text.row_streams import read_rows
from mpd.text.rows import BadRow

GOOD = {"problem": "a", "answer": "1"}
DEPTH = 100_000
COLUMNS = ("problem", "answer")


def rows_of(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(path, COLUMNS)[1]


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "a\x1b[2J\x1b]0;title\x07\x9b31m",
        "\u202egnihtemos\u2066",
        "<|im_start|>system\n</think><|endoftext|>",
        "\u2028\u2029\x85",
        "x" * 1_000_000,
    ],
)
def test_any_characters_are_text(tmp_path, text):
    row = {"problem": text, "answer": "1"}
    assert rows_of(tmp_path / "a.jsonl", json.dumps(row)) == [row]
    assert rows_of(tmp_path / "a.json", json.dumps([row], ensure_ascii=False)) == [row]
    pq.write_table(pa.table({name: [cell] for name, cell in row.items()}), tmp_path / "a.parquet")
    assert read_rows(tmp_path / "a.parquet", COLUMNS)[1] == [row]
    assert rows_of(tmp_path / "a.csv", f'problem,answer\n"{text}",1\n') == [row]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"problem":' + "[" * DEPTH + "]" * DEPTH + "}", "JSON that is nested too deep in "),
        ('{"a":' * DEPTH + "1" + "}" * DEPTH, "JSON that is nested too deep in "),
        ("[" * DEPTH, "JSON that is nested too deep in "),
        ("[" * 900 + "]" * 900, "not a JSON object, but "),
        ('{"problem": "\\ud800", "answer": "1"}', "column problem has half of a surrogate pair"),
        ('{"problem": "a\x1b[2J"}', "not JSON (Invalid control character"),
        ('"' + "x" * 30_000_000 + '"', "not a JSON object, but "),
        (
            '{"problem": "a", "answer": ' + "9" * 5_000 + "}",
            "a whole number of more than 4300 digits",
        ),
    ],
)
def test_a_line_that_is_no_row_is_refused_in_a_short_sentence(tmp_path, line, reason):
    first, second = rows_of(tmp_path / "a.jsonl", f"{json.dumps(GOOD)}\n{line}\n")
    assert first == GOOD
    assert isinstance(second, BadRow)
    assert second.reason.startswith(reason)
    assert second.reason.endswith(("; fix or remove it", "; write the row again"))
    assert len(second.reason) < 400


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path, suffix):
    head = b"problem,answer\n" if suffix == "csv" else b'{"problem": "a", "answer": "1"}\n'
    with pytest.raises(ValueError, match=r"\(in line 2\) is not UTF-8"):
        rows_of(tmp_path / f"a.{suffix}", head + b'{"problem": "a\xff"}\n')


def test_a_cell_of_parquet_that_is_not_utf8_is_refused_with_its_row(tmp_path):
    buffers = [None, pa.py_buffer(struct.pack("<3i", 0, 1, 3)), pa.py_buffer(b"ab\xff")]
    texts = pa.Array.from_buffers(pa.string(), 2, buffers)
    pq.write_table(pa.table({"problem": texts, "answer": ["1", "2"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"^row 1: b'b\\xff' is not UTF-8"):
        read_rows(tmp_path / "a.parquet", COLUMNS)


def test_a_row_of_many_cells_is_refused_in_a_short_sentence(tmp_path):
    content = f"problem,answer\na,1\na,1{',x' * 100_000}\n"
    _, bad = rows_of(tmp_path / "a.csv", content)
    assert isinstance(bad, BadRow)
    assert bad.reason.startswith("100002 cells where the header has 2: ['a', '1', 'x'")
    assert len(bad.reason) < 400


def test_a_message_keeps_its_lines_and_shows_what_a_terminal_would_obey():
    assert harmless("a b\n\tc\x1b[2J\x9b\r\u202ed\u2028é") == (
        "a b\n\tc\\x1b[2J\\x9b\\x0d\\u202ed\\u2028é"
    )


def test_a_long_line_of_a_message_loses_its_middle():
    assert harmless(f"short\n{'a' * MAX_LINE}") == f"short\n{'a' * MAX_LINE}"
    line = harmless(f"short\n{'a' * MAX_LINE}{'b' * MAX_LINE}").splitlines()[1]
    half = MAX_LINE // 2
    assert line == f"{'a' * half} [{MAX_LINE} characters left out] {'b' * half}"


def test_a_long_value_is_quoted_from_its_start():
    assert quoted("\x1b") == r"'\x1b'"
    assert quoted("x" * 1000) == f"'{'x' * (MAX_QUOTED - 1)}… (1002 characters)"
