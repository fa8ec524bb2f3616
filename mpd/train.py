"""The training loop of distill: reverse KL against the cache, on accelerate.

N completion positions of a micro-batch, K support entries, V vocabulary. With several processes
this module is its own program:

    torchrun --standalone --nproc_per_node 2 -m mpd.train JOB.json
"""

import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from torch.utils.checkpoint import checkpoint

from mpd import schema, table
from mpd.batches import Trajectories, collate, plan_steps
from mpd.divergence import on_support, reverse_kl
from mpd.forward import completion_states, output_logits, require_plain_head
from mpd.model_folder import load_model, load_tokenizer
from mpd.progress import Progress

log = logging.getLogger("mpd")
# It warns that tied weights are saved once, as they should be.
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)

MEASURES = ("divergence", "teacher_tail_mass", "student_tail_mass", "student_entropy")


@dataclass(frozen=True)
class Job:
    """What a training run needs. Paths are strings, so that it can be written as JSON.

    `rows` is a Parquet file of cached trajectories; `scratch` holds what outlives a kill.
    """

    student: str
    rows: str
    folder: str
    scratch: str
    settings: dict[str, Any]
    micro_batch_size: int
    chunk_size: int
    checkpoint_steps: int
    gradient_checkpointing: bool
    tracker: str
    tracking: str
    threads: int


