"""Given trajectories, read by the shard to which they belong."""

import json

import polars as pl
import pytest

from mpd.text.given import read_given
from mpd.text.given_encoding import GivenEncoder
from mpd.text.questions import problem_id
from tests.peaks import peak_megabytes

READ = """
import sys
from pathlib import Path
import polars as pl
from mpd.text.given import read_given
problems = pl.DataFrame({"problem_id": [sys.argv[2]], "question": ["mine"]})
assert len(read_given(Path(sys.argv[1]), problems, problems["problem_id"]).rows) == 1
"""


def test_a_file_that_is_changed_while_it_is_read_is_named(tmp_path, tiny_format):
    path = tmp_path / "given.jsonl"
    line = json.dumps({"problem": "1+1", "text": "2"}) + "\n"
    path.write_text(line * 3)
    problems = pl.DataFrame({"problem_id": [problem_id("1+1")], "question": ["1+1"]})
    given = read_given(path, problems, problems["problem_id"])
    path.write_text(line * 2)
    with pytest.raises(ValueError, match=r"given\.jsonl: it was changed while it was read; run"):
        GivenEncoder(given, tiny_format, 256).encode(given.rows, {"1+1": [1]})


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_rows_of_other_shards(tmp_path, suffix):
    peaks = []
    for number in (1_000, 11_000):
        rows = [
            {"problem": f"other {row}", "text": f"{row % 7}+1" * 5_000} for row in range(number)
        ]
        rows[-1]["problem"] = "mine"
        path = tmp_path / f"{number}.{suffix}"
        if suffix == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            pl.DataFrame(rows).write_parquet(path, row_group_size=100)
        peaks.append(peak_megabytes(READ, [str(path), problem_id("mine")]))
    assert peaks[1] - peaks[0] < 50  # MB; the texts that are more take 150
