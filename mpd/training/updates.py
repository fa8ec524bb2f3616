"""The optimiser steps of a training: weights, loss, optimiser, schedule and memory."""

import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain, islice
from typing import Any

import torch
from accelerate import Accelerator
from torch.distributed.tensor import DTensor

from mpd.config.methods import WITHOUT_SCORES
from mpd.job.ahead import ahead
from mpd.job.flops import forward_flops
from mpd.job.gpu_memory import CHUNK_SIZES, DENSE_CHUNK_SIZE
from mpd.scoring.forward import States, completion_states
from mpd.scoring.output_head import load_head
from mpd.text.vocabulary import Vocabulary
from mpd.training.batches import MicroBatch, TrajectoryDataset, collate
from mpd.training.dropout import plan_dropout
from mpd.training.job import TrainingJob
from mpd.training.master_weights import MasterWeights
from mpd.training.metrics import StepMeasures
from mpd.training.objective import NUM_SUMS, SUMS, Objective
from mpd.training.policy_gradient import PolicyGradient
from mpd.training.recomputation import Recomputation
from mpd.training.sharding import ShardedWeights, reshard, sharded_states

AHEAD = 2  # micro-batches that are collated in advance
NO_MOMENTS = (
    "the GPU's memory is full with the weights, their gradients and the moments of AdamW; take a "
    "smaller student, or train adapters (distill.lora)"
)