def learning_rate_factor(step: int, num_steps: int, warmup: float, schedule: str) -> float:
    """The factor of the peak learning rate at `step` (from 0): warm-up, then the schedule."""
    warmup_steps = math.ceil(warmup * num_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
    if schedule == "linear":
        return 1 - progress
    return 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0


class Objective(torch.nn.Module):
    """The student and its loss in one module, so that data-parallel wrappers see one forward."""

    def __init__(self, model: torch.nn.Module, vocabulary_size: int, chunk_size: int) -> None:
        super().__init__()
        self.model = model
        self.vocabulary_size, self.chunk_size = vocabulary_size, chunk_size

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted loss, and the sums [len(MEASURES) + 2] of the measures of all positions.

        The last two sums are of the divergence by sequence weights, and the number of positions.
        """
        hidden = completion_states(self.model, batch["ids"], batch["mask"], batch["predicts"])
        loss = hidden.new_zeros((), dtype=torch.float32)
        sums = loss.new_zeros(len(MEASURES) + 2)
        for start in range(0, len(hidden), self.chunk_size):
            part = slice(start, start + self.chunk_size)
            # Recomputed in the backward pass: the logits of one chunk exist at a time.
            chunk_loss, chunk_sums = checkpoint(
                self._chunk,
                hidden[part],
                *(
                    batch[name][part]
                    for name in ("support_ids", "distinct", "teacher", "weight", "sequence_weight")
                ),
                use_reentrant=False,
            )
            loss, sums = loss + chunk_loss, sums + chunk_sums
        return loss, sums

    def _chunk(
        self,
        hidden: torch.Tensor,
        support_ids: torch.Tensor,
        distinct: torch.Tensor,
        teacher: torch.Tensor,
        weight: torch.Tensor,
        sequence_weight: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = output_logits(self.model, hidden, self.vocabulary_size)
        student = on_support(logits, support_ids, distinct)
        divergence = reverse_kl(student, teacher)
        with torch.no_grad():
            everywhere = torch.log_softmax(logits, -1)
            entropy = -(everywhere.exp() * everywhere).sum(-1)
            measures = torch.stack(
                [divergence, teacher[:, -1].exp(), student[:, -1].exp(), entropy]
            ).sum(1)
            others = torch.stack(
                [(divergence * sequence_weight).sum(), measures.new_tensor(len(hidden))]
            )
        return (divergence * weight).sum(), torch.cat([measures, others]).detach()


def train(job: Job) -> None:
    """Train the student of `job` and fill its folder with weights and metrics.parquet."""
    settings = job.settings
    torch.set_num_threads(job.threads)
    set_seed(settings["seed"])
    frame = table.read(Path(job.rows), schema.LOGITS)
    steps = plan_steps(len(frame), settings["batch_size"], settings["epochs"], settings["seed"])
    data = Trajectories(frame, steps, settings["loss"])
    processes = int(os.environ.get("WORLD_SIZE", 1))
    plan = data.plan(job.micro_batch_size, processes)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),  # else several processes on a CPU are each alone
        mixed_precision=settings["mixed_precision"],
        gradient_accumulation_steps=len(plan[0]) // processes,
        log_with=None if job.tracker == "none" else job.tracker,
        project_dir=job.tracking,
        dataloader_config=DataLoaderConfiguration(even_batches=False),
    )
    assert accelerator.num_processes == processes
    objective, optimizer, scheduler = _prepare(job, accelerator, len(steps))
    metrics = _resume(accelerator, Path(job.scratch))
    micro_batches = list(chain.from_iterable(plan[len(metrics) :]))
    loader: Any = torch.utils.data.DataLoader(data, batch_sampler=micro_batches, collate_fn=collate)
    loader = accelerator.prepare(loader)
    if job.tracker != "none":
        accelerator.init_trackers("mpd", config={})
    progress = Progress("trained", (len(steps) - len(metrics)) * len(steps[0]))
    for measured in _optimise(accelerator, loader, objective, optimizer, scheduler, settings):
        metrics.append(_metrics_row(metrics, *measured, settings["loss"]))
        progress.advance(len(steps[0]), int(metrics[-1]["num_tokens"]))
        if job.tracker != "none":
            values = {key: value for key, value in metrics[-1].items() if key != "step"}
            accelerator.log(values, step=len(metrics))
        if len(metrics) % job.checkpoint_steps == 0 and len(metrics) < len(steps):
            _save(accelerator, Path(job.scratch), metrics)
    if accelerator.is_main_process:
        folder = Path(job.folder)
        accelerator.unwrap_model(objective).model.save_pretrained(folder)
        rows = table.frame_of(metrics, schema.METRICS)
        table.write(folder / "metrics.parquet", rows, schema.METRICS, {})
    accelerator.wait_for_everyone()
    accelerator.end_training()


def _prepare(job: Job, accelerator: Accelerator, num_steps: int) -> tuple[Any, Any, Any]:
    """Objective, optimiser and schedule, ready to train or to resume."""
    settings = job.settings
    tokenizer = load_tokenizer(Path(job.student))
    model = load_model(Path(job.student), "float32")
    require_plain_head(model)
    if job.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings["learning_rate"],
        betas=tuple(settings["betas"]),
        weight_decay=settings["weight_decay"],
    )
    # Not prepared: a prepared schedule steps once for each process.
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: learning_rate_factor(
            step, num_steps, settings["warmup"], settings["schedule"]
        ),
    )
    accelerator.register_for_checkpointing(scheduler)
    vocabulary_size = max(tokenizer.get_vocab().values()) + 1
    objective = Objective(model, vocabulary_size, job.chunk_size)
    return *accelerator.prepare(objective, optimizer), scheduler


def _optimise(
    accelerator: Accelerator,
    loader: Any,
    objective: Any,
    optimizer: Any,
    scheduler: Any,
    settings: dict[str, Any],
) -> Iterator[tuple[list[float], float, float]]:
    """Take the optimiser steps; of each the sums over all processes, learning rate and norm."""
    divisor = accelerator.gradient_accumulation_steps * accelerator.num_processes
    sums = torch.zeros(len(MEASURES) + 2, device=accelerator.device)
    for batch in loader:
        with accelerator.accumulate(objective):
            with accelerator.autocast():
                loss, found = objective(batch)
            # Undo what accelerate (accumulation) and data parallelism (mean) divide by.
            accelerator.backward(loss * divisor)
            sums += found
            if not accelerator.sync_gradients:
                continue
            norm = accelerator.clip_grad_norm_(
                objective.parameters(), settings["max_gradient_norm"]
            )
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
    *measures, sequence_mean, positions = total
    means = {name: value / positions for name, value in zip(MEASURES, measures, strict=True)}
    token_mean = means.pop("divergence")
    seen = metrics[-1]["tokens_seen"] if metrics else 0
    return {
        "step": len(metrics) + 1,
        "learning_rate": rate,
        "loss": token_mean if loss == "token_mean" else sequence_mean,
        "loss_token_mean": token_mean,
        "loss_sequence_mean": sequence_mean,
        **means,
        "gradient_norm": norm,
        "num_tokens": int(positions),
        "tokens_seen": seen + int(positions),
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
        (draft / "metrics.json").write_text(json.dumps(metrics))
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
    metrics = json.loads((saved[-1] / "metrics.json").read_text())
    log.info("resumed training after step %d", len(metrics))
    return metrics


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="distill: %(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    train(Job(**json.loads(Path(sys.argv[1]).read_text())))
