import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mpd.text.grading import MAX_CHARACTERS, MEMORY_BYTES, Grader, extract, gold, verify_integer

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="real problem sets are not here")
VERDICTS = {"correct", "wrong", "none", "unparsed", "timeout"}
ENDLESS = "9^{9^{9^9}}"  # a power that Python would compute for hours, in one C call


@pytest.fixture(scope="module")
def grader():
    with Grader(deadline=60) as grader:
        yield grader


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"It is \boxed{4}.", "4"),
        (r"\boxed{1} or rather \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed {7}", "7"),
        (r"\\boxed{7}", "7"),
        (r"\boxed{ 7 }", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x } y", r"\left\{ x"),
        (r"\begin{cases} 1 \\{-2} \end{cases} \boxed{1\\2}", r"1\\2"),
        (r"} \boxed{3}", "3"),
        (r"{ \boxed{3}", "3"),
        (r"\boxed{3}. Wait, \boxed{4", "3"),
        (r"\boxed{3, hence \boxed{4}", "4"),
        (r"\boxed{4}. I put it in \boxed{}.", "4"),
        (r"\boxed{4", None),
        (r"\fbox{4}", None),
        (r"\boxed 4", None),
        ("The last number is 4", None),
        ("", None),
        ("Answer: 5", "5"),
        ("so\nanswer:5\nand so on", "5"),
        ("Answer: 4\nAnswer: 5", "5"),
        ("Answer: 4\nAnswer:", "4"),
        ("**Answer:** 5", "5"),
        ("**Answer: 5**", "5"),
        ("**Final Answer**: -5", "-5"),
        ("### The final answer: $x = 5$", "$x = 5$"),
        ("> - ANSWER: `5`\r\n", "5"),
        ("The answer is 5", None),
        ("My answer: 5", None),
        ("\\boxed{4}\nAnswer: 5", "4"),
        ("\\boxed{4\nAnswer: 5", "5"),
        (rf"\boxed{{{'1' * MAX_CHARACTERS}}}", "1" * MAX_CHARACTERS),
        (rf"\boxed{{{'1' * (MAX_CHARACTERS + 1)}}}", None),
    ],
)
def test_extract_without_thinking(text, answer):
    assert extract(text, None) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"<think>\boxed{1}</think>\boxed{2}", "2"),
        (r"<think>\boxed{1}</think>so it is 2", None),
        (r"<think>\boxed{1}</think>", None),
        (r"<think>\boxed{1}", None),
        (r"\boxed{1}", None),
        (r"</think>\boxed{1}</think>\boxed{2}", "2"),
        (r"</think>\boxed{1}</think>", None),
        ("<think>Answer: 1</think>\nAnswer: 2", "2"),
        (r"<think>\boxed{</think>\boxed{2}", "2"),
    ],
)
def test_extract_counts_only_what_follows_the_thinking(text, answer):
    assert extract(text, "</think>") == answer


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 20_000,
        "\\" * 100_000,
        "{" * 50_000 + "}" * 50_000,
        "\\boxed" + " " * 100_000,
        "*" * 100_000 + "answer" + " " * 100_000,
        "\n" * 100_000,
    ],
    ids=["boxes", "backslashes", "braces", "spaces", "stars", "lines"],
)
def test_extract_is_linear_on_hostile_text(text):
    assert extract(text, None) is None


