"""The section distill, and the settings of its stage."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from mpd.config.base import (
    AlsoFromKey,
    Count,
    FromJob,
    FromKey,
    Gate,
    Share,
    StageSettings,
    StrictModel,
)
from mpd.config.generation import BranchSeed
from mpd.config.methods import DivergenceName
from mpd.config.policy_gradient import FixedAdvantage, Relaxed

Beta = Annotated[float, Field(ge=0, lt=1)]
# YAML reads the word no as false.
MixedPrecision = Annotated[
    Literal["no", "tf32", "bf16"],
    BeforeValidator(lambda value: "no" if value is False else value),
]

MaxEntry = Annotated[
    float,
    Field(
        gt=0,
        description="what one id of the vocabulary may add to clamped_forward_kl at most, in nats",
    ),
]


class Lora(StrictModel):
    """Low-rank adapters, which are trained in place of the weights."""

    rank: Count = Field(16, description="rank of the adapters")
    alpha: float = Field(32.0, gt=0, description="adapters are scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in front of the adapters")
    targets: str | tuple[str, ...] = Field(
        "all-linear", description="names of the modules that get an adapter, or all-linear"
    )


class Training(StrictModel):
    """How a round trains the student."""

    learning_rate: float = Field(gt=0, description="peak learning rate in round 1")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="decay of the learning rate after the warm-up"
    )
    warmup: Share = Field(
        0.05,
        description="share of the steps in which the learning rate rises; raise it if the first "
        "steps diverge",
    )
    budget: Literal["epochs", "steps", "tokens"] = Field(
        "epochs", description="unit of the training in a round, the same for every method"
    )
    epochs: float = Field(
        1.0, gt=0, description="passes over the kept trajectories, with budget: epochs"
    )
    amount: Count | None = Field(
        None,
        description="optimiser steps with budget: steps, trained completion tokens with budget: "
        "tokens",
    )
    batch_size: Count = Field(32, description="trajectories per optimiser step, over all processes")
    beta: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="weight of the teacher in the mixture of jensen_shannon: near 0 its gradient "
        "is like that of forward KL, near 1 like that of reverse KL",
    )
    forward_share: Share = Field(
        0.5,
        description="weight of forward KL in mix, the rest is reverse KL; raise it if the "
        "student loses solutions that the teacher finds probable",
    )
    tail: Literal["bucket", "truncated", "renormalised"] = Field(
        "bucket",
        description="bucket: tail buckets are outcomes of the divergence; truncated leaves them "
        "out, renormalised rescales to the support: both are wrong, and for ablations",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="temperature of both distributions; other than 1 needs logits.cache: hidden",
    )
    merge_stop_ids: bool = Field(
        False,
        description="count all stop ids as one outcome; for a student and a teacher that end "
        "their completions with different ones",
    )
    loss: Literal["token_mean", "sequence_mean"] = Field(
        "token_mean",
        description="mean over tokens, or mean over trajectories of their means, if long ones "
        "should count no more than short ones",
    )
    weight_decay: float = Field(
        0.0, ge=0, description="of AdamW; raise it if many epochs overfit few trajectories"
    )
    betas: tuple[Beta, Beta] = Field(
        (0.9, 0.95), description="of AdamW; raise the second one for small batches"
    )
    max_gradient_norm: float = Field(
        1.0,
        gt=0,
        description="gradients with a larger norm are clipped to it; lower it if the loss has "
        "spikes, raise it if nearly every step is clipped",
    )
    mixed_precision: MixedPrecision = Field(
        "no",
        description="precision of forward and backward pass; trained weights stay float32; tf32: "
        "float32 with rounded products on a GPU",
    )
    lora: Lora | None = Field(
        None,
        description="adapters to train, and to merge into the weights at the end; null: train all "
        "weights",
    )
    min_kept: Annotated[Count, Gate()] = Field(
        1, description="with fewer kept trajectories, the run stops before training"
    )

    @model_validator(mode="after")
    def _require_amount(self) -> "Training":
        if (self.budget == "epochs") != (self.amount is None):
            raise ValueError(
                f"budget: {self.budget} {'has no' if self.budget == 'epochs' else 'needs an'} "
                "amount; epochs are set by epochs, steps and tokens by amount"
            )
        return self


class Distill(Training):
    """The section: how every round trains the student."""

    round_decay: float = Field(
        1.0, gt=0, le=1, description="factor of the learning rate from each round to the next"
    )
    relaxed: Relaxed = Relaxed()
    fixed_advantage: FixedAdvantage = FixedAdvantage()
    max_entry: MaxEntry = 0.05


class DistillSettings(Training, StageSettings):
    """Settings of the stage distill."""

    section: ClassVar[str] = "distill"
    learning_rate: Annotated[float, AlsoFromKey("distill.round_decay", "from round 2 on")] = Field(
        gt=0, description="peak learning rate in this round"
    )
    divergence: Annotated[DivergenceName, FromJob("method")] = "reverse_kl"
    seed: BranchSeed = 0


class ClampedSettings(DistillSettings):
    """Settings of the stage distill for the clamped forward KL of copsd."""

    when: ClassVar[str] = "with divergence: clamped_forward_kl"
    divergence: Annotated[Literal["clamped_forward_kl"], FromJob("method")]
    max_entry: MaxEntry = 0.05


class RelaxedSettings(DistillSettings):
    """Settings of the stage distill for the policy gradient of reopold."""

    when: ClassVar[str] = "with divergence: relaxed_policy_gradient"
    divergence: Annotated[Literal["relaxed_policy_gradient"], FromJob("method")]
    relaxed: Relaxed = Relaxed()
    reward_floor: Annotated[
        float, FromKey("distill.relaxed.mixture"), FromKey("distill.relaxed.floor")
    ] = Field(description="floor of the rewards in nats, as mixture and floor give it")

    @model_validator(mode="after")
    def _require_floor(self) -> "RelaxedSettings":
        floor = self.relaxed.reward_floor
        if not math.isclose(self.reward_floor, floor, rel_tol=1e-9):
            raise ValueError(
                f"reward_floor is {self.reward_floor}, but mixture {self.relaxed.mixture} and "
                f"floor: {self.relaxed.floor} give {floor}; set it to that"
            )
        return self


class FixedAdvantageSettings(DistillSettings):
    """Settings of the stage distill for the control with a constant advantage."""

    when: ClassVar[str] = "with divergence: fixed_advantage"
    divergence: Annotated[Literal["fixed_advantage"], FromJob("method")]
    fixed_advantage: FixedAdvantage = FixedAdvantage()


_KINDS = {
    "clamped_forward_kl": "ClampedSettings",
    "relaxed_policy_gradient": "RelaxedSettings",
    "fixed_advantage": "FixedAdvantageSettings",
}


def _kind_of(settings: Any) -> str:
    """The model of settings, which may be a mapping, by their divergence."""
    is_mapping = isinstance(settings, Mapping)
    divergence = settings.get("divergence") if is_mapping else settings.divergence
    return _KINDS.get(str(divergence), "DistillSettings")


AnyDistillSettings = Annotated[
    Annotated[DistillSettings, Tag("DistillSettings")]
    | Annotated[ClampedSettings, Tag("ClampedSettings")]
    | Annotated[RelaxedSettings, Tag("RelaxedSettings")]
    | Annotated[FixedAdvantageSettings, Tag("FixedAdvantageSettings")],
    Discriminator(_kind_of),
]


def distill_settings(section: Distill, keys: Mapping[str, Any]) -> DistillSettings:
    """The settings of a round from their keys, and what their divergence reads of the section."""
    if keys["divergence"] == "relaxed_policy_gradient":
        relaxed = section.relaxed
        return RelaxedSettings(**keys, relaxed=relaxed, reward_floor=relaxed.reward_floor)
    if keys["divergence"] == "fixed_advantage":
        return FixedAdvantageSettings(**keys, fixed_advantage=section.fixed_advantage)
    if keys["divergence"] == "clamped_forward_kl":
        return ClampedSettings(**keys, max_entry=section.max_entry)
    return DistillSettings(**keys)
