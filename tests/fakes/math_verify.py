"""What the workers of a grader import in place of math-verify: it does what the answers say.

Every process that imports it, and every pair of gold and answer that it checks, is a line of the
file that the environment variable CHECKED_PAIRS names. An answer `die` kills its process, `die
once` only the first time, `sleep 2` takes two seconds, `spin 2` two seconds of processor time, and
`eat 2` two bytes of memory. Two texts are equal if their letters are the same.
"""

import os
import signal
import time
from pathlib import Path

LOG = Path(os.environ["CHECKED_PAIRS"])
WARM_UP = r"\frac{1}{2} 0.3"  # a worker checks it before any other pair


def note(line):
    with LOG.open("a") as file:
        file.write(line + "\n")


class grader:
    """Where the comparisons are that mpd replaces."""


class parser:
    """Where the readings are that mpd replaces."""


class LatexExtractionConfig:
    def __init__(self, **_):
        pass


def parse(text, *_, **__):
    content = text.removeprefix(r"\boxed{").removesuffix("}")
    return [len(content), content]


def verify(gold, answer, **_):
    pair = f"{gold[-1]} {answer[-1]}"
    if pair != WARM_UP:
        note(pair)
    command, *amount = answer[-1].split()
    times = LOG.read_text().splitlines().count(pair)
    if command == "die" and (not amount or times == 1):
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    if command == "eat":
        bytearray(int(amount[0]))
    if command == "sleep":
        time.sleep(float(amount[0]))
    if command == "spin":
        end = time.process_time() + float(amount[0])
        while time.process_time() < end:
            pass
    return sorted(gold[-1]) == sorted(answer[-1])


note("started")
