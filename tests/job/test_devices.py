"""Jobs that ask for GPUs get devices of their own; the devices of these tests do not exist."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mpd.job.devices import visible_devices

REPOSITORY = Path(__file__).parents[2]
TAKE = """
import logging, os, sys, time
from mpd.job.devices import take_devices

logging.basicConfig(format="%(message)s", level=logging.INFO)
try:
    take_devices(int(sys.argv[1]))
except ValueError as error:
    sys.exit(str(error))
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
time.sleep(float(sys.argv[2]))
"""

STAGE = """
import json, os, sys
from pathlib import Path
from mpd.config.resources import ModelResources
from mpd.config.base import StrictModel
from mpd.job.command import parser, publish
from mpd.store.outputs import FolderOutput

folder = Path(sys.argv[1])

def compute(path, scratch):
    print("computed on", os.environ["CUDA_VISIBLE_DEVICES"])
    (path / "file").write_text("x")

def outputs(arguments):
    yield FolderOutput("students", 1, arguments.output, {}, {}, compute)

words = ["--settings", "{}", "--output", str(folder / "manifest"), "--store", str(folder / "store")]
publish(parser("doc", "test", StrictModel, ModelResources), outputs,
        [*words, "--resources", json.dumps({"gpu": 1})])
"""


@pytest.fixture
def names():
    """Names of three devices that no other test has."""
    return [f"test-{os.getpid()}-{number}" for number in range(3)]


@pytest.fixture
def job(names, monkeypatch):
    """Starts a job that takes a number of GPUs and holds them for some seconds."""
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    jobs = []

    def start(count, seconds=600, **environment):
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE, str(count), str(seconds)],
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "MPD_DEVICES": ",".join(names),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        jobs.append(process)
        return process

    yield start
    for process in jobs:
        process.kill()
        process.communicate()
    for folder in ("/dev/shm", "/tmp"):
        for path in Path(folder).glob(f"mpd-gpu*{names[0].rpartition('-')[0]}-*"):
            path.unlink()


def test_jobs_get_devices_of_their_own(job, names):
    first, second = job(1), job(2)
    given = [process.stdout.readline().strip().split(",") for process in (first, second)]
    assert sorted(given[0] + given[1]) == names
    assert (len(given[0]), len(given[1])) == (1, 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_waits_and_says_so_until_another_ends_however_it_ends(job, names, number):
    first = job(2)
    taken = first.stdout.readline()
    second = job(2)
    line = second.stderr.readline()
    assert line.startswith(
        f"waiting for 2 of the GPUs {','.join(names)}, which other jobs of this machine have (fuser"
    )
    assert "mpd-gpu-* lists them" in line
    os.kill(first.pid, number)
    assert second.stdout.readline() == taken


def test_jobs_that_need_more_than_half_do_not_wait_for_each_other(job, names):
    jobs = [job(2, 0) for _ in range(4)]
    assert [process.wait(60) for process in jobs] == [0] * 4


def test_a_job_that_is_not_run_on_a_gpu_changes_nothing(job):
    assert job(0).stdout.readline() == "None\n"
    assert job(1, MPD_DEVICES="").stdout.readline() == "None\n"
    assert job(2, CUDA_VISIBLE_DEVICES="").stdout.readline() == "\n"


def test_what_a_user_makes_visible_is_what_jobs_choose_from(job, names):
    pool = {"CUDA_VISIBLE_DEVICES": f"{names[2]},{names[1]}"}
    jobs = [job(1, **pool), job(1, **pool)]
    given = {process.stdout.readline().strip() for process in jobs}
    assert given == set(names[1:])
    assert job(1, **pool).stderr.readline().startswith("waiting for 1 of the GPUs")


def test_devices_that_a_job_was_given_are_not_locked(job, names):
    """A scheduler numbers the devices of each of its jobs from 0."""
    given = {"CUDA_VISIBLE_DEVICES": names[0], "SLURM_JOB_ID": "7"}
    for _ in range(2):
        assert job(1, **given).stdout.readline().strip() == names[0]


def test_jobs_within_an_allocation_share_its_devices(job, names):
    allocation = {"CUDA_VISIBLE_DEVICES": ",".join(names[:2]), "SLURM_JOB_ID": f"{os.getpid()}"}
    jobs = [job(1, **allocation), job(1, **allocation)]
    assert {process.stdout.readline().strip() for process in jobs} == set(names[:2])
    other = {**allocation, "SLURM_JOB_ID": f"{os.getpid()}0"}
    assert job(1, **other).stdout.readline().strip() == names[0]


def test_more_devices_than_there_are_is_one_sentence(job, names):
    process = job(4)
    assert process.wait(60) == 1
    assert process.stderr.read() == (
        f"the job asks for 4 GPUs, and 3 can be seen here ({', '.join(names)}): lower "
        "resources.<stage>.gpu, or let it run where there are as many (CUDA_VISIBLE_DEVICES may "
        "hide some)\n"
    )


@pytest.mark.parametrize(
    ("named", "devices"),
    [("0,1", ["0", "1"]), ("GPU-a, GPU-b", ["GPU-a", "GPU-b"]), ("3,-1,2", ["3"]), ("", [])],
)
def test_visible_devices_are_those_that_cuda_would_see(monkeypatch, named, devices):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_devices() == devices


def test_the_devices_of_a_machine_are_those_that_its_driver_lists(monkeypatch, tmp_path):
    if list(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("a machine with GPUs has a driver of its own")
    for name in ("MPD_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: L4 (UUID: a)'\necho 'GPU 1: L4 (UUID: b)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert visible_devices() == ["0", "1"]


def test_a_stage_takes_the_devices_of_its_job_only_where_it_computes(tmp_path, job, names):
    """The second command finds the result in the store, and does not wait for a device."""
    holder = job(3)
    holder.stdout.readline()
    command = [sys.executable, "-c", STAGE, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MPD_DEVICES": ",".join(names)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as stage:
        time.sleep(1)
        assert stage.poll() is None
        holder.kill()
        assert stage.stdout.read() == f"computed on {names[0]}\n"
    job(3).stdout.readline()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert again.stdout == ""
