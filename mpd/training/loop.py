"""The training loop of distill, on accelerate.

With several processes this module is a program of its own:

    torchrun --standalone --nproc_per_node 2 -m mpd.training.loop JOB.json
"""

import logging
import math
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from mpd.job.ahead import ahead
from mpd.job.flops import forward_flops
from mpd.job.gpu_memory import CHUNK_SIZES, DENSE_CHUNK_SIZE
from mpd.job.messages import log_to_stderr
from mpd.job.progress import Progress, speed_of
from mpd.scoring.output_head import load_head
from mpd.store import schema, table
from mpd.store.supervisor import watch
from mpd.text.vocabulary import Vocabulary
from mpd.training import checkpoints
from mpd.training.batches import CachedRows, MicroBatch, TrajectoryDataset, collate
from mpd.training.dropout import plan_dropout
from mpd.training.job import METRICS_FILE, TrainingJob
from mpd.training.master_weights import MasterWeights
from mpd.training.metrics import StepMeasures, metrics_row
from mpd.training.objective import NUM_SUMS, Objective
from mpd.training.recomputation import Recomputation
from mpd.training.steps import Limits, extent, plan_steps
from mpd.training.student import load_student
from mpd.training.tracking import Tracker

log = logging.getLogger("mpd")

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


@dataclass
class TrainingRun:
    """A training run under way.

    `name` says which run it is to its saved states, and `parts` have the state of one. `steps` are
    the rows of every planned step, `metrics` those of the steps already taken. Taking an item of
    `measures` takes the next step.
    """

    name: str
    accelerator: Accelerator
    model: Any
    weights: MasterWeights
    parts: tuple[Any, ...]
    steps: list[list[int]]
    metrics: list[dict[str, Any]]
    measures: Generator[StepMeasures, None, None]


def start(job: TrainingJob) -> TrainingRun:
    """Plan and load a training run, or resume a killed one; nothing is trained yet."""
    settings, resources = job.settings, job.resources
    torch.set_num_threads(max(1, resources.threads // resources.num_processes))
    torch.backends.cuda.matmul.allow_tf32 = settings.mixed_precision == "tf32"
    set_seed(settings.seed)
    cached = CachedRows(job.rows)
    steps = plan_steps(cached.lengths, settings)
    dataset = TrajectoryDataset(cached, steps, settings)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),  # else several processes on a CPU are each alone
        mixed_precision="no",  # the model itself is in the precision of its passes
        log_with=None if resources.tracker == "none" else resources.tracker,
        project_dir=job.tracking,
    )
    limits = Limits(resources.micro_batch_size, resources.micro_batch_tokens)
    plan = dataset.plan(limits, accelerator.num_processes)
    model = load_student(job)
    loop = Loop(job, model, accelerator, len(steps))
    name = job.digest
    metrics = checkpoints.resume(accelerator, job.scratch, loop.parts, name)
    measures = loop.measures(dataset, plan[len(metrics) :])
    return TrainingRun(name, accelerator, model, loop.weights, loop.parts, steps, metrics, measures)


def train(job: TrainingJob) -> None:
    """Train the student of `job` and fill its folder with weights and metrics.parquet."""
    run = start(job)
    accelerator, steps, metrics = run.accelerator, run.steps, run.metrics
    if accelerator.is_main_process:
        log.info("%s", extent(steps))
    tracker = Tracker(accelerator, job)
    progress = Progress("trained", (len(steps) - len(metrics)) * len(steps[0]))
    with closing(run.measures):
        for measures in run.measures:
            metrics.append(metrics_row(measures, metrics, job.settings.loss))
            num_tokens = metrics[-1]["num_tokens"]
            progress.advance(len(steps[0]), num_tokens, measures.flops)
            speed = speed_of(num_tokens, measures.seconds, measures.flops)
            tracker.log({**metrics[-1], **speed})
            if len(metrics) % job.resources.checkpoint_steps == 0 and len(metrics) < len(steps):
                checkpoints.save(accelerator, job.scratch, metrics, run.parts, run.name)
    if accelerator.is_main_process:
        with run.weights.in_model():
            model = run.model.merge_and_unload() if job.settings.lora else run.model
            model.save_pretrained(job.folder)
        rows = table.frame_of(metrics, schema.METRICS)
        table.write(job.folder / METRICS_FILE, rows, schema.METRICS, job.made_from)
    accelerator.wait_for_everyone()
    accelerator.end_training()


