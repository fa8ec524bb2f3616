"""The output head of a model, and a loss on it that never holds the logits of a whole batch.

Logits are the product of states and weights; some models add a bias, scale the product, or cap it
by a hyperbolic tangent. The product runs over all rows of the weights, padded ones included, and
over a multiple of ALIGNMENT rows: kernels for other sizes are several times as slow on a GPU. The
logits of the tokens are sliced from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mpd.scoring.forward import pack
from mpd.store.seal import SEAL, UNSEALED, seal, sealed_metadata

# Maps the logits [N, V] of a chunk and the slice of its positions to their loss, and the sums of
# their measures.
ChunkLoss = Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]

ALIGNMENT = 8  # rows; 16 bytes in bfloat16


@dataclass(frozen=True)
class OutputHead:
    """`weight` [P, H] and `bias` [P], of which the first `size` = V rows are tokens.

    P is a multiple of ALIGNMENT.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    scale: float
    cap: float | None
    size: int

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Float32 logits [N, V] of hidden states [N, H]."""
        return self.shape(_product(hidden, self.weight, self.bias)[:, : self.size])

    def shape(self, raw: torch.Tensor) -> torch.Tensor:
        """Logits from the products of states and weights: scaled and capped."""
        logits = raw if self.scale == 1 else raw * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


def head_of(model: Any, vocabulary_size: int) -> OutputHead:
    """The output head of a transformers model, with its current weights."""
    embeddings = model.get_output_embeddings()
    config = model.config.get_text_config()
    bias = getattr(embeddings, "bias", None)
    # Cohere's configuration names a factor, Granite's a divisor.
    scale = getattr(config, "logit_scale", None) or 1
    divisor = getattr(config, "logits_scaling", None) or 1
    return OutputHead(
        _aligned(embeddings.weight),
        None if bias is None else _aligned(bias),
        scale / divisor,
        getattr(config, "final_logit_softcapping", None),
        vocabulary_size,
    )


def _aligned(rows: torch.Tensor) -> torch.Tensor:
    """The rows [P, ...], with zeros up to a multiple of ALIGNMENT."""
    missing = -len(rows) % ALIGNMENT
    if not missing:
        return rows
    return torch.nn.functional.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing))


def _product(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Float32 products [N, P] of states [N, H] and weights [P, H], with the bias."""
    is_plain = bias is None and not (torch.is_grad_enabled() and states.requires_grad)
    if states.is_cuda and is_plain and states.dtype != torch.float32:
        return torch.mm(states, weight.T, out_dtype=torch.float32)  # never rounded to bfloat16
    return torch.nn.functional.linear(states, weight, bias).float()


@torch.no_grad()
def require_known_head(model: Any) -> None:
    """Raise ValueError where a model's logits are not those of `head_of`.

    Scores and losses would be silently wrong.
    """
    packed = pack([[1]], [list(range(2, 9))]).to(next(model.parameters()).device)
    inputs = {"input_ids": packed.ids, "position_ids": packed.positions, "packed": packed}
    expected = model(**inputs, use_cache=False).logits[0].float()
    hidden = model.base_model(**inputs, use_cache=False).last_hidden_state[0]
    logits = head_of(model, expected.shape[-1]).logits(hidden.to(expected.device))
    if not torch.allclose(logits, expected, rtol=1e-2, atol=1e-2):
        raise ValueError(
            f"{type(model).__name__}: its logits are not its output head applied to the last "
            "hidden state, scaled and capped as its configuration says; take another model"
        )


def save_head(head: OutputHead, path: Path, teacher: str) -> None:
    """Write the head of the model with the digest `teacher` as safetensors, sealed."""
    from safetensors.torch import save_file

    bias = {} if head.bias is None else {"bias": head.bias[: head.size].detach().contiguous()}
    cap = "" if head.cap is None else str(head.cap)
    metadata = {"scale": str(head.scale), "cap": cap, "teacher": teacher, SEAL: UNSEALED}
    weight = head.weight[: head.size].detach().contiguous()
    save_file({"weight": weight, **bias}, path, metadata=metadata)
    seal(path)


