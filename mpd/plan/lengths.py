"""How long completions are expected to be, and how many are kept.

From the files of an earlier run of the experiment where it has them, else from token limits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mpd.config import Config
from mpd.config.base import BASE
from mpd.config.branches import Branch

# Assumptions, where no run has been measured. In the embedded world samples have .31, rewrites .28
# and answers .4 of their limits.
SHARE_OF_LIMIT = 1 / 3  # mean length of a completion, of max_new_tokens
KEPT = {"correct": 0.75, "incorrect": 0.25, "all": 1.0}  # samples with a completion that is kept
PROMPT, TINY_PROMPT = 150, 20  # tokens of a rendered problem


@dataclass(frozen=True)
class Measured:
    """Means over the rows of a round that was run: tokens of a completion, and the share kept."""

    sample: float | None = None
    rewrite: float | None = None
    trained: float | None = None
    kept: float | None = None
    answers: float | None = None


Rounds = Mapping[tuple[str, int], Measured]


class Lengths:
    """Expected lengths of each method and round, as tokens."""

    def __init__(self, config: Config, measured: Rounds | None = None) -> None:
        self.config, self.measured = config, measured or {}
        self.prompt = TINY_PROMPT if config.models.student.source == "tiny" else PROMPT

    def sample(self, branch: Branch, number: int) -> float:
        """A sample of a round.

        Without a measurement, a student that was trained writes as much as what it was trained on,
        and the embedded world's teacher, which is concise, as much as in a rewrite.
        """
        same = [branch.name]
        if number == 1:  # methods with one sampler have the same samples
            branches, teacher = self.config.branches.values(), branch.method.sampler == "teacher"
            same += [
                other.name for other in branches if (other.method.sampler == "teacher") == teacher
            ]
        for name in same:
            value = self._measured(name, number, "sample")
            if value is not None:
                return value
        if number > 1:
            from_student = branch.method.sampler == "student"
            return (self.trained if from_student else self.sample)(branch, number - 1)
        is_concise = self.config.models.teacher.source == "tiny"
        if branch.method.sampler == "teacher" and is_concise:
            return branch.compress.max_new_tokens * SHARE_OF_LIMIT
        return branch.sample.max_new_tokens * SHARE_OF_LIMIT

    def rewrite(self, branch: Branch, number: int) -> float:
        """What the teacher writes for one candidate; 0 where nothing is rewritten."""
        if branch.method.rewriter == "none":
            return 0.0
        value = self._latest(branch.name, number, "rewrite")
        limit = branch.compress.max_new_tokens * SHARE_OF_LIMIT
        return value if value is not None else min(limit, self.sample(branch, number))

    def trained(self, branch: Branch, number: int) -> float:
        """A completion that is scored and trained on."""
        value = self._latest(branch.name, number, "trained")
        if value is not None:
            return value
        return self.rewrite(branch, number) or self.sample(branch, number)

    def kept(self, branch: Branch, number: int) -> float:
        """Kept completions for each sample: at most one."""
        value = self._latest(branch.name, number, "kept")
        return KEPT[branch.method.kept] if value is None else value

    def answer(self, method: str, number: int, limit: int) -> float:
        """An answer to a held-out problem.

        That of a trained student is to the base student's as what it was trained on is to the base
        student's samples, and no longer.
        """
        value = self._measured(method, number, "answers")
        if value is not None:
            return value
        base = self._measured(BASE, 0, "answers")
        length = limit * SHARE_OF_LIMIT if base is None else base
        branch = self.config.branches.get(method)
        if branch is None or number == 0:
            return length
        is_student = branch.method.sampler != "teacher"
        first = branch.sample.max_new_tokens * SHARE_OF_LIMIT
        first = self.sample(branch, 1) if is_student else first
        return length * min(self.trained(branch, number) / first, 1.0)

    def _measured(self, method: str, number: int, name: str) -> float | None:
        measured = self.measured.get((method, number))
        return getattr(measured, name) if measured else None

    def _latest(self, method: str, number: int, name: str) -> float | None:
        """Of this round, or of the last one before it that was measured."""
        for round_number in range(number, 0, -1):
            value = self._measured(method, round_number, name)
            if value is not None:
                return value
        return None
