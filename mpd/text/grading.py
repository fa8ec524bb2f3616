r"""Final answers: take one out of a completion, read the gold answer, say whether they agree.

    extract("<think>2+2=4</think>It is \boxed{4}.", "</think>")  ->  "4"
    gold("2+2 is 4.\n#### 4", "auto")                            ->  "4"
    with Grader() as grader:
        grader.grade(["4", r"\frac12"], ["4.0", "1/3"])          ->  ["correct", "wrong"]

Integers are compared here, everything else by math-verify in worker processes that can be killed:
math-verify's own time limit is an alarm, which cannot interrupt a long big-integer computation and
reports a wrong answer when it does go off.
"""

import logging
import math
import multiprocessing
import re
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from pebble import ProcessExpired, ProcessPool

MAX_CHARACTERS = 1_000  # of one answer; the longest gold answer of MATH-500 has 53
START_SECONDS = 120.0  # for a worker to import math-verify; about 2 s on a quiet machine
MEMORY_BYTES = 2 << 30  # address space that a worker may take beyond what its imports took
ATTEMPTS = 2  # a worker may die for reasons outside the pair that it checks, but hardly twice

# A box may be over-escaped (`\\boxed`). `\{`, `\}` and a line break `\\` open and close nothing.
_BRACES = re.compile(r"\\{1,2}boxed\s*\{|\\[\\{}]|[{}]")
_ANSWER_LINE = re.compile(
    r"^[ \t>#*_`-]*(?:the[ \t]+)?(?:final[ \t]+)?answer[ \t*_`]*:(.*)$",
    re.IGNORECASE | re.MULTILINE,
)
# Math delimiters, and the negative space with which LaTeX closes the gap after a comma: 10,\!080.
_INVISIBLE = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])|\\!\s*")
_FULL_STOP = re.compile(r"(?<!\.)(?<!\\right)(?<!\\right ) ?\.$")
_INTEGER = re.compile(
    r"(?:\\\$ ?)?([+-]?) ?(?:\\\$ ?)?"
    r"([1-9][0-9]{0,2}(?:(?:,|\{,\}|\\,)[0-9]{3})+|[0-9]+)"
    r"(?:\.0*)? ?(?:\\?%)?"
)


def extract(text: str, think_close: str | None) -> str | None:
    r"""The final answer of a completion.

    That is the content of the last balanced `\boxed{...}` (of boxes in a box the innermost; empty
    ones do not count), else the rest of the last line that starts with "Answer:". There is no
    fall-back to the last number.

    Args:
        text: the completion.
        think_close: what ends the thinking, such as "</think>": only what follows its last
            occurrence counts. None where the format has no thinking part.

    Returns:
        The answer, or None: the thinking has no end, no answer is marked, or it is longer than
        MAX_CHARACTERS.
    """
    if think_close is not None:
        _, found, text = text.rpartition(think_close)
        if not found:
            return None
    answer = _last_box(text)
    if answer is None:
        lines = [line.strip(" \t\r*`") for line in _ANSWER_LINE.findall(text)]
        answer = next((line for line in reversed(lines) if line), None)
    return answer if answer is not None and len(answer) <= MAX_CHARACTERS else None


def gold(value: str | int | float, form: str) -> str:
    r"""The gold answer in the answer cell of a data set.

    Args:
        value: the cell. A number stands for itself: 27.0 gives "27".
        form: "plain", the text itself; "hash", what follows the last `####`, without thousands
            commas; "boxed", the content of the last balanced `\boxed{...}`; "auto", the one of
            hash, boxed, plain whose mark is there.

    Raises:
        ValueError: unknown form, a value that is neither text nor a finite number, or no answer.
    """
    if form not in ("auto", "plain", "hash", "boxed"):
        raise ValueError(f"gold answer form {form!r}: expected auto, plain, hash or boxed")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if form in ("hash", "boxed") or not math.isfinite(value):
            raise ValueError(f"gold answer of form {form!r}: found the number {value!r}")
        # Decimal: 1e-05 is no LaTeX.
        return str(int(value)) if value == int(value) else format(Decimal(repr(value)), "f")
    if not isinstance(value, str):
        raise ValueError(f"gold answer: expected text or a number, found {value!r}")
    if form == "auto":
        form = "hash" if "####" in value else "boxed" if r"\boxed" in value else "plain"
    if form == "hash":
        _, found, answer = value.rpartition("####")
        answer = answer.strip() if found else ""
        answer = (_integer(answer) if "," in answer else None) or answer
        sought = "text after '####'"
    elif form == "boxed":
        answer = _last_box(value) or ""
        sought = r"balanced, filled \boxed{...}"
    else:
        answer = value.strip()
        sought = "text"
    if not answer:
        raise ValueError(f"gold answer of form {form!r}: no {sought} in {value[-200:]!r}")
    return answer


