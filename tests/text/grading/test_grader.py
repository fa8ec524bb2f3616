"""The grader and its workers: processes that hang, die, or lose their parent."""

import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mpd.text.grading.extraction import MAX_CHARACTERS
from mpd.text.grading.grader import Grader
from mpd.text.grading.workers import MEMORY_BYTES

VERDICTS = {"correct", "wrong", "none", "unparsed", "timeout"}
ENDLESS = r"\int_0^{\infty} \frac{\sin(x^{3})e^{-x^2}}{1+x^{7}} dx"  # what SymPy takes long for


def test_grade_refuses_sequences_of_different_length():
    with Grader() as grader, pytest.raises(ValueError, match="shorter"):
        grader.grade(["1", "2"], ["1"])


def test_grader_refuses_settings_that_cannot_work():
    with pytest.raises(ValueError, match="got 0, 1"):
        Grader(deadline=0)
    with pytest.raises(ValueError, match="got 1, 0"):
        Grader(deadline=1, num_workers=0)


def children():
    """The processes that this one has started and that still run."""
    return set(multiprocessing.active_children())


def test_no_worker_starts_without_need():
    before = children()
    with Grader() as grader:
        assert grader.grade([], []) == []
        assert grader.grade(["4", "x", "4"], ["5", "$x$", None]) == ["wrong", "correct", "none"]
        assert children() == before


def test_equal_rows_are_checked_once(checked):
    with Grader() as grader:
        assert grader.grade(["x+1", "2", "x+1"], ["1+x", "2", "1+x"]) == ["correct"] * 3
    assert checked() == ["started", "x+1 1+x"]


def test_several_workers_keep_rows_and_verdicts_together():
    before = children()
    answers = [f"{number}x/7" for number in range(1, 21)]
    golds = [rf"\frac{{{number + number % 2}x}}{{7}}" for number in range(1, 21)]
    with Grader(deadline=60, num_workers=2) as grader:
        assert grader.grade(golds, answers) == ["wrong", "correct"] * 10
        assert len(children() - before) == 2
    assert children() == before


def test_several_workers_check_at_the_same_time(checked):
    with Grader(num_workers=3) as grader:
        grader.grade(["x"] * 3, ["y", "z", "u"])
        began = time.monotonic()
        assert grader.grade(["x"] * 3, ["sleep 2", "sleep 2.0", "sleep 2.00"]) == ["wrong"] * 3
        assert time.monotonic() - began < 5


HOSTILE = [
    ENDLESS,
    "9^{9^{9^9}}",
    "(((10^9)!)!)!",
    r"\prod_{i=1}^{10^9} i",
    "(x+y+z+w)^{300}(x+y+z+w+1)^{300}",
    "(" * 400 + "5" + ")" * 400,
    "{" * 400 + "5" + "}" * 400,
    r"\frac{1}{" * 80 + "2" + "}" * 80,
    "9" * MAX_CHARACTERS + ".5",
    "(" * 100_000,
    "\\frac{1}{2}" * 9_000,
    "1" * 100_000,
    "\\" * (MAX_CHARACTERS - 1),
    "\0\x1b\ud800",
    r"\int_0^1 x^{x^x} dx",
    "(1+x)^{10^6} - (1+x)^{10^6-1}",
    r"\sin(" * 60 + "x" + ")" * 60,
    "9**9**9**9",
    "(9^{99999})^{99999}",
    "999999999!",
    r"\binom{999999999}{99999999}",
    "x*" * 300 + "x",
    "sqrt(" * 190 + "2" + ")" * 190,
    "\0(" * 400,
    "√" * 900,
    "1 1/2 " * 160,
    "*" * 900,
    "*_" * 450,
    r"\text{" * 150 + "a" + "}" * 150,
    "(A) " * 240,
    "0." + r"\overline{" + "1" * 900 + "}",
    r"\sqrt{10^{9999}+1}-\sqrt{10^{9999}}",
    "5 " + "\\ " * 480 + r"\text{cm}",
    "\\," * 490,
    "1 ft " * 190,
    "1 000 " * 160,
    "x=1," * 240,
    "1:" * 490,
    r"\sin 30^\circ " * 66,
    "5 " + "ab " * 320,
]


def test_a_hostile_gold_answer_is_no_other_than_a_hostile_answer():
    golds = [ENDLESS, "x^{x^{10^9}}", "(" * (MAX_CHARACTERS + 1), "\0"]
    with Grader(deadline=0.5, num_workers=2) as grader:
        verdicts = grader.grade(golds, ["2"] * len(golds))
        assert set(verdicts) <= VERDICTS - {"correct", "none"}
        assert verdicts[0] == "timeout"


def test_hostile_answers_end_with_a_verdict_and_the_grader_lives_on():
    with Grader(deadline=0.5) as grader:
        verdicts = grader.grade([r"\frac{1}{2}"] * len(HOSTILE), HOSTILE)
        assert set(verdicts) <= VERDICTS - {"correct", "none"}
        assert verdicts[0] == "timeout"
        grader.deadline = 60.0
        assert grader.grade([r"\frac{1}{2}"], ["0.5"]) == ["correct"]


