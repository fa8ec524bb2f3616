"""Training loops that take the same steps on the same token ids: ours, and TRL's."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import random_models
import shapes

OURS = ("reverse_kl", "cross_entropy")


def prepare(folder: Path, arguments: argparse.Namespace) -> Path:
    """Write the student and a cache of near-student sizes; the path of the cache.

    Weights are written for a CPU only.
    """
    from cache import synthetic_frame

    from mpd.store import schema, table

    weights = "float32" if arguments.device == "cpu" else None
    random_models.write_model(folder / arguments.shape, arguments.shape, weights)
    rows = shapes.trajectories(arguments)
    lengths, num_positions = shapes.sizes(rows)
    path = folder / f"cache_{len(rows)}_{sum(lengths)}_{num_positions}.parquet"
    if not path.exists():
        frame = synthetic_frame(rows, vocabulary=shapes.SHAPES[arguments.shape].num_tokens)
        fresh = path.with_suffix(".unfinished")
        table.write(fresh, frame, schema.LOGITS, {})
        fresh.rename(path)
    return path


def training_job(
    folder: Path, student: Path, cache: Path, divergence: str, arguments: argparse.Namespace
) -> Any:
    """A job of our training loop whose steps all have the same trajectories."""
    from mpd.config.distill import DistillSettings
    from mpd.config.resources import DistillResources
    from mpd.training.job import TrainingJob

    settings = {
        "learning_rate": 1e-5,
        "schedule": "constant",
        "epochs": 1000,
        "batch_size": arguments.batch_size,
        "divergence": divergence,
        "mixed_precision": "bf16" if arguments.dtype == "bfloat16" else "no",
        **arguments.settings,
    }
    resources = {
        "checkpoint_steps": 10**9,
        **shapes.batch_resources(arguments, "micro_batch_size"),
    }
    return TrainingJob(
        student=student,
        rows=[cache],
        head=None,
        folder=folder,
        scratch=folder / "nowhere",
        tracking=folder / "tracking",
        made_from={},
        settings=DistillSettings(**settings),
        resources=DistillResources(**resources),
    )


def ours(
    folder: Path, divergence: str, arguments: argparse.Namespace
) -> Iterator[dict[str, float]]:
    """Steps of our training loop; each item is one step taken."""
    from mpd.training.loop import start
    from mpd.training.metrics import metrics_row

    cache = prepare(folder, arguments)
    random_models.make_weights_when_loading()
    job = training_job(folder, folder / arguments.shape, cache, divergence, arguments)
    for measures in start(job).measures:
        row = metrics_row(measures, [], job.settings.loss)
        yield {"loss": row["loss"], "gradient_norm": row["gradient_norm"]}


def trl(folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, float]]:
    """Steps of TRL's trainer with a live teacher, generation left out; TRL's own defaults."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DistillationConfig, DistillationTrainer

    torch.set_num_threads(arguments.threads)
    random_models.make_weights_when_loading()
    student = random_models.write_model(folder / arguments.shape, arguments.shape)
    on_gpu = arguments.device == "cuda"
    tokenizer = AutoTokenizer.from_pretrained(student, padding_side="left")
    tokenizer.chat_template = "{{ messages[0].content }}"
    micro = arguments.micro_batch_size or arguments.batch_size
    config = DistillationConfig(
        output_dir=str(folder / "trl"), use_cpu=not on_gpu, bf16=arguments.dtype == "bfloat16",
        report_to="none", beta=1.0, per_device_train_batch_size=micro, max_completion_length=64,
        gradient_checkpointing=on_gpu, temperature=1.0,
    )  # fmt: skip
    teacher = shapes.SHAPES[arguments.teacher_shape or shapes.SHAPES[arguments.shape].teacher]
    trainer = DistillationTrainer(
        model=AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32),
        teacher_model=random_models.random_model(teacher.config(), getattr(torch, arguments.dtype)),
        args=config,
        train_dataset=[{"prompt": "1 2 3"}] * micro,
        processing_class=tokenizer,
    )
    if on_gpu:
        trainer.model.gradient_checkpointing_enable()
    rows = sorted(shapes.trajectories(arguments), key=lambda row: len(row[1]))
    count = torch.tensor(shapes.sizes(rows)[1], device=trainer.args.device)
    batches = [
        {**padded(rows[start : start + micro], arguments.device), "num_items_in_batch": count}
        for start in range(0, len(rows), micro)
    ]
    trainer.create_optimizer()
    trainer.model.train()
    while True:
        total = torch.zeros((), device=trainer.args.device)
        for batch in batches:
            with trainer.compute_loss_context_manager(), trainer.accelerator.autocast():
                loss = trainer.compute_loss(trainer.model, dict(batch))
            trainer.accelerator.backward(loss)
            total += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        yield {"loss": total.item(), "gradient_norm": norm.item()}


def padded(rows: list[tuple[list[int], list[int]]], device: str) -> dict[str, Any]:
    """Prompts padded on the left and completions on the right, as TRL takes them."""
    import torch

    inputs = {}
    for name, sequences in zip(("prompt", "completion"), zip(*rows, strict=True), strict=True):
        width = max(len(ids) for ids in sequences)
        ids = torch.full((len(sequences), width), 2)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            start = width - len(sequence) if name == "prompt" else 0
            place = slice(start, start + len(sequence))
            ids[row, place], mask[row, place] = torch.tensor(sequence), 1
        inputs |= {f"{name}_ids": ids.to(device), f"{name}_mask": mask.to(device)}
    return inputs
