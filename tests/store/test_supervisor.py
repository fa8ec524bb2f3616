"""What outlives its supervisor ends, and publishes nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import psutil
import pytest

from mpd.store.supervisor import VARIABLE, is_gone, supervised
from tests.store.test_store import ROWS, publish

REPOSITORY = Path(__file__).parents[2]
WAIT = 60  # seconds; nothing takes as long

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")

# The job of a supervisor, behind a shell, with a child in a session of its own.
JOB = """
import logging, subprocess, sys, time
from mpd.store.supervisor import watch

logging.basicConfig(format="%(message)s")
watch()
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
SUPERVISOR = """
import os, subprocess, sys
from mpd.store.supervisor import supervised

os.environ.update(supervised())
subprocess.run(["bash", "-c", '"$0" -c "$1"; true', sys.executable, sys.argv[1]])
"""


def start(*words, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", *words],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(code="pass"):
    """The variable that names a process which has ended."""
    process = start(f"from mpd.store.supervisor import *; print(supervised()[VARIABLE]); {code}")
    name, _ = process.communicate(timeout=WAIT)
    return name.strip()


def test_a_job_and_its_processes_end_with_their_supervisor():
    with start(SUPERVISOR, JOB) as supervisor:
        grandchild = psutil.Process(int(supervisor.stdout.readline()))
        job = grandchild.parent()
        supervisor.send_signal(signal.SIGKILL)
        psutil.wait_procs([job, grandchild], timeout=WAIT)
        for process in (job, grandchild):
            assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        assert supervisor.stderr.read() == (
            "stopped, since the run that it belongs to was killed; run the same command again to "
            "go on: finished parts are kept\n"
        )


def test_a_program_without_a_supervisor_outlives_its_parent():
    code = SUPERVISOR.replace("os.environ.update", "len")
    with start(code, JOB, **{VARIABLE: ""}) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        program = child.parent()
        parent.send_signal(signal.SIGKILL)
        parent.wait(WAIT)
        with pytest.raises(psutil.TimeoutExpired):
            program.wait(2)
        for process in (program, child):
            process.kill()


def test_a_process_that_ended_is_gone_and_its_number_on_another_machine_is_not():
    assert not is_gone(supervised()[VARIABLE])
    name = ended()
    assert is_gone(name)
    assert not is_gone(f"{name}elsewhere")
    number, started, place = supervised()[VARIABLE].split(" ", 2)
    assert is_gone(f"{number} {int(started) + 1} {place}")  # the number of another process now
    # The same of another machine with this name, such as localhost.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    other = place.replace(boot, "140b5a00-0000-40ae-af0e-39ce1b5242fe")
    assert not is_gone(f"{number} {int(started) + 1} {other}")


@pytest.mark.parametrize("text", ["", "1", "x y z", "1 2"])
def test_what_names_no_process_is_not_gone(text):
    assert not is_gone(text)


def test_a_process_is_gone_before_its_parent_has_asked_for_its_end():
    with start("from mpd.store.supervisor import *; print(supervised()[VARIABLE])") as process:
        name = process.stdout.readline().strip()
        process.stdout.read()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(name)


def test_nothing_is_published_once_the_supervisor_is_gone(tmp_path, monkeypatch):
    output = tmp_path / "out.parquet"

    def compute(parts):
        parts.map(ROWS, 10, lambda: work)

    def work(rows):
        return rows.with_columns(square=pl.col("number") ** 2)

    def compute_and_be_orphaned(parts):
        compute(parts)
        monkeypatch.setenv(VARIABLE, gone)

    gone = ended()
    with pytest.raises(SystemExit):
        publish(tmp_path / "store", output, compute_and_be_orphaned)
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert not {name for name in names if not name.endswith(".lock")} & {"out.parquet", "out.json"}
    assert not list(tmp_path.glob("store/squares/*.json"))

    monkeypatch.delenv(VARIABLE)
    publish(tmp_path / "store", output, compute)
    output.unlink()
    monkeypatch.setenv(VARIABLE, gone)
    with pytest.raises(SystemExit):
        publish(tmp_path / "store", output, compute)
    assert not output.exists()
