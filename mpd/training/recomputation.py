"""Which layers of a model keep what their backward pass needs, and which compute it again.

Recomputing a layer takes another forward pass of it and saves its activations (arXiv 1604.06174).
They are proportional to the tokens of a micro-batch, so each micro-batch recomputes only as many
layers as its own size asks for.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch.distributed.tensor import DTensor
from transformers.modeling_layers import GradientCheckpointingLayer

from mpd.job.gpu_memory import RESERVE, head_bytes
from mpd.scoring.forward import States, completion_states, pack
from mpd.training.sharding import is_sharded, reshard

log = logging.getLogger("mpd")

PROBE_TOKENS = 512


class Recomputation:
    """Recomputes all layers, none, or as many as the GPU's memory asks for."""

    def __init__(
        self,
        model: Any,
        choice: Literal["auto"] | bool,
        chunk_size: int,
        optimizer: Any,
        is_dense: bool = False,
        states: States = completion_states,
    ) -> None:
        """`chunk_size` positions have logits at a time; the optimiser may have no state yet.

        `is_dense`: the loss is a divergence over the whole vocabulary. `states` runs a forward
        pass.
        """
        self.model, self.optimizer, self.states = model, optimizer, states
        rows, width = model.get_output_embeddings().weight.shape
        self.head_bytes = head_bytes(rows, width, chunk_size, is_dense)
        modules = model.modules()
        self.layers = [one for one in modules if isinstance(one, GradientCheckpointingLayer)]
        self.device = next(model.parameters()).device
        self.is_chosen = choice == "auto" and self.device.type == "cuda" and bool(self.layers)
        self.number = len(self.layers)
        self.most = 0  # layers that any micro-batch recomputed
        if choice is True or self.is_chosen:
            model.gradient_checkpointing_enable()
            self.set(len(self.layers) if choice is True else 0)
        self.state_bytes = 0  # of a token that a recomputed layer keeps: its input
        self.bytes_of_token = self._measure() if self.is_chosen else 0.0
        self.gathered_bytes = _gathered_bytes(model, self.layers) if self.is_chosen else 0
        self.budget = 0

    def set(self, number: int) -> None:
        """Recompute so many layers, spread evenly."""
        count = len(self.layers)
        for index, layer in enumerate(self.layers):
            layer.gradient_checkpointing = (index + 1) * number // count > index * number // count
        self.number = number

    def before_step(self) -> None:
        """Look how much memory the activations of a micro-batch may take."""
        if not self.is_chosen:
            return
        # What earlier steps left in the allocator is free as well.
        free, total = torch.cuda.mem_get_info(self.device)
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        trained = sum(_local(weight).numel() for weight in weights)
        pending = 4 * trained * (1 if self.optimizer.state else 3)  # gradients, two moments
        pending += self.gathered_bytes
        self.budget = int(free + cached - pending - self.head_bytes - RESERVE * total)

    def before_micro_batch(self, num_tokens: int) -> None:
        """Recompute as many layers as a micro-batch of so many tokens needs."""
        if not self.is_chosen:
            return
        number = layers_to_recompute(
            len(self.layers), num_tokens, self.bytes_of_token, self.state_bytes, self.budget
        )
        if number != self.number:
            self.set(number)
        if number > self.most:
            self.most = number
            counts = number, len(self.layers), num_tokens
            log.info("%d of %d layers are recomputed with a micro-batch of %d tokens", *counts)

    def _measure(self) -> float:
        """The bytes of a token that a layer keeps, from a pass over PROBE_TOKENS of them."""
        packed = pack([[0]], [[0] * (PROBE_TOKENS - 1)])
        with torch.random.fork_rng([self.device]):  # adapters may have dropout
            for _ in range(2):  # the first pass compiles kernels and makes workspaces
                before = torch.cuda.memory_allocated(self.device)
                states = self.states(self.model, packed)
                self.state_bytes = states.shape[-1] * states.element_size()
                taken = torch.cuda.memory_allocated(self.device) - before
                del states
        reshard(self.model)
        return taken / (PROBE_TOKENS * len(self.layers))


def _gathered_bytes(model: Any, layers: Sequence[torch.nn.Module]) -> int:
    """Bytes of what a pass of a sharded model gathers: what is outside of layers, and two layers.

    Of a layer there are also the buffer that it is gathered in, and its gradients, in bfloat16 and
    twice in float32 while they are summed.
    """
    if not is_sharded(model):
        return 0
    largest = max(sum(weight.numel() for weight in layer.parameters()) for layer in layers)
    inside = sum(weight.numel() for layer in layers for weight in layer.parameters())
    outside = sum(weight.numel() for weight in model.parameters()) - inside
    return 2 * outside + largest * (3 * 2 + 2 + 2 * 4)


def _local(weight: torch.Tensor) -> torch.Tensor:
    """The part of a weight that this process holds: all of it, unless it is sharded."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


def layers_to_recompute(
    num_layers: int, num_tokens: int, layer_bytes: float, state_bytes: float, budget: float
) -> int:
    """The least number of layers to recompute so that activations fit into a budget of bytes.

    A layer keeps `layer_bytes` of each token, or `state_bytes` where it is recomputed; the layer
    whose backward pass runs needs `layer_bytes` twice more: what it computed again, and gradients.
    """
    needed = num_tokens * layer_bytes * (num_layers + 2)
    saved = num_tokens * (layer_bytes - state_bytes)
    if needed <= budget:
        return 0
    return min(num_layers, math.ceil((needed - budget) / saved)) if saved > 0 else 0
