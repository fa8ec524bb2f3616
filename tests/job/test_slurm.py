"""What an earlier run left in Slurm, whose commands are scripts here; see also tests/slurm."""

import os

import pytest

from mpd.job import slurm
from mpd.job.slurm import LOGS, cancel_left_jobs

SQUEUE = """#!/bin/sh
cd {folder}
for number in 1 2 3 4; do
    test -e ended-$number || cat job-$number
done
"""
SCANCEL = """#!/bin/sh
for number in "$@"; do
    touch {folder}/{ended}-$number
done
"""
SCONTROL = """#!/bin/sh
cat {folder}/script-$3
"""


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """Makes a Slurm in which four jobs are queued; returns the folder of the runs."""
    runs = tmp_path / "runs"
    (runs / LOGS).mkdir(parents=True)
    jobs = [
        (f"mpd_a|{runs}", "results/small/x"),
        (f"mpd_b|{runs}", "results/small_2/x"),  # another experiment
        (f"mpd_c|{tmp_path}", "results/small/x"),  # another folder
        (f"other|{runs}", "results/small/x"),  # of another workflow
    ]
    for number, (line, script) in enumerate(jobs, start=1):
        (tmp_path / f"job-{number}").write_text(f"{number}|{line}\n")
        (tmp_path / f"script-{number}").write_text(f"#!/bin/sh\npython -m snakemake {script}\n")

    def install(ended="ended"):
        for name, text in (("squeue", SQUEUE), ("scancel", SCANCEL), ("scontrol", SCONTROL)):
            program = tmp_path / name
            program.write_text(text.format(folder=tmp_path, ended=ended))
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return runs

    return install


def cancelled(folder):
    return [path.name for path in sorted(folder.parent.glob("ended-*"))]


def test_jobs_of_the_experiment_and_folder_are_cancelled(queue):
    runs = queue()
    assert cancel_left_jobs("small", runs) == 1
    assert cancelled(runs) == ["ended-1"]
    assert cancel_left_jobs("small", runs) == 0


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("--target-jobs 'distill:experiment=small,method=mpd,seed=0,round=1' --nolock", 1),
        ("--target-jobs 'models:role=teacher,experiment=small'", 1),
        ("--target-jobs 'distill:experiment=small_2,method=mpd'", 0),
        ("--target-jobs 'distill:experiment=small-2'", 0),
        ("--wait-for-files-file '.snakemake/tmp/files.txt' --force", 1),
        ("--wait-for-files-file .snakemake/tmp/gone.txt --force", 0),
    ],
)
def test_a_job_with_many_inputs_or_none_is_known_too(queue, script, expected):
    runs = queue()
    (runs / ".snakemake/tmp").mkdir()
    (runs / ".snakemake/tmp/files.txt").write_text("results/small/problems/train/shard_0.parquet\n")
    (runs.parent / "script-1").write_text(f"#!/bin/sh\npython -m snakemake {script}\n")
    assert cancel_left_jobs("small", runs) == expected


def test_a_queue_that_does_not_answer_is_an_error(queue):
    runs = queue()
    (runs.parent / "squeue").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(ValueError, match=r"^squeue does not answer .*: try again$"):
        cancel_left_jobs("small", runs)


def test_a_job_that_does_not_end_is_named(queue, monkeypatch):
    monkeypatch.setattr(slurm, "END_SECONDS", 0.0)
    with pytest.raises(ValueError, match="Slurm's jobs 1 of an earlier run of small were") as error:
        cancel_left_jobs("small", queue(ended="asked"))
    assert str(error.value).endswith("wait until squeue no longer lists them")


def test_slurm_is_not_asked_where_only_local_runs_have_been(queue):
    runs = queue()
    (runs / LOGS).rmdir()
    assert cancel_left_jobs("small", runs) == 0
    assert cancelled(runs) == []
