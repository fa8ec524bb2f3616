"""The training loop of distill, on accelerate.

With several processes this module is a program of its own:

    torchrun --standalone --nproc_per_node 2 -m mpd.training.loop JOB.json
"""

import logging
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed

from mpd.job.progress import Progress
from mpd.scoring.output_head import load_head
from mpd.store import schema, table
from mpd.text.vocabulary import Vocabulary
from mpd.training import checkpoints
from mpd.training.batches import CachedRows, TrajectoryDataset, collate
from mpd.training.job import METRICS_FILE, TrainingJob
from mpd.training.metrics import StepMeasures, metrics_row
from mpd.training.objective import NUM_SUMS, Objective
from mpd.training.steps import extent, plan_steps
from mpd.training.student import load_student
from mpd.training.tracking import Tracker

log = logging.getLogger("mpd")


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

    `steps` are the rows of every planned step, `metrics` those of the steps already taken. Taking
    an item of `measures` takes the next step.
    """

    accelerator: Accelerator
    model: Any
    steps: list[list[int]]
    metrics: list[dict[str, Any]]
    measures: Iterator[StepMeasures]


def start(job: TrainingJob) -> TrainingRun:
    """Plan and load a training run, or resume a killed one; nothing is trained yet."""
    settings, resources = job.settings, job.resources
    torch.set_num_threads(resources.threads)
    set_seed(settings.seed)
    cached = CachedRows(job.rows)
    steps = plan_steps(cached.group_sizes, cached.lengths, settings)
    dataset = TrajectoryDataset(cached, steps, settings)
    num_processes = int(os.environ.get("WORLD_SIZE", 1))
    plan = dataset.plan(resources.micro_batch_size, num_processes)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),  # else several processes on a CPU are each alone
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_steps=len(plan[0]) // num_processes,
        log_with=None if resources.tracker == "none" else resources.tracker,
        project_dir=job.tracking,
        dataloader_config=DataLoaderConfiguration(even_batches=False),
    )
    assert accelerator.num_processes == num_processes
    model = load_student(job)
    objective, optimizer, scheduler = _prepare(job, model, accelerator, len(steps))
    metrics = checkpoints.resume(accelerator, job.scratch)
    micro_batches = list(chain.from_iterable(plan[len(metrics) :]))
    loader: Any = torch.utils.data.DataLoader(
        dataset,
        batch_sampler=micro_batches,
        collate_fn=collate,
        generator=torch.Generator(),  # else a resumed run draws from the restored global one
    )
    loader = accelerator.prepare(loader)
    measures = _optimise(
        accelerator, loader, objective, optimizer, scheduler, settings.max_gradient_norm
    )
    return TrainingRun(accelerator, model, steps, metrics, measures)


def train(job: TrainingJob) -> None:
    """Train the student of `job` and fill its folder with weights and metrics.parquet."""
    run = start(job)
    accelerator, steps, metrics = run.accelerator, run.steps, run.metrics
    if accelerator.is_main_process:
        log.info("%s", extent(steps))
    tracker = Tracker(accelerator, job)
    progress = Progress("trained", (len(steps) - len(metrics)) * len(steps[0]))
    for measures in run.measures:
        metrics.append(metrics_row(measures, metrics, job.settings.loss))
        progress.advance(len(steps[0]), metrics[-1]["num_tokens"])
        tracker.log(metrics[-1])
        if len(metrics) % job.resources.checkpoint_steps == 0 and len(metrics) < len(steps):
            checkpoints.save(accelerator, job.scratch, metrics)
    if accelerator.is_main_process:
        model = run.model.merge_and_unload() if job.settings.lora else run.model
        model.save_pretrained(job.folder)
        rows = table.frame_of(metrics, schema.METRICS)
        table.write(job.folder / METRICS_FILE, rows, schema.METRICS, {})
    accelerator.wait_for_everyone()
    accelerator.end_training()


def _prepare(
    job: TrainingJob, model: Any, accelerator: Accelerator, num_steps: int
) -> tuple[Any, Any, Any]:
    """Objective, optimiser and schedule, ready to train or to resume."""
    settings = job.settings
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
    )
    # Not prepared: a prepared schedule steps once for each process.
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: learning_rate_factor(step, num_steps, settings.warmup, settings.schedule),
    )
    accelerator.register_for_checkpointing(scheduler)
    vocabulary = Vocabulary.of_folder(job.student)
    objective = Objective(
        model.get_base_model() if settings.lora else model,
        vocabulary.size,
        vocabulary.stop_ids,
        settings,
        job.resources.chunk_size,
    )
    if job.head:
        objective.teacher_head = load_head(job.head, accelerator.device)
    return *accelerator.prepare(objective, optimizer), scheduler


def _optimise(
    accelerator: Accelerator,
    loader: Any,
    objective: Any,
    optimizer: Any,
    scheduler: Any,
    max_gradient_norm: float,
) -> Iterator[StepMeasures]:
    """Take the optimiser steps, one for each item."""
    divisor = accelerator.gradient_accumulation_steps * accelerator.num_processes
    sums = torch.zeros(NUM_SUMS + 2, device=accelerator.device)  # and the usage
    for batch in loader:
        with accelerator.accumulate(objective):
            with accelerator.autocast():
                loss, batch_sums = objective(batch)
            # Undo what accelerate (accumulation) and data parallelism (mean) divide by.
            accelerator.backward(loss * divisor)
            sums += torch.cat([batch_sums, batch["usage"]])
            if not accelerator.sync_gradients:
                continue
            norm = accelerator.clip_grad_norm_(objective.parameters(), max_gradient_norm)
            learning_rate = float(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        total = accelerator.reduce(sums.clone(), "sum").tolist()
        sums.zero_()
        yield StepMeasures(total, learning_rate, float(norm))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="distill: %(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    train(TrainingJob.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8")))
