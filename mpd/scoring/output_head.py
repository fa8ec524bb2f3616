"""The output head of a model, and a loss on it that never holds the logits of a whole batch.

Logits are the product of states and weights; some models add a bias, scale the product, or cap it
by a hyperbolic tangent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# Maps the logits [N, V] of a chunk and the slice of its positions to their loss, and the sums of
# their measures.
ChunkLoss = Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class OutputHead:
    """`weight` [V, H] and `bias` [V], without the padded rows that are no tokens."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    scale: float
    cap: float | None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Float32 logits [N, V] of hidden states [N, H]."""
        return self.shape(torch.nn.functional.linear(hidden, self.weight, self.bias).float())

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
        embeddings.weight[:vocabulary_size],
        None if bias is None else bias[:vocabulary_size],
        scale / divisor,
        getattr(config, "final_logit_softcapping", None),
    )


@torch.no_grad()
def require_known_head(model: Any) -> None:
    """Raise ValueError where a model's logits are not those of `head_of`.

    Scores and losses would be silently wrong.
    """
    ids = torch.arange(1, 9, device=next(model.parameters()).device)[None]
    expected = model(input_ids=ids, use_cache=False).logits[0].float()
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    logits = head_of(model, expected.shape[-1]).logits(hidden)
    if not torch.allclose(logits, expected, rtol=1e-2, atol=1e-2):
        raise ValueError(
            f"{type(model).__name__}: its logits are not its output head applied to the last "
            "hidden state, scaled and capped as its configuration says; take another model"
        )


def save_head(head: OutputHead, path: Path, teacher: str) -> None:
    """Write the head of the model with the digest `teacher` as safetensors."""
    from safetensors.torch import save_file

    bias = {} if head.bias is None else {"bias": head.bias.detach().contiguous()}
    cap = "" if head.cap is None else str(head.cap)
    metadata = {"scale": str(head.scale), "cap": cap, "teacher": teacher}
    save_file({"weight": head.weight.detach().contiguous(), **bias}, path, metadata=metadata)


def load_head(path: Path, device: torch.device) -> OutputHead:
    """Read what `save_head` wrote, onto a device."""
    from safetensors import safe_open

    # Several processes on a CPU have devices such as cpu:0, which safetensors does not know.
    name = "cpu" if device.type == "cpu" else str(device)
    with safe_open(path, framework="pt", device=name) as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    cap = float(metadata["cap"]) if metadata["cap"] else None
    return OutputHead(tensors["weight"], tensors.get("bias"), float(metadata["scale"]), cap)


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
        dtype = hidden.dtype
        if torch.is_autocast_enabled(hidden.device.type):
            dtype = torch.get_autocast_dtype(hidden.device.type)
        states, matrix = hidden.to(dtype), weight.to(dtype)
        hidden_grad = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        weight_grad = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        bias_grad = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        losses, sums = [], []
        for start in range(0, len(hidden), chunk_size):
            part = slice(start, start + chunk_size)
            with torch.autocast(hidden.device.type, enabled=False):
                raw = torch.nn.functional.linear(
                    states[part], matrix, None if bias is None else bias.to(dtype)
                ).float()
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
                    bias_grad += raw_grad.sum(0)
                raw_grad = raw_grad.to(dtype)
                if hidden_grad is not None:
                    hidden_grad[part] = raw_grad @ matrix
                if weight_grad is not None:
                    weight_grad += raw_grad.T @ states[part]
        ctx.save_for_backward(hidden_grad, weight_grad, bias_grad)
        ctx.dtype = hidden.dtype
        total = torch.stack(sums).sum(0)
        ctx.mark_non_differentiable(total)
        return torch.stack(losses).sum(), total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden_grad, weight_grad, bias_grad = (
            None if saved is None else saved * gradients[0] for saved in ctx.saved_tensors
        )
        hidden_grad = None if hidden_grad is None else hidden_grad.to(ctx.dtype)
        return hidden_grad, weight_grad, bias_grad, None, None, None


def chunked_loss(
    hidden: torch.Tensor, head: OutputHead, evaluate: ChunkLoss, chunk_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of `evaluate`'s losses over all chunks of hidden states [N, H], and of its measures.

    `evaluate(logits, part)` gives the loss and the measures of the positions in the slice `part`;
    it is called with gradients enabled. Gradient flows to `hidden` and to the weights of `head`.
    """
    return _ChunkedLoss.apply(hidden, head.weight, head.bias, head, evaluate, chunk_size)