@pytest.mark.parametrize(
    ("value", "form", "answer"),
    [
        (27.0, "auto", "27"),
        (27.5, "auto", "27.5"),
        (-1.0, "plain", "-1"),
        (0.00001, "auto", "0.00001"),
        (588, "auto", "588"),
        (0, "plain", "0"),
        ("025", "auto", "025"),
        (" 1,234 ", "plain", "1,234"),
        ("2 + 2 = <<2+2=4>>4\n#### 4", "auto", "4"),
        ("#### 1,234,567", "hash", "1234567"),
        ("#### -1,234", "hash", "-1234"),
        ("#### 3 #### 4", "hash", "4"),
        ("#### -2,1", "hash", "-2,1"),
        ("#### 12,34", "hash", "12,34"),
        (r"so \boxed{3} and \boxed{\frac{1}{2}}.", "auto", r"\frac{1}{2}"),
        (r"\boxed{1} #### 2", "auto", "2"),
        (r"\boxed{1} #### 2", "boxed", "1"),
        (r"\boxed{1} #### 2", "plain", r"\boxed{1} #### 2"),
        (r"\text{(C)}", "auto", r"\text{(C)}"),
    ],
)
def test_gold(value, form, answer):
    assert gold(value, form) == answer


@pytest.mark.parametrize(
    ("value", "form", "message"),
    [
        ("4", "hash", "no text after '####' in '4'"),
        ("4 ####  ", "auto", "no text after '####'"),
        ("4", "boxed", r"no balanced, filled \\boxed"),
        (r"\boxed{4", "auto", r"no balanced, filled \\boxed"),
        (r"\boxed{}", "boxed", r"no balanced, filled \\boxed"),
        ("  ", "plain", "no text in '  '"),
        ("", "auto", "no text in ''"),
        (4, "hash", "found the number 4"),
        (float("nan"), "auto", "found the number nan"),
        (float("inf"), "plain", "found the number inf"),
        (None, "auto", "expected text or a number, found None"),
        (True, "auto", "expected text or a number, found True"),
        ("4", "last", "'last': expected auto, plain, hash or boxed"),
    ],
)
def test_gold_refuses(value, form, message):
    with pytest.raises(ValueError, match=message):
        gold(value, form)


@pytest.mark.parametrize(
    ("expected", "answer", "equal"),
    [
        ("4", "4", True),
        ("4", "5", False),
        ("007", "7", True),
        ("000", "0", True),
        ("-0", "0", True),
        ("7", "+7", True),
        ("7", "-7", False),
        ("-7", "- 7", True),
        ("-7", "−7", True),
        ("1,234", "1234", True),
        ("1234", "1{,}234", True),
        ("10,\\!080", "10080", True),
        ("11,\\! 111,\\! 111,\\! 100", "11111111100", True),
        ("1234", r"1\,234", True),
        (r"\$32,\!348", "32348", True),
        ("36", "$36", True),
        ("36", r"\$36", True),
        ("-36", r"-\$36", True),
        ("36", "$36$", True),
        ("36", "$$ 36. $$", True),
        ("36", r"\(36\)", True),
        ("50", "50%", True),
        ("50", r"$50\%$", True),
        ("27", "27.", True),
        ("27", "27.00", True),
        ("27", "27.000", True),
        ("1" * 5_000, "0" + "1" * 5_000, True),
        ("-2,1", "21", None),
        ("21", "-2,1", None),
        ("1,2345", "12345", None),
        ("0,123", "123", None),
        ("1234,567", "1234567", None),
        ("1, 234", "1234", None),
        ("1 234", "1234", None),
        ("27.5", "27", None),
        ("27", "27..", None),
        ("27", "27 apples", None),
        ("٣", "3", None),
        ("", "3", None),
        ("$", "$", None),
        ("x", "x", None),
    ],
)
def test_verify_integer(expected, answer, equal):
    assert verify_integer(expected, answer) is equal