def verify_integer(gold: str, answer: str) -> bool | None:
    r"""Whether two integers are equal; None where one of the two is not written as an integer.

    Left aside: math delimiters, `$`, `\$`, `%`, `\%`, leading zeros, a leading `+`, a final full
    stop, and thousands separators (`,`, `{,}`, `\,`), which are such only where they separate
    groups of three: "-2,1" is a list. A decimal part of zeros alone is left aside too ("27.0"),
    read as English writes it: "27.000" is 27.
    """
    expected, found = _integer(gold), _integer(answer)
    return None if expected is None or found is None else expected == found


def _last_box(text: str) -> str | None:
    """The content of the balanced, filled box that opens last. One pass: linear in the length."""
    open_braces: list[tuple[int, bool]] = []  # where the content starts, and whether it is a box's
    last_start, content = -1, None
    for token in _BRACES.finditer(text):
        if token[0] == "}":
            start, is_box = open_braces.pop() if open_braces else (-1, False)
            inside = text[start : token.start()].strip() if is_box and start > last_start else ""
            if inside:
                last_start, content = start, inside
        elif token[0] == "{" or "boxed" in token[0]:
            open_braces.append((token.end(), token[0] != "{"))
    return content


def _normalise(text: str) -> str:
    """The text without what changes its look and not its meaning."""
    text = _INVISIBLE.sub("", text.replace("\N{MINUS SIGN}", "-").replace("~", " "))
    return _FULL_STOP.sub("", " ".join(text.split()))


def _integer(text: str) -> str | None:
    """The canonical digits of an integer, as text: int() refuses more than 4,300 digits."""
    match = _INTEGER.fullmatch(_normalise(text))
    if match is None:
        return None
    digits = re.sub("[^0-9]", "", match[2]).lstrip("0") or "0"
    return "-" + digits if match[1] == "-" and digits != "0" else digits


def _verdict_without_worker(gold: str, answer: str | None) -> str | None:
    """The verdict where it needs no mathematics, else None."""
    if answer is None:
        return "none"
    if max(len(gold), len(answer)) > MAX_CHARACTERS:
        return "unparsed"
    equal = verify_integer(gold, answer)
    if equal is not None:
        return "correct" if equal else "wrong"
    gold, answer = _normalise(gold), _normalise(answer)
    if not gold or not answer:
        return "unparsed"
    if gold == answer:
        return "correct"
    # math-verify would read "5} + 3" in a box as 5.
    if any(_last_box(rf"\boxed{{{text}}}") != text for text in (gold, answer)):
        return "unparsed"
    return None


def _verdict_of_math_verify(gold: str, answer: str) -> str:
    """Runs in a worker: "correct", "wrong", or "unparsed" where one of the two has no reading."""
    from math_verify import LatexExtractionConfig, parse, verify

    # Read the box as a whole or not at all: any other setting lets math-verify pick a part of the
    # answer, down to its last number, where the whole does not parse.
    config = [LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)]
    readings = [
        parse(
            rf"\boxed{{{_normalise(text)}}}",
            config,
            extraction_mode="first_match",
            parsing_timeout=None,
        )
        for text in (gold, answer)
    ]
    try:
        equal = verify(*readings, timeout_seconds=None, raise_on_error=True)
    except (MemoryError, RecursionError):
        return "unparsed"
    except Exception:  # SymPy refuses to compare the two kinds of objects
        equal = False
    if equal:
        return "correct"
    # A reading holds the expression, if there is one, and then the text.
    parsed = all(any(not isinstance(item, str) for item in reading) for reading in readings)
    return "wrong" if parsed else "unparsed"


