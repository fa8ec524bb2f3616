"""The sections filter, logits, distill and report: from rewrites to the student that ships."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mpd.config.base import Count, Section, Share
from mpd.config.generation import Engine

Beta = Annotated[float, Field(ge=0, lt=1)]


class Filter(Section):
    min_ratio: float = Field(0.02, ge=0, description="tokens of the rewrite over the sample's")
    max_ratio: float = Field(1.0, gt=0, description="tokens of the rewrite over the sample's")
    max_overlap: Share = Field(1.0, description="share of the rewrite's trigrams in the sample")
    max_tokens: Count | None = Field(None, description="longest trained completion; null: any")
    leaks: tuple[str, ...] = Field(
        (), description="phrases (any case) that a rewrite must not contain"
    )
    copies: Literal["keep", "drop"] = Field(
        "keep", description="rewrites that are their trajectory: the teacher finds it concise"
    )
    max_repeats: Count = Field(
        8, description="times that one run of 4 or more tokens may follow itself"
    )

    @model_validator(mode="after")
    def _possible(self) -> "Filter":
        if self.min_ratio > self.max_ratio:
            raise ValueError(
                f"min_ratio {self.min_ratio} is above max_ratio {self.max_ratio}, so that nothing "
                "could be kept; lower it"
            )
        return self


class Logits(Engine):
    cache: Literal["sparse", "hidden"] = Field(
        "sparse", description="log-probabilities on a support, or inputs of the teacher's head"
    )
    support: Literal["union", "teacher"] = Field(
        "union",
        description="candidates: the teacher's most probable ids with the student's, or not",
    )
    top_k: Count = Field(128, description="the teacher's most probable ids, candidates")
    student_top_k: Count = Field(128, description="the student's most probable ids, candidates")
    min_contribution: float = Field(
        0.001,
        ge=0,
        description="candidates that change a position's gradient by less join its tail: in nats "
        "times probability, or as a share of a divergence above 1 nat; support: teacher: less "
        "probable ones",
    )
    tail_buckets: Count = Field(16, description="outcomes of the tail: equal ranges of ids")

    @model_validator(mode="after")
    def _what_vllm_gives(self) -> "Logits":
        wanted = {"support": "teacher", "cache": "sparse", "tail_buckets": 1}
        for key, value in wanted.items():
            if self.engine == "vllm" and getattr(self, key) != value:
                raise ValueError(
                    f"engine: vllm gives the teacher's most probable ids and no others; set "
                    f"{key}: {value}"
                )
        return self


class Lora(Section):
    rank: Count = Field(16, description="of the adapters")
    alpha: float = Field(32.0, gt=0, description="adapters are scaled by alpha over rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="before the adapters, in training")
    targets: str | tuple[str, ...] = Field(
        "all-linear", description="modules that get an adapter: names, or all-linear"
    )


class Distill(Section):
    learning_rate: float = Field(gt=0, description="peak, in round 1")
    round_decay: float = Field(1.0, gt=0, le=1, description="factor for each further round")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="of the learning rate, after the warm-up"
    )
    warmup: Share = Field(0.05, description="share of the steps")
    budget: Literal["epochs", "steps", "tokens"] = Field(
        "epochs", description="what a round of training is measured in, the same for every method"
    )
    epochs: float = Field(1.0, gt=0, description="of budget: epochs")
    amount: Count | None = Field(
        None, description="of budget: steps, optimiser steps; tokens, trained completion tokens"
    )
    batch_size: Count = Field(32, description="trajectories per optimiser step, all processes")
    beta: float = Field(0.5, gt=0, lt=1, description="weight of the teacher in jensen_shannon")
    forward_share: Share = Field(0.5, description="of forward KL in mix; the rest is reverse KL")
    tail: Literal["bucket", "truncated", "renormalised"] = Field(
        "bucket", description="truncated and renormalised are ablations, and wrong"
    )
    temperature: float = Field(
        1.0, gt=0, description="of both distributions; other than 1 needs cache: hidden"
    )
    merge_stop_ids: bool = Field(False, description="all stop ids are one outcome of the loss")
    loss: Literal["token_mean", "sequence_mean"] = Field(
        "token_mean", description="mean over tokens, or over trajectories of their means"
    )
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    betas: tuple[Beta, Beta] = Field((0.9, 0.95), description="of AdamW")
    max_gradient_norm: float = Field(1.0, gt=0, description="longer gradients are clipped")
    mixed_precision: Literal["no", "bf16"] = Field(
        "no", description="of forward and backward pass; weights stay float32"
    )
    lora: Lora | None = Field(
        None, description="train adapters, merged into the weights at the end"
    )
    min_kept: Count = Field(1, description="fewer kept trajectories stop the run before training")

    @model_validator(mode="after")
    def _amount(self) -> "Distill":
        if (self.budget == "epochs") != (self.amount is None):
            raise ValueError(
                f"budget: {self.budget} {'has no' if self.budget == 'epochs' else 'needs an'} "
                "amount; epochs are set by epochs, steps and tokens by amount"
            )
        return self


class Report(Section):
    max_accuracy_drop: Share = Field(
        0.0, description="of the shipped round on the development split, below the base student"
    )