def learning_rate_factor(step: int, num_steps: int, warmup: float, schedule: str) -> float:
    """The factor of the peak learning rate at `step` (from 0): warm-up, then the schedule."""
    warmup_steps = math.ceil(warmup * num_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
    if schedule == "linear":
        return 1 - progress
    return 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0


class Loop:
    """What an optimiser step needs: weights, loss, optimiser, schedule and memory."""

    def __init__(
        self,
        job: TrainingJob,
        model: Any,
        weights: MasterWeights | ShardedWeights,
        accelerator: Accelerator,
        num_steps: int,
    ) -> None:
        """Take a model and its weights in float32."""
        settings, resources = job.settings, job.resources
        self.accelerator, self.device = accelerator, accelerator.device
        self.max_gradient_norm, self.num_steps = settings.max_gradient_norm, num_steps
        self.dropout = plan_dropout(model, settings.seed)
        self.weights = weights
        self.optimizer = torch.optim.AdamW(
            self.weights.trained,
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=self.device.type == "cuda",
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: learning_rate_factor(step, num_steps, settings.warmup, settings.schedule),
        )
        # What a saved state has of the loop.
        self.parts: tuple[Any, ...] = weights, self.optimizer, self.scheduler
        self.tensors = None
        states: States = completion_states
        if isinstance(weights, ShardedWeights):
            self.parts = (self.scheduler,)
            self.tensors, states = partial(weights.tensors, self.optimizer), sharded_states
        self.has_adapters = settings.lora is not None
        student = model.get_base_model() if settings.lora else model
        vocabulary = Vocabulary.of_folder(job.student)
        is_dense = job.head is not None and settings.divergence not in WITHOUT_SCORES
        default = DENSE_CHUNK_SIZE if is_dense else CHUNK_SIZES[self.device.type]
        chunk_size = resources.chunk_size or default
        self.objective = Objective(
            student, vocabulary.size, vocabulary.stop_ids, settings, chunk_size
        )
        self.objective.states = states
        if job.head:
            self.objective.teacher_head = load_head(job.head, self.device)
        self.recomputation = Recomputation(
            student, resources.gradient_checkpointing, chunk_size, self.optimizer, is_dense, states
        )

    def measures(
        self, dataset: TrajectoryDataset, plan: list[list[list[tuple[int, int]]]]
    ) -> Generator[StepMeasures, None, None]:
        """Take the planned optimiser steps, one for each item."""
        rank, num_processes = self.accelerator.process_index, self.accelerator.num_processes
        own_plan = [step[rank::num_processes] for step in plan]

        def collated() -> Iterator[MicroBatch]:
            for items in chain.from_iterable(own_plan):
                batch = collate([dataset[item] for item in items])
                yield batch.pin_memory() if self.device.type == "cuda" else batch

        with closing(ahead(collated(), AHEAD)) as batches:
            for step in own_plan:
                yield self._step(islice(batches, len(step)), len(step))

    def _step(self, batches: Iterator[MicroBatch], count: int) -> StepMeasures:
        """One optimiser step on its micro-batches. Nothing waits for the GPU until its end."""
        start, flops = time.monotonic(), 0
        sums = torch.zeros(NUM_SUMS, device=self.device)
        self.recomputation.before_step()
        policy = self.objective.policy
        leaves_out = policy is not None and policy.leaves_out
        if policy is not None and leaves_out:
            listed = list(batches)
            self._begin_phase(policy, listed)
            if policy.threshold is not None:
                flops += sum(map(self._forward_flops, listed))
            batches = iter(listed)
        for number, batch in enumerate(batches, start=1):
            flops += self.flops_of_batch(batch)
            self.dropout.set(batch.keys, batch.packed.lengths)
            self.recomputation.before_micro_batch(batch.packed.ids.numel())
            with _memory_for(batch):
                loss, batch_sums = self.objective(batch.to(self.device))
                self.weights.backward(loss, is_last=number == count)
            sums += batch_sums
        sums = self.accelerator.reduce(sums, "sum")
        if leaves_out:
            self._divide_by_counted(sums)
        norm = torch.nn.utils.clip_grad_norm_(self.weights.trained, self.max_gradient_norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        learning_rate = float(self.scheduler.get_last_lr()[0])
        try:
            self.optimizer.step()
        except torch.OutOfMemoryError as error:
            raise ValueError(NO_MOMENTS) from error
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.weights.copy_to_model()
        total = sums.tolist()
        return StepMeasures(total, learning_rate, float(norm), time.monotonic() - start, flops)

    def _begin_phase(self, policy: PolicyGradient, batches: list[MicroBatch]) -> None:
        """Set which tokens of a step count; its second phase takes another forward pass of them.

        Its threshold is a quantile over the whole step, all processes together.
        """
        step, _ = batches[0].keys[0]
        policy.threshold = None
        if not policy.is_exploring(step, self.num_steps):
            parts = []
            for batch in batches:
                self.dropout.set(batch.keys, batch.packed.lengths)
                with _memory_for(batch):
                    parts.append(self.objective.entropies(batch.to(self.device)))
            reshard(self.objective.model)
            nan: Any = float("nan")  # declared as an integer
            padded = self.accelerator.pad_across_processes(torch.cat(parts), pad_index=nan)
            entropies = self.accelerator.gather(padded)
            policy.threshold = policy.threshold_of(entropies[~entropies.isnan()])

    def _divide_by_counted(self, sums: torch.Tensor) -> None:
        """Make a mean over the tokens that count of gradients and losses; `sums` are of a step."""
        named = {name: sums[number] for number, name in enumerate(SUMS)}
        shares = {
            "token_mean": ("divergence", named["counted"] / named["positions"]),
            "sequence_mean": ("sequence_mean", named["counted_share"]),
        }
        for loss, (name, share) in shares.items():
            factor = torch.where(share > 0, 1 / share, 0.0)
            named[name].mul_(factor)
            if loss == self.objective.settings.loss:
                for weight in self.weights.trained:
                    if weight.grad is not None:
                        weight.grad.mul_(factor)

    def flops_of_batch(self, batch: MicroBatch) -> int:
        """Operations of the forward and backward pass of a micro-batch.

        A backward pass takes as many as the forward pass for its inputs, and as many for the
        weights, unless they are frozen.
        """
        return self._forward_flops(batch) * (2 if self.has_adapters else 3)

    def _forward_flops(self, batch: MicroBatch) -> int:
        packed = batch.packed
        return forward_flops(self.objective.model, packed.lengths, len(packed.predicts))


@contextmanager
def _memory_for(batch: MicroBatch) -> Iterator[None]:
    """Say what to do where a micro-batch does not fit into the memory of a GPU."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(out_of_memory(batch)) from error


def out_of_memory(batch: MicroBatch) -> str:
    """What to do where a micro-batch does not fit into the memory of a GPU."""
    lengths = batch.packed.lengths
    return (
        f"the GPU's memory is full with a micro-batch of {len(lengths)} trajectories and "
        f"{sum(lengths)} tokens; lower resources.distill.micro_batch_tokens (one trajectory needs "
        "as many as it has), lower chunk_size, or set gradient_checkpointing: true"
    )
