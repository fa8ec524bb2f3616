"""Pretraining of the embedded world's student and teacher: next-token prediction on traces.

Muon trains the matrices, AdamW the embedding and the norms; AdamW alone needs several times the
tokens. Both models are written as ordinary Hugging Face folders. The same seed and thread count
give the same weights, also where a killed run resumes from its checkpoint.
Shapes: R sequences, T tokens of a sequence, V vocabulary.
"""

import dataclasses
import hashlib
import io
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpd.store.digests import digest_of
from mpd.store.files import replacing
from mpd.store.loading import loading
from mpd.tiny.examples import Batch, Writer, batches
from mpd.tiny.sizes import HEAD_SIZE, Pretraining
from mpd.tiny.tokenizer import build_tokenizer
from mpd.tiny.worlds import WORLDS, World

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast
    from transformers.models.qwen3 import Qwen3ForCausalLM

log = logging.getLogger("mpd")

WARMUP, CONSTANT, FLOOR = 0.05, 0.4, 0.03  # shares of the steps, and of the peak at the end
STEPS_PER_GROUP = 16  # examples are sorted by length within this many steps
STEPS_PER_LINE = 50  # of progress
TEACHER_SEED = 0


def train_student(
    folder: Path, seed: int, *, world: str = "chains", checkpoint: Path | None = None, **sizes: Any
) -> None:
    """Write the verbose student of a seed into `folder`.

    `sizes` replaces fields of its Pretraining. With `checkpoint`, a killed run resumes from that
    file.
    """
    role = WORLDS[world].student
    settings = dataclasses.replace(role.sizes, **sizes)
    run = digest_of(["student", dataclasses.asdict(settings), seed, *role.style])
    _train(folder, WORLDS[world], settings, role.writer, seed, checkpoint, run)


def train_teacher(
    folder: Path, *, world: str = "chains", checkpoint: Path | None = None, **sizes: Any
) -> None:
    """Write the teacher, a concise solver and rewriter, into `folder`.

    `sizes` replaces fields of its Pretraining. With `checkpoint`, a killed run resumes from that
    file.
    """
    role = WORLDS[world].teacher
    settings = dataclasses.replace(role.sizes, **sizes)
    run = digest_of(["teacher", dataclasses.asdict(settings), *role.style])
    _train(folder, WORLDS[world], settings, role.writer, TEACHER_SEED, checkpoint, run)


def rate(step: int, num_steps: int) -> float:
    """Share of the peak learning rate: short warm-up, constant, then linear to FLOOR."""
    progress = (step + 1) / num_steps
    if progress < WARMUP:
        return progress / WARMUP
    if progress < CONSTANT:
        return 1.0
    return 1.0 - (1.0 - FLOOR) * (progress - CONSTANT) / (1.0 - CONSTANT)


def _train(
    folder: Path,
    world: World,
    settings: Pretraining,
    writer: Writer,
    seed: int,
    checkpoint: Path | None,
    run: str,
) -> None:
    """Train a model and write it into `folder`, with its tokenizer; `run` is its digest."""
    with loading():
        from transformers.utils.logging import disable_progress_bar

        tokenizer = build_tokenizer(world.lexicon)
        model = _build(settings, seed, tokenizer, world.context_length)
        optimisers = _optimisers(model)
    parts: dict[str, Any] = {"model": model, **optimisers}
    first_step = 0 if checkpoint is None else _resume(parts, checkpoint, run)
    start, num_tokens = time.monotonic(), 0
    group: list[Batch] = []
    for step in range(first_step, settings.num_steps):
        number, index = divmod(step, STEPS_PER_GROUP)
        if index == 0 or not group:
            size = settings.tokens_per_step
            group = batches(writer, tokenizer, seed, number, STEPS_PER_GROUP, size)
        learning_rate = settings.learning_rate * rate(step, settings.num_steps)
        loss = _step(model, [*optimisers.values()], group[index], learning_rate)
        num_tokens += sum(len(ids) for ids, _ in group[index])
        num_done = step + 1
        if num_done % STEPS_PER_LINE == 0 or num_done == settings.num_steps:
            speed = num_tokens / (time.monotonic() - start)
            line = f"step {num_done}/{settings.num_steps}, loss {loss:.4f}, {speed:,.0f} tokens/s"
            print(line, file=sys.stderr, flush=True)
        if checkpoint is not None and num_done % settings.checkpoint_steps == 0:
            states = {name: part.state_dict() for name, part in parts.items()}
            _save({"run": run, "step": num_done, **states}, checkpoint)

    folder.mkdir(parents=True, exist_ok=True)
    disable_progress_bar()
    model.save_pretrained(folder)  # with generation_config.json
    tokenizer.save_pretrained(folder)