def test_a_pair_without_end_costs_no_other_its_verdict(checked):
    answers = ["1+x", "spin 600", "2+x", "spin 601", "3+x"]
    with Grader(deadline=2, num_workers=2) as grader:
        verdicts = grader.grade(["x+1", "y", "x+2", "y", "x+4"], answers)
        assert verdicts == ["correct", "timeout", "correct", "timeout", "wrong"]
        assert grader.grade(["x+3"], ["3+x"]) == ["correct"]


def test_a_worker_that_waits_forever_costs_a_pair_its_verdict_at_the_second_time(checked):
    with Grader(deadline=0.2) as grader:
        verdicts = grader.grade(["x+1", "y", "x+2"], ["1+x", "sleep 600", "2+x"])
    assert verdicts == ["correct", "timeout", "correct"]
    assert checked().count("y sleep 600") == 2


def test_time_in_which_others_use_the_processor_is_not_a_pairs(checked):
    with Grader(deadline=0.3) as grader:
        assert grader.grade(["x"], ["sleep 1"]) == ["wrong"]


def test_a_worker_that_died_while_idle_loses_nothing(checked):
    before = children()
    with Grader() as grader:
        for seconds in (0, 0.5):  # the grader knows of it, or not yet
            assert grader.grade(["x+1"], ["1+x"]) == ["correct"]
            (worker,) = children() - before
            worker.kill()
            time.sleep(seconds)
            assert grader.grade(["x+2", "x+3"], ["2+x", "2+x"]) == ["correct", "wrong"]


def test_a_pair_that_kills_its_worker_is_unparsed_and_loses_no_other(checked):
    with Grader(deadline=600) as grader:
        verdicts = grader.grade(["x+1", "y", "x+2", "x+3"], ["1+x", "die", "2+x", "2+x"])
    assert verdicts == ["correct", "unparsed", "correct", "wrong"]
    assert checked().count("y die") == 2  # it was given a second chance


def test_a_pair_whose_worker_died_once_has_its_verdict(checked):
    with Grader(deadline=600, num_workers=2) as grader:
        golds, answers = ["x+1", "once die", "x+2"], ["1+x", "die once", "2+x"]
        assert grader.grade(golds, answers) == ["correct"] * 3
    assert checked().count("once die die once") == 2


def test_a_worker_has_a_limit_of_memory(checked):
    with Grader() as grader:
        answers = [f"eat {MEMORY_BYTES // 2}", f"eat {MEMORY_BYTES * 2}", "1+x"]
        assert grader.grade(["x+1"] * 3, answers) == ["wrong", "unparsed", "correct"]
    assert checked().count("started") == 1


def test_an_interrupted_call_leaves_no_verdict_to_the_next(checked, monkeypatch):
    before = children()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    interrupt = threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT))
    try:
        with Grader(deadline=60) as grader:
            assert grader.grade(["x+2"], ["2+x"]) == ["correct"]
            interrupt.start()
            with pytest.raises(KeyboardInterrupt):
                grader.grade(["x+1", "x+2"], ["sleep 3", "x+3"])
            assert children() == before
            assert grader.grade(["x+1"], ["1+x"]) == ["correct"]
    finally:
        interrupt.join()
        signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("content", ["raise ImportError('broken')", "import os; os._exit(3)"])
def test_workers_that_do_not_start_are_reported(tmp_path, monkeypatch, content, capfd):
    (tmp_path / "math_verify.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with Grader() as grader, pytest.raises(RuntimeError, match="math-verify installed"):
        grader.grade(["x+1"], ["1+x"])
    assert ("broken" in capfd.readouterr().err) == ("broken" in content)


# A job that holds the lock of a file and has two workers, one of which is busy for an hour.
JOB = """
import fcntl, multiprocessing, os, sys, threading, time
from pathlib import Path
from mpd.text.grading.grader import Grader

if __name__ == "__main__":
    file = open(sys.argv[1], "w")
    fcntl.flock(file, fcntl.LOCK_EX)
    grader = Grader(deadline=3600, num_workers=2)
    grader.grade(["x+1", "x+2"], ["1+x", "x+3"])
    thread = threading.Thread(target=grader.grade, args=(["x"], ["sleep 3600"]), daemon=True)
    thread.start()
    while "sleep 3600" not in Path(os.environ["CHECKED_PAIRS"]).read_text():
        time.sleep(0.01)
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    time.sleep(600)
"""


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_workers_end_with_a_job_that_is_killed_and_keep_none_of_its_locks(checked, tmp_path):
    script, locked = tmp_path / "job.py", tmp_path / "locked"
    script.write_text(JOB)
    path = os.pathsep.join(sys.path)  # with the other math-verify
    job = subprocess.Popen(
        [sys.executable, str(script), str(locked)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    with job:
        pids = [int(pid) for pid in job.stdout.readline().split()]
        assert len(pids) == 2
        job.kill()
        job.wait()
        with locked.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        end = time.monotonic() + 30
        while any(map(is_running, pids)) and time.monotonic() < end:
            time.sleep(0.1)
        assert not any(map(is_running, pids))
