"""Dropout in front of adapters that no micro-batch decides.

What is dropped of a trajectory depends on the seed of the training, the step, the row and the
adapter, not on its neighbours, nor on the process that has it.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional


class DropoutPlan:
    """Which trajectories the model sees: every dropout of a model has the same plan."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.keys: Sequence[tuple[int, int]] = ()
        self.lengths: Sequence[int] = ()

    def set(self, keys: Sequence[tuple[int, int]], lengths: Sequence[int]) -> None:
        """Take the micro-batch that follows: step and row of each sequence, and their lengths."""
        self.keys, self.lengths = keys, lengths

    def uniforms(self, name: str, width: int, device: torch.device) -> torch.Tensor:
        """Random numbers [T, width] for the tokens of the micro-batch, from 0 to 1."""
        parts = []
        for key, length in zip(self.keys, self.lengths, strict=True):
            text = repr((self.seed, *key, name)).encode()
            seed = int.from_bytes(hashlib.blake2b(text, digest_size=7).digest())
            generator = torch.Generator(device).manual_seed(seed)
            parts.append(torch.rand(length, width, generator=generator, device=device))
        return torch.cat(parts)


class PlannedDropout(torch.nn.Module):
    """Dropout of inputs [..., H] by a plan; recomputing a layer drops the same again."""

    def __init__(self, probability: float, name: str, plan: DropoutPlan) -> None:
        """`name` is that of the module in the model: each adapter drops others."""
        super().__init__()
        self.probability, self.name, self.plan = probability, name, plan

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Drop inputs with the probability, and scale the others up."""
        if not self.training:
            return inputs
        width = inputs.shape[-1]
        if inputs.numel() != sum(self.plan.lengths) * width:
            # A pass that only measures memory, or an expert, which sees some of the tokens.
            return functional.dropout(inputs, self.probability)
        uniforms = self.plan.uniforms(self.name, width, inputs.device).view_as(inputs)
        return inputs * (uniforms >= self.probability) / (1 - self.probability)


def plan_dropout(model: Any, seed: int) -> DropoutPlan:
    """Replace the dropout of the adapters of a PeftModel, if any; returns the plan of all."""
    plan = DropoutPlan(seed)
    for name, module in list(model.named_modules()):
        dropouts = getattr(module, "lora_dropout", {})
        for adapter, dropout in list(dropouts.items()):
            if isinstance(dropout, torch.nn.Dropout):
                dropouts[adapter] = PlannedDropout(dropout.p, name, plan)
    return plan