def _build(
    settings: Pretraining, seed: int, tokenizer: "PreTrainedTokenizerFast", context_length: int
) -> "Qwen3ForCausalLM":
    """A randomly initialised model, in training mode."""
    import torch
    from transformers.models.qwen3 import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        num_key_value_heads=settings.num_key_value_heads,
        head_dim=HEAD_SIZE,
        max_position_embeddings=context_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config).train()


def _optimisers(model: "Qwen3ForCausalLM") -> dict[str, "torch.optim.Optimizer"]:
    """Muon for the matrices of the layers, AdamW for all other parameters."""
    import torch

    from mpd.tiny.muon import Muon

    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    matrix_ids = {id(parameter) for parameter in matrices}
    others = [p for p in model.parameters() if id(p) not in matrix_ids]
    return {
        "muon": Muon(matrices),
        "adamw": torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0),
    }


def _step(
    model: "Qwen3ForCausalLM",
    optimisers: list["torch.optim.Optimizer"],
    batch: Batch,
    learning_rate: float,
) -> float:
    """Train on a batch; returns its loss."""
    import torch

    loss = _loss(model, batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        for parameters in optimiser.param_groups:
            parameters["lr"] = learning_rate
        optimiser.step()
        optimiser.zero_grad()
    return loss.item()


def _loss(model: "Qwen3ForCausalLM", batch: Batch) -> "torch.Tensor":
    """Mean cross-entropy of the learnt tokens, in nats.

    Rows are padded on the right, where causal attention needs no mask.
    """
    import torch

    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [0] * (width - len(row)) for row, _ in batch])  # [R, T]
    learnt = torch.tensor(
        [[first <= position < len(row) for position in range(width)] for row, first in batch]
    )
    labels = ids.masked_fill(~learnt, -100)[:, 1:]  # position t predicts token t + 1
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits  # [R, T - 1, V]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def _save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint whole or not at all: the digest of what follows it, and the state."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    with replacing(path) as draft:
        draft.write_bytes(hashlib.sha256(content).digest() + content)


def _resume(parts: dict[str, Any], checkpoint: Path, run: str) -> int:
    """Load the state of model and optimisers; returns the first step that is left.

    It is 0 where there is no file, and, with a warning that names it, where the file is damaged or
    that of another run.
    """
    import torch

    if not checkpoint.is_file():
        return 0
    file = checkpoint.read_bytes()
    size = hashlib.sha256().digest_size
    digest, content = file[:size], file[size:]
    if hashlib.sha256(content).digest() != digest:
        log.warning(
            "%s: expected the content with SHA-256 %s of its first bytes, found %s; it is damaged, "
            "and training starts from its beginning",
            *(checkpoint, digest.hex()[:12], hashlib.sha256(content).hexdigest()[:12]),
        )
        return 0
    state = torch.load(io.BytesIO(content), weights_only=True)
    if state["run"] != run:
        log.warning(
            "%s: expected a state of the run %s, found one of %s; training starts from its "
            "beginning",
            *(checkpoint, run[:12], state["run"][:12]),
        )
        return 0
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["step"]
