"""The training loop of distill, on accelerate.

With several processes this module is its own program:

    torchrun --standalone --nproc_per_node 2 -m mpd.training.loop JOB.json
"""

import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from pydantic import BaseModel

from mpd.config.distill import DistillSettings
from mpd.config.resources import DistillResources
from mpd.job.progress import Progress
from mpd.scoring.forward import require_separate_sequences
from mpd.scoring.output_head import load_head, require_known_head
from mpd.store import schema, table
from mpd.store.model_folder import load_model, load_tokenizer, stop_ids, vocabulary_size
from mpd.training.batches import CachedRows, Trajectories, collate, plan_steps
from mpd.training.objective import MEANS, NUM_SUMS, SUMS, Objective

log = logging.getLogger("mpd")
# It warns that tied weights are saved once, as they should be.
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)


class TrainingJob(BaseModel):
    """What a training run needs; as JSON it is the argument of a process.

    `rows` are the cache shards, `head` the teacher's output head where the cache holds hidden
    states; `scratch` holds what outlives a kill, `tracking` what a tracker keeps on this machine.
    """

    student: Path
    rows: list[Path]
    head: Path | None
    folder: Path
    scratch: Path
    tracking: Path
    settings: DistillSettings
    resources: DistillResources


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
    """A training under way: every item of `measured` is one optimiser step taken."""

    accelerator: Accelerator
    model: Any
    steps: list[list[int]]
    metrics: list[dict[str, Any]]
    measured: Iterator[tuple[list[float], float, float]]


def start(job: TrainingJob) -> TrainingRun:
    """Plan and load a training, or go on with a killed one; nothing is trained yet."""
    settings, resources = job.settings, job.resources
    torch.set_num_threads(resources.threads)
    set_seed(settings.seed)
    cached = CachedRows(job.rows)
    steps = plan_steps(cached.group_sizes, cached.lengths, settings)
    data = Trajectories(cached, steps, settings)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    plan = data.plan(resources.micro_batch_size, processes)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),  # else several processes on a CPU are each alone
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_steps=len(plan[0]) // processes,
        log_with=None if resources.tracker == "none" else resources.tracker,
        project_dir=job.tracking,
        dataloader_config=DataLoaderConfiguration(even_batches=False),
    )
    assert accelerator.num_processes == processes
    model = _student(job)
    objective, optimizer, scheduler = _prepare(job, model, accelerator, len(steps))
    metrics = _resume(accelerator, job.scratch)
    micro_batches = list(chain.from_iterable(plan[len(metrics) :]))
    loader: Any = torch.utils.data.DataLoader(
        data,
        batch_sampler=micro_batches,
        collate_fn=collate,
        generator=torch.Generator(),  # else a resumed run draws from the restored global one
    )
    loader = accelerator.prepare(loader)
    measured = _optimise(accelerator, loader, objective, optimizer, scheduler, settings)
    return TrainingRun(accelerator, model, steps, metrics, measured)


def extent(steps: Sequence[Sequence[int]]) -> str:
    """How long a training is: a budget of steps or tokens may pass over few rows many times."""
    rows = [row for step in steps for row in step]
    distinct = len(set(rows))
    return f"{len(steps)} steps: {len(rows) / distinct:.1f} passes over {distinct} trajectories"


def train(job: TrainingJob) -> None:
    """Train the student of `job` and fill its folder with weights and metrics.parquet."""
    run, tracked = start(job), job.resources.tracker != "none"
    accelerator, steps, metrics = run.accelerator, run.steps, run.metrics
    if accelerator.is_main_process:
        log.info("%s", extent(steps))
    if tracked:
        _open_tracker(accelerator, job)
    progress = Progress("trained", (len(steps) - len(metrics)) * len(steps[0]))
    for measured in run.measured:
        metrics.append(_metrics_row(metrics, *measured, job.settings.loss))
        progress.advance(len(steps[0]), int(metrics[-1]["num_tokens"]))
        if tracked:
            values = {key: value for key, value in metrics[-1].items() if key != "step"}
            accelerator.log(values, step=len(metrics))
        if len(metrics) % job.resources.checkpoint_steps == 0 and len(metrics) < len(steps):
            _save(accelerator, job.scratch, metrics)
    if accelerator.is_main_process:
        whole = run.model.merge_and_unload() if job.settings.lora else run.model
        whole.save_pretrained(job.folder)
        rows = table.frame_of(metrics, schema.METRICS)
        table.write(job.folder / "metrics.parquet", rows, schema.METRICS, {})
    accelerator.wait_for_everyone()
    accelerator.end_training()


def _open_tracker(accelerator: Accelerator, job: TrainingJob) -> None:
    """Begin a run of the tracker, named like the round, with the settings of the training."""
    job.tracking.mkdir(parents=True, exist_ok=True)
    name = "/".join(job.tracking.parent.parts[-4:])  # experiment, method, seed and round
    # TensorBoard takes numbers and texts alone.
    settings = {
        key: value if isinstance(value, int | float | str) else json.dumps(value)
        for key, value in job.settings.meaning().items()
    }
    arguments = {"wandb": {"name": name, "dir": str(job.tracking)}, "trackio": {"name": name}}
    accelerator.init_trackers("mpd", config=settings, init_kwargs=arguments)


