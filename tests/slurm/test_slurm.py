"""Runs on a real Slurm of two nodes with two GPUs each, which tests/slurm/start.sh starts."""

import importlib.util
import os
import re
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.workflow.project import ENVIRONMENT, Project

START = Path(__file__).parent / "start.sh"
PROGRAMS = ("slurmctld", "slurmd", "munged")
IS_INSTALLED = all(shutil.which(name, path=f"{os.defpath}:/usr/sbin:/sbin") for name in PROGRAMS)
HAS_PLUGIN = importlib.util.find_spec("snakemake_executor_plugin_slurm") is not None

pytestmark = [
    pytest.mark.skipif(not IS_INSTALLED, reason="needs Slurm: apt-get install slurm-wlm munge"),
    pytest.mark.skipif(not HAS_PLUGIN, reason="needs the plugin: pip install -e '.[slurm]'"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start Slurm"),
]

SHARDS = range(4)
CHANGES = {
    "models": {"student": {"num_steps": 2}, "teacher": {"num_steps": 2}},
    "sample": {"max_new_tokens": 64},
    "problems": {"num_shards": len(SHARDS)},
    "resources": {"sample": {"gpu": 1, "memory_mb": 1000, "runtime": 20}},
}
QUICK = ["--latency-wait", "5", "--seconds-between-status-checks", "1"]
QUICK += ["--slurm-init-seconds-before-status-checks", "1"]
SAMPLES = [f"results/small/mpd/seed_0/round_1/sample/shard_{number}.parquet" for number in SHARDS]
WAIT = 900  # seconds; nothing takes as long


def words(project: Project, number: int, **sample: int) -> list[str]:
    """A command that samples a number of shards on Slurm, with other resources."""
    resources = {"sample": {**CHANGES["resources"]["sample"], **sample}}
    options = ["--workflow-profile", "slurm", *QUICK, "--", *SAMPLES[:number]]
    return project.command(*options, **{**CHANGES, "resources": resources})


def jobs_of(project: Project) -> list[dict[str, str]]:
    """What Slurm knows of the jobs of a project, also those that have ended lately."""
    lines = subprocess.run(
        ["scontrol", "show", "job", "--oneliner"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    jobs = [dict(re.findall(r"(\w+)=(\S+)", line)) for line in lines]
    return [job for job in jobs if job.get("WorkDir") == str(project.folder)]


def wait_for(condition):
    """The first true value of a function; it is asked several times a second."""
    deadline = time.monotonic() + WAIT
    while not (value := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.3)
    return value


@pytest.fixture(scope="module")
def slurm():
    """A Slurm that runs; it is stopped in the end where it did not run before."""
    was_there = subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0
    subprocess.run([START], check=True)
    yield
    if not was_there:
        subprocess.run([START, "stop"], check=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A project that has models and problems."""
    project = Project(tmp_path_factory.mktemp("slurm") / "base")
    student = "results/small/models/student_seed_0/manifest.json"
    project.run("--", student, "results/small/problems/train/shard_0.parquet", **CHANGES)
    return project


@pytest.fixture(scope="module")
def expected(base):
    """The bytes of the samples of a local run, shard by shard."""
    project = copy_of(base, "local")
    project.run("--", *SAMPLES, **CHANGES)
    return contents(project)


def copy_of(base: Project, name: str) -> Project:
    folder = base.folder.parent / name
    shutil.copytree(base.folder, folder, symlinks=True)
    return Project(folder)


def contents(project: Project, number: int = len(SHARDS)) -> list[bytes]:
    return [(project.folder / path).read_bytes() for path in SAMPLES[:number]]


@pytest.fixture
def project(slurm, base, request):
    """A project of the test's own, none of whose jobs outlives it."""
    project = copy_of(base, request.node.name)
    yield project
    left = [job["JobId"] for job in jobs_of(project) if job["JobState"] in ("RUNNING", "PENDING")]
    subprocess.run(["scancel", *left], check=False, capture_output=True)


@pytest.fixture
def start(project):
    """Starts a run on Slurm in the background."""
    runs = []

    def start(number: int = len(SHARDS), **sample: int) -> subprocess.Popen[str]:
        log = (project.folder / f"run_{len(runs)}.log").open("w+")
        run = subprocess.Popen(
            words(project, number, **sample),
            cwd=project.folder,
            env=ENVIRONMENT,
            stdout=log,
            stderr=log,
            text=True,
        )
        log.close()
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.kill()
        run.wait()


def finish(run: subprocess.Popen[str], project: Project) -> None:
    assert run.wait(WAIT) == 0, "\n".join(
        path.read_text() for path in project.folder.glob("run_*.log")
    )


def processes(variable: str, value: str, word: str = "") -> list[psutil.Process]:
    """The processes with a value of an environment variable and a word in their command."""
    matching = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(variable) == value and word in ["", *process.cmdline()]:
                matching.append(process)
    return matching


def running(project: Project) -> list[dict[str, str]]:
    """The jobs whose stage is at work."""
    return [
        job
        for job in jobs_of(project)
        if job["JobState"] == "RUNNING" and processes("SLURM_JOB_ID", job["JobId"], "mpd.sample")
    ]


def test_shards_on_two_nodes_are_those_of_a_local_run(start, project, expected):
    """Each job has a GPU, and both GPUs are busy at once."""
    finish(start(), project)
    assert contents(project) == expected
    jobs = jobs_of(project)
    assert len(jobs) == len(SHARDS)
    assert {job["NodeList"] for job in jobs} == {"n1", "n2"}
    assert all(job["TresPerJob"] == "gres:gpu:1" for job in jobs)
    assert {(job["NumNodes"], job["NumCPUs"]) for job in jobs} == {("1", "1")}
    times = [(job["StartTime"], job["EndTime"], job["NodeList"]) for job in jobs]
    assert any(
        one[0] < other[1] and other[0] < one[1] and one[2] != other[2]
        for one in times
        for other in times
    )


def test_a_job_with_two_gpus_has_both_on_one_node_and_runs_once(start, project, expected):
    """Other than with one task for each GPU, as the plugin has it by default."""
    run = start(1, gpu=2)
    (job,) = wait_for(lambda: running(project))
    (stage,) = processes("SLURM_JOB_ID", job["JobId"], "mpd.sample")
    assert stage.environ()["CUDA_VISIBLE_DEVICES"] == "0,1"
    finish(run, project)
    assert contents(project, 1) == expected[:1]
    (job,) = jobs_of(project)
    assert (job["TresPerJob"], job["NumNodes"], job["NumTasks"]) == ("gres:gpu:2", "1", "1")


def test_a_job_over_its_time_or_cancelled_is_submitted_again_with_more(start, project, expected):
    """One is stopped, so that it takes longer than the minute that it has."""
    run = start(2, runtime=1)
    slow, cancelled = wait_for(lambda: both if len(both := running(project)) == 2 else None)
    for process in processes("SLURM_JOB_ID", slow["JobId"], "mpd.sample"):
        process.suspend()
    subprocess.run(["scancel", cancelled["JobId"]], check=True)
    finish(run, project)
    assert contents(project, 2) == expected[:2]
    jobs = {job["JobId"]: job for job in jobs_of(project)}
    for job, state in ((slow, "TIMEOUT"), (cancelled, "CANCELLED")):
        first, second = (
            jobs[number]
            for number in sorted(jobs, key=int)
            if jobs[number]["Comment"] == job["Comment"]
        )
        assert first["JobState"] == state
        assert (first["TimeLimit"], first["MinMemoryNode"]) == ("00:01:00", "1000M")
        assert (second["TimeLimit"], second["MinMemoryNode"]) == ("00:02:00", "2000M")


def test_a_killed_snakemake_leaves_no_doubles(start, project, expected):
    """The next run cancels what is queued or runs, and goes on."""
    run = start()
    wait_for(lambda: len(jobs_of(project)) == len(SHARDS) and running(project))
    old = [job["JobId"] for job in jobs_of(project)]
    run.kill()
    run.wait()
    finish(start(), project)
    assert contents(project) == expected
    states = {job["JobId"]: job["JobState"] for job in jobs_of(project)}
    assert all(states[job] in ("CANCELLED", "COMPLETED") for job in old)
    assert "CANCELLED" in {states[job] for job in old}
    log = (project.folder / "run_1.log").read_text()
    assert "cancelled jobs in Slurm that a killed run had left: " in log


def test_jobs_of_a_killed_node_run_elsewhere(start, project, expected):
    run = start(2)
    lost = wait_for(lambda: [job for job in running(project) if job["NodeList"] == "n2"])
    daemon = int(Path("/run/mpd-slurm/n2.pid").read_text())
    for process in [psutil.Process(daemon), *processes("SLURMD_NODENAME", "n2")]:
        process.kill()
    try:
        wait_for(lambda: state_of_node("n2").startswith("down"))
    finally:
        subprocess.run(["/usr/sbin/slurmd", "-N", "n2"], check=True)
    finish(run, project)
    assert contents(project, 2) == expected[:2]
    assert lost


def state_of_node(node: str) -> str:
    command = ["sinfo", "--noheader", "--format=%T", "--nodes", node]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
