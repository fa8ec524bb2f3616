"""What methods with a policy gradient read of the section distill: constants of their rewards."""

import math
from typing import Literal

from pydantic import Field

from mpd.config.base import Share, StrictModel


class Relaxed(StrictModel):
    """The policy gradient of reopold: floored rewards, two phases, and an importance ratio."""

    mixture: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="λ, which sets the floor of the rewards; raise it if rare tokens that the "
        "teacher finds improbable decide the steps",
    )
    floor: Literal["log_odds", "scaled_log"] = Field(
        "log_odds",
        description="reading of the floor: log_odds is log(λ / (1 - λ)), scaled_log is "
        "log(λ) / (1 - λ)",
    )
    exploration: Share = Field(
        0.5,
        description="share of the steps, the first ones, that leave out tokens whose reward is "
        "under the floor; later steps leave out tokens of low entropy",
    )
    entropy_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="share of the tokens of a later step that is trained on: those where the "
        "student's entropy is highest",
    )
    importance_ratio: bool = Field(
        True,
        description="whether gradients are weighed by the student's probability of the token over "
        "that of the student that sampled it, both at temperature 1",
    )

    @property
    def reward_floor(self) -> float:
        """The floor of the rewards in nats, by the reading of arXiv 2603.11137 in `floor`."""
        rest = 1 - self.mixture
        odds = math.log(self.mixture / rest)
        return odds if self.floor == "log_odds" else math.log(self.mixture) / rest


class FixedAdvantage(StrictModel):
    """The control whose advantage is a constant: it needs no teacher."""

    max_probability: float = Field(
        0.1,
        gt=0,
        le=1,
        description="tokens that the student finds less probable than this get the advantage; "
        "others get none",
    )
    advantage: float = Field(-1.0, lt=0, description="advantage of such a token, in nats")
