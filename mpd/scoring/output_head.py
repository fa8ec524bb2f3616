"""The output head of a model, and a loss on it that never holds the logits of a whole batch.

N positions, H hidden, V vocabulary. Logits are the product of states and weights, where some
models add a bias, scale, and cap by a hyperbolic tangent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# Of a chunk: logits [n, V] and the slice of positions to the loss and the sums of its measures.
Evaluate = Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class OutputHead:
    """`weight` [V, H] and `bias` [V] without the padded rows that are no tokens."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    scale: float
    cap: float | None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Float32 logits [N, V] of hidden states [N, H]."""
        return self.shape(torch.nn.functional.linear(hidden, self.weight, self.bias).float())

    def shape(self, raw: torch.Tensor) -> torch.Tensor:
        """Scale and cap the products of states and weights."""
        logits = raw if self.scale == 1 else raw * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


def head_of(model: Any, vocabulary_size: int) -> OutputHead:
    """The output head of a transformers model, its weights as they are now."""
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
    """Raise ValueError where logits are more than what `head_of` knows of.

    Scoring without the rest would be silently wrong.
    """
    ids = torch.arange(1, 9, device=next(model.parameters()).device)[None]
    expected = model(input_ids=ids, use_cache=False).logits[0].float()
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    found = head_of(model, expected.shape[-1]).logits(hidden)
    if not torch.allclose(found, expected, rtol=1e-2, atol=1e-2):
        raise ValueError(
            f"{type(model).__name__}: its logits are not its output head applied to the last "
            "hidden state, scaled and capped as its configuration says; take another model"
        )


def save_head(head: OutputHead, path: Path, teacher: str) -> None:
    """Write the head of the model with the digest `teacher` as safetensors."""
    from safetensors.torch import save_file

    bias = {} if head.bias is None else {"bias": head.bias.detach().contiguous()}
    cap = "" if head.cap is None else str(head.cap)
    shape = {"scale": str(head.scale), "cap": cap, "teacher": teacher}
    save_file({"weight": head.weight.detach().contiguous(), **bias}, path, metadata=shape)


def load_head(path: Path, device: torch.device) -> OutputHead:
    """Read what `save_head` wrote, onto a device."""
    from safetensors import safe_open

    # Of several processes on a CPU each has a device with a number, which safetensors refuses.
    name = "cpu" if device.type == "cpu" else str(device)
    with safe_open(path, framework="pt", device=name) as file:
        shape = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    cap = float(shape["cap"]) if shape["cap"] else None
    return OutputHead(tensors["weight"], tensors.get("bias"), float(shape["scale"]), cap)


class _ChunkedLoss(torch.autograd.Function):
    """Forms the gradient in the forward pass, chunk by chunk.

    So a chunk's logits are made once and freed, and only gradients of the size of hidden states
    and weights outlive it. The idea is that of Liger's fused linear losses (arXiv 2410.10989).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        head: OutputHead,
        evaluate: Evaluate,
        chunk_size: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        dtype = hidden.dtype
        if torch.is_autocast_enabled(hidden.device.type):
            dtype = torch.get_autocast_dtype(hidden.device.type)
        states, matrix = hidden.to(dtype), weight.to(dtype)
        of_hidden = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
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
                (of_raw,) = torch.autograd.grad(chunk_loss, raw)
                del raw, chunk_loss
                if of_bias is not None:
                    of_bias += of_raw.sum(0)
                of_raw = of_raw.to(dtype)
                if of_hidden is not None:
                    of_hidden[part] = of_raw @ matrix
                if of_weight is not None:
                    of_weight += of_raw.T @ states[part]
        ctx.save_for_backward(of_hidden, of_weight, of_bias)
        ctx.dtype = hidden.dtype
        total = torch.stack(sums).sum(0)
        ctx.mark_non_differentiable(total)
        return torch.stack(losses).sum(), total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_hidden, of_weight, of_bias = (
            None if saved is None else saved * gradients[0] for saved in ctx.saved_tensors
        )
        of_hidden = None if of_hidden is None else of_hidden.to(ctx.dtype)
        return of_hidden, of_weight, of_bias, None, None, None


def chunked_loss(
    hidden: torch.Tensor, head: OutputHead, evaluate: Evaluate, chunk_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of `evaluate`'s losses over all chunks of hidden states [N, H], and of its measures.

    `evaluate(logits, part)` gives the loss and the measures of the positions of the slice `part`;
    it is called with gradients on. Gradient flows to `hidden` and to the weights of `head`.
    """
    return _ChunkedLoss.apply(hidden, head.weight, head.bias, head, evaluate, chunk_size)