class Loop:
    """What an optimiser step needs: weights, loss, optimiser, schedule and memory."""

    def __init__(
        self, job: TrainingJob, model: Any, accelerator: Accelerator, num_steps: int
    ) -> None:
        """Take a float32 model."""
        settings, resources = job.settings, job.resources
        self.accelerator, self.device = accelerator, accelerator.device
        self.max_gradient_norm = settings.max_gradient_norm
        self.dropout = plan_dropout(model, settings.seed)
        is_bf16 = settings.mixed_precision == "bf16"
        self.weights = MasterWeights(model, torch.bfloat16 if is_bf16 else torch.float32)
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
        self.parts = self.weights, self.optimizer, self.scheduler  # of a checkpoint
        self.has_adapters = settings.lora is not None
        student = model.get_base_model() if settings.lora else model
        vocabulary = Vocabulary.of_folder(job.student)
        is_dense = job.head is not None and settings.divergence != "cross_entropy"
        default = DENSE_CHUNK_SIZE if is_dense else CHUNK_SIZES[self.device.type]
        chunk_size = resources.chunk_size or default
        self.objective = Objective(
            student, vocabulary.size, vocabulary.stop_ids, settings, chunk_size
        )
        if job.head:
            self.objective.teacher_head = load_head(job.head, self.device)
        self.recomputation = Recomputation(
            student, resources.gradient_checkpointing, chunk_size, self.optimizer, is_dense
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
        for number, batch in enumerate(batches, start=1):
            flops += self.flops_of_batch(batch)
            self.dropout.set(batch.keys, batch.packed.lengths)
            self.recomputation.before_micro_batch(batch.packed.ids.numel())
            try:
                loss, batch_sums = self.objective(batch.to(self.device))
                self.weights.backward(loss, is_last=number == count)
            except torch.OutOfMemoryError as error:
                raise ValueError(out_of_memory(batch)) from error
            sums += batch_sums
        norm = torch.nn.utils.clip_grad_norm_(self.weights.trained, self.max_gradient_norm)
        learning_rate = float(self.scheduler.get_last_lr()[0])
        try:
            self.optimizer.step()
        except torch.OutOfMemoryError as error:
            raise ValueError(NO_MOMENTS) from error
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.weights.copy_to_model()
        total = self.accelerator.reduce(sums, "sum").tolist()
        return StepMeasures(total, learning_rate, float(norm), time.monotonic() - start, flops)

    def flops_of_batch(self, batch: MicroBatch) -> int:
        """Operations of the forward and backward pass of a micro-batch.

        A backward pass takes as many as the forward pass for its inputs, and as many for the
        weights, unless they are frozen.
        """
        forward = forward_flops(
            self.objective.model, batch.packed.lengths, len(batch.packed.predicts)
        )
        return forward * (2 if self.has_adapters else 3)


def out_of_memory(batch: MicroBatch) -> str:
    """What to do where a micro-batch does not fit into the memory of a GPU."""
    lengths = batch.packed.lengths
    return (
        f"the GPU's memory is full with a micro-batch of {len(lengths)} trajectories and "
        f"{sum(lengths)} tokens; lower resources.distill.micro_batch_tokens (one trajectory needs "
        "as many as it has), lower chunk_size, or set gradient_checkpointing: true"
    )


if __name__ == "__main__":
    log_to_stderr("distill")
    log.setLevel(logging.INFO)
    watch()
    train(TrainingJob.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8")))
