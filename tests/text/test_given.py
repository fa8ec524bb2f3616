"""Given trajectories, read by the shard to which they belong."""

import json

import polars as pl
import pytest

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
