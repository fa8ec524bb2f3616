"""The policy gradient of realised tokens: advantages, which tokens count, and importance ratio.

The loss of a token is -ρ A, where ρ = p / p_old is the student's probability of it over that of the
student that sampled it, and A its advantage, without gradient. Where no ratio is asked for, p_old
is p itself: ρ is 1, and its gradient that of log p. A = log q - log p with the current student at
every step is arXiv 2610.11291; with a floor, two phases and the ratio it is 2603.11137, equations
4 to 10. A constant A for improbable tokens is the control of 2608.31046.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch

from mpd.config.distill import DistillSettings, FixedAdvantageSettings, RelaxedSettings
from mpd.config.policy_gradient import FixedAdvantage, Relaxed


class PolicyGradient:
    """Losses of realised tokens, and which of them count.

    With a floor of the advantages there are two phases: in the first one the tokens under the floor
    do not count, in the second one those whose entropy is under the `threshold` of the step. What
    counts is at least the floor.
    """

    def __init__(self, settings: DistillSettings) -> None:
        self.relaxed: Relaxed | None = None
        self.fixed: FixedAdvantage | None = None
        self.floor: float | None = None  # nats
        self.threshold: float | None = None  # of the step, in the second phase; nats
        if isinstance(settings, RelaxedSettings):
            self.relaxed, self.floor = settings.relaxed, settings.reward_floor
        elif isinstance(settings, FixedAdvantageSettings):
            self.fixed = settings.fixed_advantage

    @property
    def leaves_out(self) -> bool:
        """Whether some tokens do not count."""
        return self.relaxed is not None

    def is_exploring(self, step: int, num_steps: int) -> bool:
        """Whether a step (from 0) is one of the first phase.

        0.55 of 100 steps are 55, though their product is a little more.
        """
        return self.relaxed is None or step < round(self.relaxed.exploration * num_steps, 6)

    def threshold_of(self, entropies: torch.Tensor) -> float:
        """The entropy that the tokens of a second-phase step need, from those of all of them."""
        assert self.relaxed is not None
        return float(np.quantile(entropies.cpu().numpy(), 1 - self.relaxed.entropy_share))

    def __call__(
        self,
        logprobs: torch.Tensor,
        entropy: torch.Tensor,
        scores: Mapping[str, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses [N] of tokens, 0 where one does not count, and which of them count [N].

        `logprobs` [N] of the current student have a gradient, `entropy` [N] is its own; `scores`
        have `teacher_logprob` [N] and, for the importance ratio, `old_logprob` [N].
        """
        current = logprobs.detach()
        counts = torch.ones_like(current, dtype=torch.bool)
        if self.fixed is not None:
            is_improbable = current < math.log(self.fixed.max_probability)
            advantages = is_improbable * self.fixed.advantage
        else:
            advantages = scores["teacher_logprob"] - current
        if self.floor is not None:
            is_above = advantages >= self.floor
            counts = is_above if self.threshold is None else entropy >= self.threshold
            advantages = advantages.clamp(min=self.floor)
        has_ratio = self.relaxed is not None and self.relaxed.importance_ratio
        old = scores["old_logprob"] if has_ratio else current
        losses = -(logprobs - old).exp() * advantages
        return losses.masked_fill(~counts, 0.0), counts