def load_head(path: Path, device: torch.device) -> OutputHead:
    """Read what `save_head` wrote, onto a device. Raises ValueError where the file is damaged."""
    from safetensors import safe_open

    sealed_metadata(path)
    # Several processes on a CPU have devices such as cpu:0, which safetensors does not know.
    name = "cpu" if device.type == "cpu" else str(device)
    with safe_open(path, framework="pt", device=name) as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    cap = float(metadata["cap"]) if metadata["cap"] else None
    aligned = {key: _aligned(rows) for key, rows in tensors.items()}
    size = len(tensors["weight"])
    return OutputHead(aligned["weight"], aligned.get("bias"), float(metadata["scale"]), cap, size)


class _ChunkedLoss(torch.autograd.Function):
    """Computes the gradient in the forward pass, chunk by chunk.

    The logits of a chunk exist once and are freed; only gradients of the size of hidden states and
    weights outlive it. The idea is that of Liger's fused linear losses (arXiv 2410.10989).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        head: OutputHead,
        evaluate: ChunkLoss,
        chunk_size: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden_grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        weight_grad = _zeros_like(weight) if ctx.needs_input_grad[1] else None
        bias_grad = _zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        losses, sums = [], []
        for start in range(0, len(hidden), chunk_size):
            part = slice(start, start + chunk_size)
            raw = _product(hidden[part], weight, bias)[:, : head.size]
            with torch.enable_grad():
                raw.requires_grad_()
                chunk_loss, chunk_sums = evaluate(head.shape(raw), part)
            losses.append(chunk_loss.detach())
            sums.append(chunk_sums.detach())
            if not any(ctx.needs_input_grad[:3]):
                continue
            (raw_grad,) = torch.autograd.grad(chunk_loss, raw)
            del raw, chunk_loss
            if bias_grad is not None:
                bias_grad[: head.size] += raw_grad.sum(0)
            aligned_grad = hidden.new_empty(len(raw_grad), len(weight))
            aligned_grad[:, : head.size] = raw_grad
            aligned_grad[:, head.size :] = 0
            if hidden_grad is not None:
                hidden_grad[part] = aligned_grad @ weight
            if weight_grad is not None:
                _add_product(weight_grad, aligned_grad.T, hidden[part])
        ctx.save_for_backward(hidden_grad, weight_grad, bias_grad)
        total = torch.stack(sums).sum(0)
        ctx.mark_non_differentiable(total)
        return torch.stack(losses).sum(), total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden_grad, weight_grad, bias_grad = (
            None if saved is None else saved * gradients[0] for saved in ctx.saved_tensors
        )
        return hidden_grad, weight_grad, bias_grad, None, None, None


def _zeros_like(weights: torch.Tensor) -> torch.Tensor:
    """Zeros to sum gradients in, which bfloat16 could not."""
    return torch.zeros_like(weights, dtype=torch.promote_types(weights.dtype, torch.float32))


def _add_product(sums: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Add the product of two matrices to float32 sums."""
    if left.is_cuda and left.dtype != sums.dtype:
        torch.addmm(sums, left, right, out_dtype=sums.dtype, out=sums)
    else:
        sums += left @ right


def chunked_loss(
    hidden: torch.Tensor, head: OutputHead, evaluate: ChunkLoss, chunk_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of `evaluate`'s losses over all chunks of hidden states [N, H], and of its measures.

    `evaluate(logits, part)` gives the loss and the measures of the positions in the slice `part`;
    it is called with gradients enabled. Gradient flows to `hidden` and to the weights of `head`.
    """
    return _ChunkedLoss.apply(hidden, head.weight, head.bias, head, evaluate, chunk_size)
