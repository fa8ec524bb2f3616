"""The benchmark of the pipeline, over benchmark files and logs written by hand."""

import json
import os
import runpy
from datetime import datetime
from pathlib import Path

import pytest

PIPELINE = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "pipeline.py"))
START = datetime(2026, 1, 2, 3, 4, 5).timestamp()


def write(path, text, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (START + seconds, START + seconds))


@pytest.fixture
def results(tmp_path):
    """Two runs: an old one of one job, and one of 100 seconds with four jobs."""
    jobs = {  # end and length in seconds
        "models/teacher": (-500, 60),
        "problems/train": (20, 10),
        "mpd/seed_0/round_1/sample/shard_0": (50, 20),
        "mpd/seed_0/round_1/sample/shard_1": (60, 20),
        "mpd/seed_0/round_1/distill": (80, 4),
    }
    for name, (end, length) in jobs.items():
        record = {"s": length, "cpu_time": length / 2, "max_rss": 100 + length}
        write(tmp_path / "results/benchmarks" / f"{name}.jsonl", json.dumps(record) + "\n", end)
    for name, end in {
        "2026-01-02T025000.500000": -400,
        "2026-01-02T030405": 100,
        "2026-01-02T030600.000001": 115,  # such as that of snakemake --lint
    }.items():
        write(tmp_path / "logs" / f"{name}.snakemake.log", "", end)
    return tmp_path / "results"


def test_jobs_and_wall_time_are_those_of_the_newest_run(results):
    recorded = PIPELINE["records"](results)
    assert len(recorded) == 5
    wall, jobs = PIPELINE["newest_run"](recorded, results.parent / "logs")
    assert wall == 100
    found = {
        (job["stage"], job["start"] - START, job["end"] - START, job["cpu"], job["memory"])
        for job in jobs
    }
    assert found == {
        ("problems", 10, 20, 5, 110),
        ("sample", 30, 50, 10, 120),
        ("sample", 40, 60, 10, 120),
        ("distill", 76, 80, 2, 104),
    }


def test_shares_are_of_the_wall_time(results):
    wall, jobs = PIPELINE["newest_run"](PIPELINE["records"](results), results.parent / "logs")
    # Jobs ran from 10 to 20, 30 to 60 and 76 to 80. Imports: twice 5 seconds, and 4 of distill's.
    assert PIPELINE["shares"](jobs, wall, 5.0) == {
        "wall_seconds": 100,
        "uncovered_share": 0.56,
        "startup_seconds": 5.0,
        "startup_share": 0.14,
    }
    assert PIPELINE["shares"](jobs, 200.0, 5.0)["uncovered_share"] == 0.78


def test_no_log_of_these_jobs_is_said(results, tmp_path):
    with pytest.raises(SystemExit, match="no log of a run with these jobs"):
        PIPELINE["newest_run"](PIPELINE["records"](results), tmp_path / "nowhere")
