"""Pretraining of the embedded world's student and teacher: next-token prediction on traces.

Muon moves the matrices, AdamW the embedding and the norms (AdamW alone needs several times the
tokens). Both write an ordinary Hugging Face folder. The same seed and thread count give the same
weights, also where a killed run resumes from its checkpoint. B sequences, T tokens, V vocabulary.
"""

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpd.tiny.examples import Writer, batches, student_writer, teacher_writer
from mpd.tiny.tokenizer import build_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers.models.qwen3 import Qwen3ForCausalLM

HEAD_SIZE = 32
CONTEXT_LENGTH = 512
WARMUP, CONSTANT, FLOOR = 0.05, 0.4, 0.03  # shares of the steps, and of the peak at the end
STEPS_PER_GROUP = 16  # examples are sorted by length within so many steps
STEPS_PER_LINE = 50
TEACHER_SEED = 0


@dataclass(frozen=True)
class Pretraining:
    """Sizes of a model and of its training."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    num_steps: int
    tokens_per_step: int = 1024
    learning_rate: float = 6e-3
    checkpoint_steps: int = 100


STUDENT = Pretraining(
    hidden_size=64,
    intermediate_size=192,
    num_layers=2,
    num_heads=2,
    num_key_value_heads=2,
    num_steps=1100,
)
TEACHER = Pretraining(
    hidden_size=128,
    intermediate_size=384,
    num_layers=3,
    num_heads=4,
    num_key_value_heads=2,
    num_steps=800,
)


def train_student(
    folder: Path,
    seed: int,
    *,
    checkpoint: Path | None = None,
    verbosity: float = 0.65,
    slip: float = 0.2,
    **sizes: Any,
) -> None:
    """Write the verbose student of a seed into `folder`.

    `sizes` replaces fields of STUDENT. With `checkpoint` a killed run resumes from that file.
    """
    settings = dataclasses.replace(STUDENT, **sizes)
    _train(folder, settings, student_writer(verbosity, slip), seed, checkpoint)


def train_teacher(
    folder: Path, *, checkpoint: Path | None = None, chattiness: float = 30.0, **sizes: Any
) -> None:
    """Write the teacher, a concise solver and rewriter, into `folder`; otherwise as the student."""
    settings = dataclasses.replace(TEACHER, **sizes)
    _train(folder, settings, teacher_writer(chattiness), TEACHER_SEED, checkpoint)


def rate(step: int, num_steps: int) -> float:
    """Share of the peak learning rate: short warm-up, constant, then linear to FLOOR."""
    done = (step + 1) / num_steps
    if done < WARMUP:
        return done / WARMUP
    if done < CONSTANT:
        return 1.0
    return 1.0 - (1.0 - FLOOR) * (done - CONSTANT) / (1.0 - CONSTANT)


def _train(
    folder: Path, settings: Pretraining, writer: Writer, seed: int, checkpoint: Path | None
) -> None:
    import torch

    from mpd.tiny.muon import Muon

    tokenizer = build_tokenizer()
    model = _build(settings, seed, len(tokenizer))
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(parameter) for parameter in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    optimisers: list[torch.optim.Optimizer] = [
        Muon(matrices),
        torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    parts: dict[str, Any] = {"model": model, "muon": optimisers[0], "adamw": optimisers[1]}
    begin = 0
    if checkpoint is not None and checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        begin = state["step"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
    start, num_tokens, loss = time.monotonic(), 0, torch.tensor(0.0)
    for step in range(begin, settings.num_steps):
        group, place = divmod(step, STEPS_PER_GROUP)
        if place == 0 or step == begin:
            made = batches(
                writer, tokenizer, seed, group, STEPS_PER_GROUP, settings.tokens_per_step
            )
        loss = _loss(model, made[place])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            for parameters in optimiser.param_groups:
                parameters["lr"] = settings.learning_rate * rate(step, settings.num_steps)
            optimiser.step()
            optimiser.zero_grad()
        num_tokens += sum(len(ids) for ids, _ in made[place])
        done = step + 1
        if done % STEPS_PER_LINE == 0 or done == settings.num_steps:
            speed = num_tokens / (time.monotonic() - start)
            line = (
                f"step {done}/{settings.num_steps}, loss {loss.item():.4f}, {speed:,.0f} tokens/s"
            )
            print(line, file=sys.stderr, flush=True)
        if checkpoint is not None and done % settings.checkpoint_steps == 0:
            states = {name: part.state_dict() for name, part in parts.items()}
            _save({"step": done, **states}, checkpoint)
    from transformers.utils.logging import disable_progress_bar

    folder.mkdir(parents=True, exist_ok=True)
    disable_progress_bar()
    model.save_pretrained(folder)  # with generation_config.json
    tokenizer.save_pretrained(folder)


def _build(settings: Pretraining, seed: int, vocabulary_size: int) -> "Qwen3ForCausalLM":
    """A randomly initialised model, in training mode."""
    import torch
    from transformers.models.qwen3 import Qwen3Config, Qwen3ForCausalLM

    tokenizer = build_tokenizer()
    config = Qwen3Config(
        vocab_size=vocabulary_size,
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        num_key_value_heads=settings.num_key_value_heads,
        head_dim=HEAD_SIZE,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config).train()


def _loss(model: "Qwen3ForCausalLM", batch: list[tuple[list[int], int]]) -> "torch.Tensor":
    """Mean cross-entropy of the learnt tokens, in nats.

    Rows are padded on the right, where causal attention needs no mask.
    """
    import torch

    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [0] * (width - len(row)) for row, _ in batch])  # [B, T]
    learnt = torch.tensor(
        [[first <= place < len(row) for place in range(width)] for row, first in batch]
    )
    labels = ids.masked_fill(~learnt, -100)[:, 1:]  # position t predicts token t + 1
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits  # [B, T - 1, V]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def _save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint whole or not at all."""
    import torch

    temporary = path.with_name(path.name + ".tmp")
    torch.save(state, temporary)
    temporary.replace(path)
