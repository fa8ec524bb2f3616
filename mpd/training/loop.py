"""The training loop of distill, on accelerate.

With several processes this module is a program of its own:

    torchrun --standalone --nproc_per_node 2 -m mpd.training.loop JOB.json
"""

import logging
import sys
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed

from mpd.config.methods import REWARDED
from mpd.job.messages import log_to_stderr
from mpd.job.progress import Progress, speed_of
from mpd.store import schema, table
from mpd.store.loading import loading
from mpd.store.supervisor import watch
from mpd.training import checkpoints
from mpd.training.batches import (
    REALISED_COLUMNS,
    TRAINING_COLUMNS,
    CachedRows,
    TrajectoryDataset,
)
from mpd.training.job import METRICS_FILE, TrainingJob
from mpd.training.master_weights import MasterWeights
from mpd.training.metrics import StepMeasures, metrics_row
from mpd.training.sharding import ShardedWeights, load_sharded, reshard
from mpd.training.steps import Limits, extent, plan_steps
from mpd.training.student import load_student, save_student
from mpd.training.tracking import Tracker
from mpd.training.updates import Loop

log = logging.getLogger("mpd")


@dataclass
class TrainingRun:
    """A training run under way.

    `steps` are the rows of every planned step, `metrics` those of the steps already taken. Taking
    an item of `measures` takes the next step.
    """

    accelerator: Accelerator
    model: Any
    weights: MasterWeights | ShardedWeights
    saved: checkpoints.SavedStates
    steps: list[list[int]]
    metrics: list[dict[str, Any]]
    measures: Generator[StepMeasures, None, None]


def start(job: TrainingJob) -> TrainingRun:
    """Plan and load a training run, or resume a killed one; nothing is trained yet."""
    settings, resources = job.settings, job.resources
    torch.set_num_threads(max(1, resources.threads // resources.num_processes))
    torch.backends.cuda.matmul.allow_tf32 = settings.mixed_precision == "tf32"
    set_seed(settings.seed)
    is_rewarded = settings.divergence in REWARDED
    cached = CachedRows(job.rows, REALISED_COLUMNS if is_rewarded else TRAINING_COLUMNS)
    steps = plan_steps(cached.lengths, settings)
    dataset = TrajectoryDataset(cached, steps, settings)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),  # else several processes on a CPU are each alone
        mixed_precision="no",  # the model itself is in the precision of its passes
        log_with=None if resources.tracker == "none" else resources.tracker,
        project_dir=job.tracking,
        # The first process alone reads, hashes and writes all weights while the others wait.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=6))],
    )
    limits = Limits(resources.micro_batch_size, resources.micro_batch_tokens)
    plan = dataset.plan(limits, accelerator.num_processes)
    is_sharded = resources.sharding == "full" and accelerator.num_processes > 1
    dtype = torch.bfloat16 if settings.mixed_precision == "bf16" else torch.float32
    model = load_sharded(job, accelerator.device, dtype) if is_sharded else load_student(job)
    weights = ShardedWeights(model) if is_sharded else MasterWeights(model, dtype)
    loop = Loop(job, model, weights, accelerator, len(steps))
    saved = checkpoints.SavedStates(accelerator, job.scratch, job.digest, loop.parts, loop.tensors)
    metrics = saved.resume()
    reshard(model)
    for group, rate in zip(
        loop.optimizer.param_groups, loop.scheduler.get_last_lr(), strict=True
    ):  # which sharded states do not have
        group["lr"] = rate
    measures = loop.measures(dataset, plan[len(metrics) :])
    return TrainingRun(accelerator, model, weights, saved, steps, metrics, measures)


def train(job: TrainingJob) -> None:
    """Train the student of `job` and fill its folder with weights and metrics.parquet."""
    with loading():
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
                run.saved.save(metrics)
    _save_student(job, run)
    if accelerator.is_main_process:
        rows = table.frame_of(metrics, schema.METRICS)
        table.write(job.folder / METRICS_FILE, rows, schema.METRICS, job.made_from)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def _save_student(job: TrainingJob, run: TrainingRun) -> None:
    """Write the weights into the folder of the job. Every process calls this."""
    is_main = run.accelerator.is_main_process
    if isinstance(run.weights, ShardedWeights) or run.weights.is_rounded:
        values = run.weights.values()
        if is_main:
            save_student(job, values)
    elif is_main:
        with run.weights.in_model():
            model = run.model.merge_and_unload() if job.settings.lora else run.model
            model.save_pretrained(job.folder)


if __name__ == "__main__":
    log_to_stderr("distill")
    log.setLevel(logging.INFO)
    watch()
    train(TrainingJob.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8")))