CASES = [
    # answers that need no mathematics
    ("4", None, "none"),
    (r"\frac{1}{2}", None, "none"),
    ("4", "4.0", "correct"),
    ("4", "5", "wrong"),
    (r"\text{(C)}", r"\text{(C)}", "correct"),
    ("x+1", r"\(x+1\).", "correct"),
    ("x", "", "unparsed"),
    ("x", "$$", "unparsed"),
    ("x", "y" * (MAX_CHARACTERS + 1), "unparsed"),
    ("5", "5} + 3", "unparsed"),
    ("5", "{5", "unparsed"),
    # fractions and decimals
    (r"\frac{1}{2}", "0.5", "correct"),
    (r"\frac{1}{2}", "1/2", "correct"),
    (r"\frac{1}{2}", r"\dfrac{2}{4}", "correct"),
    (r"\frac{1}{2}", "-1/2", "wrong"),
    ("-1/2", "−1/2", "correct"),
    (r"\frac 59", "5/9", "correct"),
    (r"1\frac{4}{5}", r"\frac{9}{5}", "correct"),
    (r"1\frac{4}{5}", r"\frac{4}{5}", "wrong"),
    (".35625", "0.35625", "correct"),
    (r"\frac{1}{3}", "0.33", "wrong"),
    ("1,234.5", "1234.5", "correct"),
    ("0.5", r"50\%", "correct"),
    (r"\sqrt{51}", r"\sqrt{50}", "wrong"),
    (r"11\sqrt2", r"11\sqrt{2}", "correct"),
    ("1024", "2^{10}", "correct"),
    (r"\frac{3}{4}", r"\frac34", "correct"),
    (r"\frac{3}{4}", r"\tfrac{3}{4}", "correct"),
    (r"-\frac{3}{4}", r"\frac{3}{-4}", "correct"),
    (r"\frac{2}{3}", "0.6667", "wrong"),
    ("7", r"\frac{14}{2}", "correct"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", "correct"),
    (r"2\pi", "6.28", "wrong"),
    (r"\log_2 8", "3", "correct"),
    ("10", r"\binom{5}{2}", "correct"),
    ("2^{100}", "1267650600228229401496703205376", "correct"),
    ("2^{100}", "1267650600228229401496703205377", "wrong"),
    # percent: of an integer the sign may be left out, and a share is what it is of hundred
    (r"25\%", "25", "correct"),
    (r"25\%", r"\frac{1}{4}", "correct"),
    (r"12.5\%", "0.125", "correct"),
    (r"12.5\%", "1.25", "wrong"),
    (r"\frac{1}{3}", r"33.3\%", "wrong"),
    ("25", "0.25", "wrong"),
    ("0.25", "25", "wrong"),
    ("25", r"25 \text{ percent}", "correct"),
    # thousands, powers of ten, money
    ("12345", r"12,345\text{ dollars}", "correct"),
    ("12345.5", r"12{,}345.5", "correct"),
    ("1234", "1.234", "wrong"),
    ("10000", "1,0000", "wrong"),
    ("1200", r"1.2 \times 10^3", "correct"),
    ("1.5", r"\$1.50", "correct"),
    ("1234.5", r"\$1{,}234.50", "correct"),
    ("64", r"\text{\$64}", "correct"),
    # intervals, tuples, lists: order counts in a tuple, not in a list
    ("[0,1)", r"\left[0,1\right)", "correct"),
    ("[0,1)", "(0,1)", "wrong"),
    (r"(0,\infty)", r"(0,+\infty)", "correct"),
    (r"[-1,1] \cup [2,3]", r"[2,3]\cup[-1,1]", "correct"),
    (r"\{1,2,3\}", r"\{3,2,1\}", "correct"),
    (r"\{1,2,3\}", r"\{1,2\}", "wrong"),
    ("1,2", r"x=1 \text{ or } x=2", "correct"),
    (r"\pm 3", "3,-3", "correct"),
    ("3", r"\pm 3", "wrong"),
    ("(3,4]", r"\left(3, 4\right]", "correct"),
    ("(3,4]", "[3,4]", "wrong"),
    (r"(-\infty, 2) \cup (3, \infty)", r"(3,\infty)\cup(-\infty,2)", "correct"),
    (r"x \in [-2,7]", "[-2,7]", "correct"),
    ("(3,4)", "(4,3)", "wrong"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)", "correct"),
    ("-2,1", "1,-2", "correct"),
    ("-2,1", "21", "wrong"),
    ("-2,1", "-2", "wrong"),
    ("3, 5, 7", "7, 5 and 3", "correct"),
    ("3, 5, 7", "3, 5", "wrong"),
    (r"3 \pm 2 \sqrt{2}", r"3+2\sqrt2, 3-2\sqrt2", "correct"),
    (r"3 \pm 2 \sqrt{2}", r"3+2\sqrt2", "wrong"),
    # algebra, matrices
    ("(a+5)(b+2)", "ab+2a+5b+10", "correct"),
    ("p - q", "q - p", "wrong"),
    ("x=5", "5", "correct"),
    ("5", "x = 5", "correct"),
    ("y = -2x", "y+2x=0", "correct"),
    (
        r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
        r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}",
        "correct",
    ),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}", "wrong"),
    (r"6-5i", r"-5i+6", "correct"),
    (r"6-5i", r"6+5i", "wrong"),
    ("5", "2+3=5", "correct"),
    ("6", "2+3=5", "wrong"),
    # units and text
    ("12", r"12\ \mathrm{cm}^2", "correct"),
    ("12", "12 apples", "correct"),
    ("60", r"60^{\circ}", "correct"),
    ("60", r"60 \text{ degrees}", "correct"),
    ("60", r"1 \text{ hour}", "wrong"),
    ("90", r"\angle ABC = 90^\circ", "correct"),
    (r"\text{(A)}", r"\textbf{(A)}", "correct"),
    ("A", "B", "wrong"),
    ("Yes", r"\text{No}", "wrong"),
    ("2:3", "2:3", "correct"),
    ("2:3", "3:2", "wrong"),
    ("5", r"\mathbf{5}", "correct"),
    ("5", "five", "wrong"),
    (r"90^\circ", "90", "correct"),
    (r"864 \mbox{ inches}^2", "864", "correct"),
    (r"5.4 \text{ cents}", "5.4", "correct"),
    ("12", r"12\text{ cm}", "correct"),
    ("12", r"12~\text{cm}", "correct"),
    ("12", "13 cm", "wrong"),
    (r"\text{Evelyn}", "Evelyn", "correct"),
    (r"\text{east}", r"\text{west}", "wrong"),
    (r"\text{(C)}", "C", "correct"),
    (r"\text{(C)}", "D", "wrong"),
    # nothing is picked out of an answer: not its last number, not its first
    ("3", "5 apples and 3 pears", "wrong"),
    ("12", "answer is 12", "wrong"),
    ("12", r"12 \text{ or } 13", "wrong"),
    ("5", "5 # 3", "unparsed"),
    ("5", "5 😀", "unparsed"),
    ("5", r"\frac", "unparsed"),
]