def _start_worker() -> None:
    """Runs first in a worker: how it ends, what it needs, and how much memory it may take."""
    # No computation can hold up the default actions of signals. Ctrl-C is ignored already: it is
    # for the parent, which then ends its workers.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of its limit being off
    _verdict_of_math_verify(r"\frac{1}{2}", "0.3")  # imports, and fills the parser's tables
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        limit = pages * resource.getpagesize() + MEMORY_BYTES
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _check_in_worker(gold: str, answer: str, deadline: float) -> str:
    """The verdict of math-verify. An alarm ends the worker should its parent have been killed."""
    signal.setitimer(signal.ITIMER_REAL, 2 * deadline + 60)
    verdict = _verdict_of_math_verify(gold, answer)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return verdict


class Grader:
    """Grades answers against gold answers; a context manager, since it may own processes.

    Args:
        deadline: seconds that math-verify may take for one pair.
        num_workers: worker processes. They start with the first pair that needs one.
    """

    def __init__(self, deadline: float = 10.0, num_workers: int = 1):
        if deadline <= 0 or num_workers < 1:
            raise ValueError(f"expected a deadline > 0 and a worker, got {deadline}, {num_workers}")
        self.deadline = deadline
        self.num_workers = num_workers
        self._pool: ProcessPool | None = None

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes. A later `grade` starts new ones."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def grade(self, golds: Sequence[str], answers: Sequence[str | None]) -> list[str]:
        """Grade row by row; equal rows are checked once.

        Returns:
            Per row "correct"; "wrong"; "none", there is no answer; "unparsed", no verdict on
            equality: one of the two is not readable as mathematics, too long, or exhausts
            memory; "timeout", equality was not decided within the deadline.

        Raises:
            ValueError: the two sequences differ in length.
            RuntimeError: workers do not start.
        """
        rows = list(zip(golds, answers, strict=True))
        verdicts: dict[tuple[str, str | None], str] = {}
        pairs: list[tuple[str, str]] = []
        for gold, answer in dict.fromkeys(rows):
            verdict = _verdict_without_worker(gold, answer)
            if verdict is not None:
                verdicts[gold, answer] = verdict
            elif answer is not None:
                pairs.append((gold, answer))
        try:
            verdicts |= self._check(pairs)
        except BaseException:
            self.close()
            raise
        return [verdicts[row] for row in rows]

    def _check(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str | None], str]:
        """Pair → verdict by math-verify, whatever becomes of a worker."""
        verdicts: dict[tuple[str, str | None], str] = {}
        deaths: Counter[tuple[str, str]] = Counter()
        failures = 0
        while pairs:
            num_events = len(verdicts) + deaths.total()
            try:
                self._attempt(pairs, verdicts, deaths)
            except RuntimeError as error:  # the pool broke: BrokenProcessPool is one
                self.close()
                if len(verdicts) + deaths.total() == num_events:
                    failures += 1
                if failures == ATTEMPTS:
                    raise RuntimeError(
                        f"the workers that check answers do not start ({error}); their error, if "
                        "any, is on stderr. Expected: math-verify installed, and a script's work "
                        "under `if __name__ == '__main__'`"
                    ) from error
            pairs = [pair for pair in pairs if pair not in verdicts]
        return verdicts

    def _attempt(
        self,
        pairs: list[tuple[str, str]],
        verdicts: dict[tuple[str, str | None], str],
        deaths: Counter[tuple[str, str]],
    ) -> None:
        """Check pairs. One whose worker died for the first time has no verdict yet."""
        if self._pool is not None and not self._pool.active:  # a worker died while idle
            self.close()
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # fork is unsafe beside threads
            self._pool = ProcessPool(self.num_workers, initializer=_start_worker, context=context)
        futures = [
            self._pool.schedule(_check_in_worker, (*pair, self.deadline), timeout=self.deadline)
            for pair in pairs
        ]
        for pair, future in zip(pairs, futures, strict=True):
            try:
                # Pairs are taken in order: this one's turn has come, once a worker has started.
                verdicts[pair] = future.result(START_SECONDS + self.deadline)
            except TimeoutError:
                if not future.done():
                    raise RuntimeError(f"no verdict in {START_SECONDS:.0f} seconds") from None
                verdicts[pair] = "timeout"
            except ProcessExpired:
                deaths[pair] += 1
                if deaths[pair] == ATTEMPTS:
                    verdicts[pair] = "unparsed"
