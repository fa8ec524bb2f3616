"""The Snakemake process of a run: one at a time in a folder, and what a killed one left ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mpd.store.supervisor import VARIABLE

REPOSITORY = Path(__file__).parents[2]
WAIT = 60  # seconds; nothing takes as long

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")

RUN = """
import sys, time
from mpd.job.runs import begin

try:
    print(begin("small"), flush=True)
except ValueError as error:
    sys.exit(str(error))
time.sleep(float(sys.argv[1]))
"""
SLEEP = "import time; print('here', flush=True); time.sleep(600)"
NAME = "from mpd.store.supervisor import *; print(supervised()[VARIABLE], flush=True)"


@pytest.fixture
def start(tmp_path):
    started = []

    def run(*words, folder=tmp_path, **environment):
        (folder / ".snakemake").mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_run_in_a_folder_is_refused_in_one_sentence(start, tmp_path):
    first = start(RUN, "600")
    assert first.stdout.readline() == "None\n"
    second = start(RUN, "0")
    _, errors = second.communicate(timeout=WAIT)
    assert second.returncode == 1
    assert errors.startswith("a run of small is at work in this folder (process ")
    assert f"process {first.pid} of " in errors
    assert errors.endswith("): wait for its end, or stop it with Ctrl-C\n")
    assert start(RUN, "0", folder=tmp_path / "other").wait(WAIT) == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_leaves_no_lock(start, number):
    first = start(RUN, "600")
    first.stdout.readline()
    first.send_signal(number)
    first.wait(WAIT)
    assert start(RUN, "0").wait(WAIT) == 0


def test_a_run_ends_what_a_killed_one_left_in_its_folder_and_nothing_else(start, tmp_path):
    gone = start(NAME)
    name = gone.communicate(timeout=WAIT)[0].strip()
    living = start(f"{NAME}; import time; time.sleep(600)")
    supervisors = {
        "orphan": (tmp_path, name),
        "elsewhere": (tmp_path / "other", name),
        "at work": (tmp_path, living.stdout.readline().strip()),
        "by hand": (tmp_path, ""),
    }
    processes = {
        word: start(SLEEP, folder=folder, **{VARIABLE: supervisor})
        for word, (folder, supervisor) in supervisors.items()
    }
    for process in processes.values():
        process.stdout.readline()
    printed, _ = start(RUN, "0").communicate(timeout=WAIT)
    assert printed == "ended processes that a killed run had left: 1\n"
    assert {word for word, process in processes.items() if process.poll() is not None} == {"orphan"}


STOPPING = """
import subprocess, sys, time
from mpd.job.runs import begin

begin("small")
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
try:
    print(child.pid, flush=True)
    time.sleep(600)
except KeyboardInterrupt:  # Snakemake now waits for its jobs
    print("waiting", flush=True)
    time.sleep(600)
"""


def has_ended(pid):
    """Whether a process has ended; its parent may not have noticed."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_second_ctrl_c_ends_a_run_at_once_without_a_traceback(start):
    run = start(STOPPING)
    child = int(run.stdout.readline())
    run.send_signal(signal.SIGINT)
    assert run.stdout.readline() == "waiting\n"
    run.send_signal(signal.SIGINT)  # the same Ctrl-C, sent to the process and to its group
    time.sleep(1.5)
    assert run.poll() is None
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=WAIT)
    assert run.returncode == 130
    first, last = errors.splitlines()
    assert first.startswith("stopping: jobs end within seconds; run the same command again")
    assert last.startswith("stopped at once; run the same command again to go on")
    deadline = time.monotonic() + WAIT
    while not has_ended(child):
        assert time.monotonic() < deadline
        time.sleep(0.1)