# Where the scorer is known to differ from a reader: it is the same one for every student and for
# the filter, and a change of it is another version of both.
TOO_STRICT = [
    ("12.5", r"12.5\%"),  # of a decimal the percent sign is read as a hundredth
    ("1234567", "1 234 567"),
    ("12345", "12,345 dollars"),
    ("1200", "1.2e3"),
    ("60", "60°"),
    ("5", r"\text{5 apples}"),
    (r"(-\infty,0]", r"x \le 0"),
    (r"\emptyset", r"\varnothing"),
    ("5", "5=x"),
    ("June 20", r"\text{June 20}"),
]
TOO_LENIENT = [
    ("4210_5", "4210_6"),  # the base is left aside
    (r"12 \text{ cm}", r"12 \text{ m}"),  # so are units
    ("0.1", "0.10000001"),  # decimals are rounded to six places
    ("0.333333", "1/3"),
    ("E", "e"),
    ("(1,2)", "1,2"),
]


def test_known_limits(grader):
    strict = grader.grade(*zip(*TOO_STRICT, strict=True))
    kept = [pair for pair, verdict in zip(TOO_STRICT, strict, strict=True) if verdict == "correct"]
    assert kept == []
    assert grader.grade(*zip(*TOO_LENIENT, strict=True)) == ["correct"] * len(TOO_LENIENT)


