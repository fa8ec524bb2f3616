"""The grader: verdicts on many answers."""

import logging
from collections.abc import Sequence

from mpd.text.grading.equivalence import verdict_by_text
from mpd.text.grading.golds import Gold, ScoredProblem
from mpd.text.grading.scorers import require_scorer
from mpd.text.grading.workers import Pair, Workers

log = logging.getLogger("mpd")

DEADLINE = 2.0  # seconds of processor time; the slowest answers that people write take about 0.5


class Grader:
    """Grades answers against gold answers; a context manager, since it may own processes.

    Args:
        deadline: seconds of processor time that math-verify or a scorer may take for one pair of
            gold answer and answer.
        num_workers: worker processes. They start with the first pair that needs one.
    """

    def __init__(self, deadline: float = DEADLINE, num_workers: int = 1) -> None:
        if deadline <= 0 or num_workers < 1:
            raise ValueError(f"expected a deadline > 0 and a worker, got {deadline}, {num_workers}")
        self.deadline = deadline
        self._workers = Workers(num_workers)

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes. A later `grade` starts new ones."""
        self._workers.close()

    def grade(self, golds: Sequence[Gold], answers: Sequence[str | None]) -> list[str]:
        """Grade row by row; equal rows are checked once.

        Returns:
            Per row "correct"; "wrong"; "none", there is no answer; "unparsed", no verdict on
            equality: one of the two is not readable as mathematics, or too long, too deep or too
            large (see bounds.py), or a scorer raised an error; "timeout", there was no decision
            within the deadline.

        Raises:
            ValueError: the two sequences differ in length, or a scorer's package is missing or of
                another version.
            RuntimeError: a worker does not start.
        """
        rows = list(zip(golds, answers, strict=True))
        for scorer in {gold.scorer for gold in golds if isinstance(gold, ScoredProblem)}:
            require_scorer(scorer)
        verdicts: dict[tuple[Gold, str | None], str] = {}
        pairs: list[Pair] = []
        for gold, answer in dict.fromkeys(rows):
            scored = isinstance(gold, ScoredProblem) and answer is not None
            verdict = None if scored else verdict_by_text(str(gold), answer)
            if verdict is not None:
                verdicts[gold, answer] = verdict
            elif answer is not None:
                pairs.append((gold, answer))
        try:
            verdicts.update(self._workers.check(pairs, self.deadline).items())
        except BaseException:
            self.close()  # the verdicts that the workers still compute are not needed
            raise
        num_timeouts = sum(verdicts[pair] == "timeout" for pair in pairs)
        if num_timeouts:
            log.warning(
                "the answer checker gave up on %d of %d different answers after %g seconds of "
                "processor time each; they count as not correct, with the verdict timeout",
                *(num_timeouts, len(verdicts), self.deadline),
            )
        return [verdicts[row] for row in rows]
