"""Worker processes that grade answers, by mathematics or a scorer, and are killed if they hang.

A pair has a budget of the worker's own processor time, which other work on the machine does not
use up. The clock on the wall ends only what waits for something that never comes.
"""

import logging
import multiprocessing
import os
import signal
import sys
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path

from pebble import ProcessExpired, ProcessPool

from mpd.text.grading.equivalence import verdict_by_mathematics
from mpd.text.grading.golds import Gold, ScoredProblem
from mpd.text.grading.scorers import prepare_scorers, verdict_by_scorer

START_SECONDS = 120.0  # for a worker to import math-verify; about 2 s on a quiet machine
MEMORY_BYTES = 1 << 30  # address space that a worker may take beyond what its imports took
PATIENCE = 30  # times its processor time that a pair may take by the clock
ATTEMPTS = 2  # a worker may die for reasons outside the pair that it checks, but hardly twice

Pair = tuple[Gold, str]  # gold answer or problem with a scorer, and answer


def _start_worker(scores: bool) -> None:
    """Prepare a worker process: signals, imports, and its limit of memory."""
    # By default these signals end a process even within one long C call. SIGINT is ignored, as
    # pebble sets it: after Ctrl-C the parent ends its workers.
    _end_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of its limit being off
    verdict_by_mathematics(r"\frac{1}{2}", "0.3")  # imports, and fills the parser's tables
    if scores:
        prepare_scorers()
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        limit = pages * resource.getpagesize() + MEMORY_BYTES
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _end_with_parent() -> None:
    """Have the kernel end this process once its parent is gone, even within one long C call.

    The parent alone holds the other end of a pipe. When it is closed, Linux sends SIGIO, which ends
    a process by default.
    """
    parent = multiprocessing.parent_process()
    if sys.platform != "linux" or parent is None:
        return
    import fcntl

    pipe = parent.sentinel
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if wait([pipe], 0):  # it was closed before
        os._exit(1)


def _check_pair(gold: Gold, answer: str, deadline: float) -> str:
    """The verdict on a pair, in a worker. SIGPROF ends it after `deadline` processor seconds."""
    # The parent keeps the time by the clock. Where it was killed and there is no SIGIO, the alarm
    # ends this process.
    signal.setitimer(signal.ITIMER_REAL, 2 * PATIENCE * deadline + 60)
    signal.setitimer(signal.ITIMER_PROF, deadline)
    if isinstance(gold, ScoredProblem):
        verdict = verdict_by_scorer(gold, answer)
    else:
        verdict = verdict_by_mathematics(gold, answer)
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return verdict


class Workers:
    """A pool of worker processes. They start with the first pair.

    Args:
        num_workers: how many pairs are checked at a time.
    """

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self._pool: ProcessPool | None = None
        self._scores = False  # whether the workers of the pool can score

    def close(self) -> None:
        """End the processes. A later `check` starts new ones."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def check(self, pairs: list[Pair], deadline: float) -> dict[Pair, str]:
        """The verdict on each of several different pairs, whatever becomes of a worker.

        Those of `verdict_by_mathematics` and `verdict_by_scorer`; "timeout" after `deadline`
        seconds of processor time, or twice PATIENCE times as long by the clock; and "unparsed"
        where a pair has killed two workers. (pebble may overlook a worker that dies within
        milliseconds of taking its pair, which is then a "timeout".) Raises RuntimeError where
        workers do not start.
        """
        verdicts: dict[Pair, str] = {}
        deaths: Counter[Pair] = Counter()
        failures = 0
        if not self._scores and any(isinstance(gold, ScoredProblem) for gold, _ in pairs):
            self.close()
            self._scores = True
        while pairs:
            progress = len(verdicts) + deaths.total()
            try:
                self._check_once(pairs, deadline, verdicts, deaths)
            except RuntimeError as error:  # BrokenProcessPool is one
                self.close()
                failures = 0 if len(verdicts) + deaths.total() > progress else failures + 1
                if failures == ATTEMPTS:
                    raise RuntimeError(
                        f"the workers that check answers do not start ({error}); their error, if "
                        "any, is on stderr. Expected: math-verify installed, and a script's work "
                        "under `if __name__ == '__main__'`"
                    ) from error
            pairs = [pair for pair in pairs if pair not in verdicts]
        return verdicts

    def _check_once(
        self,
        pairs: list[Pair],
        deadline: float,
        verdicts: dict[Pair, str],
        deaths: Counter[Pair],
    ) -> None:
        """Add the verdicts on pairs, but none where a pair's worker died for the first time.

        Raises RuntimeError where the pool broke: the other pairs have no verdicts then.
        """
        pool = self._open_pool()
        futures = [
            pool.schedule(_check_pair, (*pair, deadline), timeout=PATIENCE * deadline)
            for pair in pairs
        ]
        for pair, future in zip(pairs, futures, strict=True):
            try:
                # Workers take pairs in this order: this one runs, or is the next.
                verdicts[pair] = future.result(START_SECONDS + PATIENCE * deadline)
            except TimeoutError:
                if not future.done():
                    raise RuntimeError(f"no verdict in {START_SECONDS:.0f} seconds") from None
                outcome = "timeout"  # if it happens again: the machine may have been at fault
            except BrokenProcessPool:
                raise
            except ProcessExpired as error:
                if error.exitcode == -signal.SIGPROF:
                    verdicts[pair] = "timeout"
                outcome = "unparsed"
            except Exception:  # it ran out of memory outside of the comparison
                outcome = "unparsed"
            if pair not in verdicts:
                deaths[pair] += 1
                if deaths[pair] == ATTEMPTS:
                    verdicts[pair] = outcome

    def _open_pool(self) -> ProcessPool:
        """The pool, a new one if a worker of the old one died while it was idle."""
        if self._pool is not None and not self._pool.active:
            self.close()
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # fork is unsafe beside threads
            self._pool = ProcessPool(
                self.num_workers,
                initializer=_start_worker,
                initargs=(self._scores,),
                context=context,
            )
        return self._pool