def _student(job: TrainingJob) -> Any:
    """The model to train; with LoRA as a PeftModel, whose base weights are frozen."""
    model = load_model(job.student, "float32")
    require_known_head(model)
    require_separate_sequences(model)
    if job.resources.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    lora = job.settings.lora
    if not lora:
        return model.train()
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    if job.resources.gradient_checkpointing:
        model.enable_input_require_grads()  # else nothing that is recomputed has a gradient
    adapter = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, adapter).train()
    plain: Any = adapted.get_base_model()
    for embeddings in (plain.get_output_embeddings(), plain.get_input_embeddings()):
        if isinstance(embeddings, BaseTunerLayer):
            raise ValueError(
                "distill.lora.targets: an adapter on the embeddings or the output head is not "
                "supported; name other modules"
            )
    return adapted


def _prepare(
    job: TrainingJob, model: Any, accelerator: Accelerator, num_steps: int
) -> tuple[Any, Any, Any]:
    """Objective, optimiser and schedule, ready to train or to resume."""
    settings, folder = job.settings, job.student
    tokenizer = load_tokenizer(folder)
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
    plain = model.get_base_model() if settings.lora else model
    stops = stop_ids(folder, tokenizer)
    size, chunk_size = vocabulary_size(tokenizer), job.resources.chunk_size
    objective = Objective(plain, size, stops, settings, chunk_size)
    if job.head:
        objective.teacher_head = load_head(job.head, accelerator.device)
    return *accelerator.prepare(objective, optimizer), scheduler


def _optimise(
    accelerator: Accelerator,
    loader: Any,
    objective: Any,
    optimizer: Any,
    scheduler: Any,
    settings: DistillSettings,
) -> Iterator[tuple[list[float], float, float]]:
    """Take the optimiser steps; of each the sums over all processes, learning rate and norm."""
    divisor = accelerator.gradient_accumulation_steps * accelerator.num_processes
    sums = torch.zeros(NUM_SUMS + 2, device=accelerator.device)
    for batch in loader:
        with accelerator.accumulate(objective):
            with accelerator.autocast():
                loss, batch_sums = objective(batch)
            # Undo what accelerate (accumulation) and data parallelism (mean) divide by.
            accelerator.backward(loss * divisor)
            sums += torch.cat([batch_sums, batch["usage"]])
            if not accelerator.sync_gradients:
                continue
            norm = accelerator.clip_grad_norm_(objective.parameters(), settings.max_gradient_norm)
            rate = float(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        total = accelerator.reduce(sums.clone(), "sum").tolist()
        sums.zero_()
        yield total, rate, float(norm)


def _metrics_row(
    metrics: list[dict[str, Any]], total: list[float], rate: float, norm: float, loss: str
) -> dict[str, Any]:
    *sums, num_used, num_places = total
    named = dict(zip(SUMS, sums, strict=True))
    means = {name: named[name] / named["positions"] for name in MEANS}
    token_mean, sequence_mean = means.pop("divergence"), named["sequence_mean"]
    seen = metrics[-1]["tokens_seen"] if metrics else 0
    return {
        "step": len(metrics) + 1,
        "learning_rate": rate,
        "loss": token_mean if loss == "token_mean" else sequence_mean,
        "loss_token_mean": token_mean,
        "loss_sequence_mean": sequence_mean,
        **means,
        "think_close_mass": named["think_close_mass"] / named["closes"]
        if named["closes"]
        else None,
        "stop_mass": named["stop_mass"] / named["stops"],
        "gradient_norm": norm,
        "padding_share": 1 - num_used / num_places,
        "num_tokens": int(named["positions"]),
        "tokens_seen": seen + int(named["positions"]),
    }


def _save(accelerator: Accelerator, scratch: Path, metrics: list[dict[str, Any]]) -> None:
    """Save the state after a step, whole or not at all, then drop the older ones."""
    draft = scratch / "state.draft"
    if accelerator.is_main_process and draft.exists():
        shutil.rmtree(draft)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(draft))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (draft / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        for path in draft.iterdir():
            table.sync(path)
        older = list(scratch.glob("state_*"))
        draft.rename(scratch / f"state_{len(metrics):08d}")
        for path in older:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()


def _resume(accelerator: Accelerator, scratch: Path) -> list[dict[str, Any]]:
    """Load the newest saved state, if any; the metrics rows of the steps that it has behind it."""
    saved = sorted(scratch.glob("state_*"))
    if not saved:
        return []
    accelerator.load_state(str(saved[-1]))
    # States are of whole steps; a count of micro-batches of another size would cut steps in two.
    accelerator.step = 0
    metrics = json.loads((saved[-1] / "metrics.json").read_text(encoding="utf-8"))
    log.info("resumed training after step %d", len(metrics))
    return metrics


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="distill: %(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    train(TrainingJob.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8")))