def test_grade(grader):
    golds, answers, verdicts = zip(*CASES, strict=True)
    graded = grader.grade(golds, answers)
    assert list(zip(golds, answers, graded, strict=True)) == CASES
    assert tuple(graded) == verdicts


def test_grade_refuses_sequences_of_different_length(grader):
    with pytest.raises(ValueError, match="shorter"):
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
    answers = [str(number) + "/7" for number in range(1, 21)]
    golds = [rf"\frac{{{number + number % 2}}}{{7}}" for number in range(1, 21)]
    with Grader(deadline=60, num_workers=2) as grader:
        assert grader.grade(golds, answers) == ["wrong", "correct"] * 10
        assert len(children() - before) == 2
    assert children() == before


def test_several_workers_check_at_the_same_time(checked):
    with Grader(num_workers=3) as grader:
        grader.grade(["x"] * 3, ["y", "z", "u"])
        began = time.monotonic()
        assert grader.grade(["x"] * 3, ["sleep 1", "sleep 1.0", "sleep 1.00"]) == ["wrong"] * 3
        assert time.monotonic() - began < 2.5


HOSTILE = [
    ENDLESS,
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
        grader.deadline = 60.0  # of workers that start from now on
        grader.close()
        assert grader.grade([r"\frac{1}{2}"], ["0.5"]) == ["correct"]


def test_a_pair_without_end_costs_no_other_its_verdict(checked):
    answers = ["1+x", "sleep 600", "2+x", "sleep 601", "3+x"]
    with Grader(deadline=1, num_workers=2) as grader:
        verdicts = grader.grade(["x+1", "y", "x+2", "y", "x+4"], answers)
        assert verdicts == ["correct", "timeout", "correct", "timeout", "wrong"]
        assert grader.grade(["x+3"], ["3+x"]) == ["correct"]


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
                grader.grade(["x+1", "x+2"], ["sleep 1", "x+3"])
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


# A job that holds the lock of a file and has two workers, one of which is busy for 5 seconds.
JOB = """
import fcntl, multiprocessing, sys, threading, time
from mpd.text.grading import Grader

if __name__ == "__main__":
    file = open(sys.argv[1], "w")
    fcntl.flock(file, fcntl.LOCK_EX)
    grader = Grader(num_workers=2)
    grader.grade(["x+1", "x+2"], ["1+x", "x+3"])
    thread = threading.Thread(target=grader.grade, args=(["x"], ["sleep 5"]), daemon=True)
    thread.start()
    time.sleep(0.5)
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
        assert any(map(is_running, pids)), "the busy worker should not have ended yet"
        end = time.monotonic() + 30
        while any(map(is_running, pids)) and time.monotonic() < end:
            time.sleep(0.1)
        assert not any(map(is_running, pids))


def golds_of(path: str) -> list[str]:
    lines = (SHARED / path).read_text().splitlines()
    return [gold(json.loads(line)["answer"], "auto") for line in lines]


@needs_shared
@pytest.mark.parametrize(
    ("path", "num_rows"),
    [
        ("gsm8k/train.jsonl", 7473),
        ("gsm8k/test.jsonl", 1319),
        ("aime24/test.jsonl", 30),
        ("aime25/test.jsonl", 30),
        ("amc23/test.jsonl", 40),
    ],
)
def test_integer_golds_grade_themselves(path, num_rows):
    golds = golds_of(path)
    assert [answer for answer in golds if verify_integer(answer, answer) is not True] == []
    assert len(golds) == num_rows


@needs_shared
def test_math500_golds_grade_themselves(grader):
    golds = golds_of("math500/test.jsonl")
    # The texts differ and none is an integer: every row goes through math-verify.
    verdicts = grader.grade(golds, [rf"\displaystyle {answer}" for answer in golds])
    missed = [(a, v) for a, v in zip(golds, verdicts, strict=True) if v != "correct"]
    assert missed == []
    assert grader.grade(golds, golds) == ["correct"] * 500
