"""Ctrl-C ends a program within seconds: the code, the one line, what was finished, no process left.

The programs say on a pipe when they are in the middle of their work, so nothing depends on timing.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mpd.store import table
from tests.store.test_store import RESULT, SQUARES

REPOSITORY = Path(__file__).parents[2]
LINE = "sample: stopped; run the same command again to go on: finished parts are kept\n"
WAIT = 120  # seconds; nothing takes as long

BEGINNING = """
import sys, threading, time
from contextlib import closing
from mpd.job import command, stopping
from mpd.job.ahead import ahead

def under_way():
    print("under way", flush=True)

def for_ever():
    under_way()
    while True:
        time.sleep(0.01)

"""

# A thread that is in operations of torch for ever; the main thread waits for it at the end.
BATCH = """
import torch

def items():
    yield 0
    under_way()
    square = torch.zeros(8_000, 8_000)
    while True:
        square @ square

def main():
    with closing(ahead(items(), 1)) as results:
        for number in results:
            print(f"item {number}", flush=True)
"""

# The main thread itself is in one long operation, which returns only when a lock is free: signals
# are not looked at in it.
OPERATION = """
import ctypes

def main():
    libc = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(128)
    libc.pthread_mutex_lock(mutex)
    under_way()
    libc.pthread_mutex_lock(mutex)
"""

UNWINDING = """
def main():
    try:
        for_ever()
    finally:
        print("cleaned up", flush=True)
"""

# Cleaning up takes for ever.
STUCK = """
def main():
    try:
        for_ever()
    finally:
        for_ever()
"""


# A stage of four parts. Its third part is computed ahead, and does not end before an event is set.
PARTS = """
import os
from pathlib import Path
from mpd.store.outputs import TableOutput
from mpd.store.publishing import Store
from tests.store.test_store import ROWS, SQUARES
import polars as pl

root = Path(os.environ["ROOT"])

def work(parts):
    for part in parts:
        if part["number"][0] == 6 and not (root / "go").exists():
            while len(list(root.glob("store/*/*.parts/rows_*.parquet"))) < 2:
                time.sleep(0.01)
            under_way()
            threading.Event().wait()
        print("computed", part["number"][0], flush=True)
        yield part.with_columns(square=pl.col("number") ** 2)

def compute(parts):
    parts.stream(ROWS, 3, lambda: lambda slices: ahead(work(slices), 4))

def main():
    output = TableOutput(SQUARES, root / "out.parquet", {}, {}, compute)
    Store(root / "store").publish(output)
"""


def program(body, grace=None):
    """A running program, which is under way."""
    limit = "" if grace is None else f"stopping.GRACE_SECONDS = {grace}\n"
    code = f"{BEGINNING}{limit}{body}\ncommand.run(main, 'sample')\n"
    process = start(code)
    until(process, "under way")
    return process


def start(code):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(process, line):
    for text in process.stdout:
        if line in text:  # another thread may print into the line
            return
    raise AssertionError(f"no {line}: {process.stderr.read()}")


def ended(process):
    """The rest of what a program prints, after its end with one line and the code of Ctrl-C."""
    printed, errors = process.communicate(timeout=WAIT)
    assert (process.returncode, errors) == (130, LINE)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    return printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_is_one_line(number):
    process = program(UNWINDING)
    process.send_signal(number)
    assert ended(process) == "cleaned up\n"


@pytest.mark.parametrize("body", [BATCH, OPERATION, STUCK], ids=["batch", "operation", "stuck"])
def test_ctrl_c_ends_what_does_not_return(body):
    process = program(body, grace=0.5)
    process.send_signal(signal.SIGINT)
    ended(process)


def test_ctrl_c_keeps_finished_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("ROOT", str(tmp_path))
    process = program(PARTS, grace=0.5)
    process.send_signal(signal.SIGINT)
    ended(process)
    assert not (tmp_path / "out.parquet").exists()
    (tmp_path / "go").touch()
    printed, errors = start(f"{BEGINNING}{PARTS}\ncommand.run(main, 'sample')\n").communicate()
    assert printed == "computed 6\ncomputed 9\n"
    assert "sample: resumed: 2 of 4 parts were there\n" in errors
    assert table.read(tmp_path / "out.parquet", SQUARES).equals(RESULT)


def test_a_second_ctrl_c_ends_at_once():
    process = program(STUCK, grace=10 * WAIT)
    process.send_signal(signal.SIGINT)
    until(process, "under way")
    process.send_signal(signal.SIGINT)
    ended(process)


def test_a_scheduler_beside_ctrl_c_takes_no_time_from_cleaning_up():
    process = program("""
def main():
    try:
        for_ever()
    finally:
        under_way()
        time.sleep(1)
        print("cleaned up", flush=True)
""")
    process.send_signal(signal.SIGINT)
    until(process, "under way")
    process.send_signal(signal.SIGTERM)
    assert ended(process) == "cleaned up\n"


# A module that is imported by a program, beside the libraries, which says when that happens.
SLOW = """
import time
print("under way", flush=True)
time.sleep(600)
"""


def test_ctrl_c_during_imports_is_one_line(tmp_path):
    (tmp_path / "polars.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-m", "mpd.sample"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(process, "under way")
    process.send_signal(signal.SIGINT)
    assert ended(process) == ""


def test_other_signals_do_not_end_a_program():
    body = """
import signal

def main():
    signal.signal(signal.SIGUSR1, lambda *_: print("heard", flush=True))
    for_ever()
"""
    process = program(body, grace=0)
    for _ in range(2):
        process.send_signal(signal.SIGUSR1)
        until(process, "heard")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    ended(process)
