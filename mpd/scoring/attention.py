"""Causal attention over packed sequences, for every model that attends through transformers.

The sequences of a batch lie one after another in a single row, and each attends to itself alone. No
mask of the square of the row exists. On a GPU, in bfloat16 and float16, the kernel is
torch.nn.attention.varlen; otherwise, and for heads or GPUs that it does not know, scaled
dot-product attention takes one sequence at a time.

transformers hands each layer's heads to the function that is registered under `PACKED`, with the
`Packed` sequences that the forward pass was given (mpd/scoring/forward.py).
"""

from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

if TYPE_CHECKING:
    from mpd.scoring.forward import Packed

PACKED = "mpd_packed"

# What an architecture may ask for that none of the kernels can do.
UNSUPPORTED = ("softcap", "s_aux", "position_bias", "head_mask")


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    packed: "Packed | None" = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention [1, T, heads, D] of heads [1, heads, T, D]; keys and values may have fewer heads.

    A position sees itself and the `sliding_window` - 1 positions before it, or all before it, of
    its own sequence. Raises ValueError where the architecture asks for anything else.
    """
    name = type(module).__name__
    asked = [option for option in UNSUPPORTED if others.get(option) is not None]
    if dropout and module.training:
        asked.append("dropout (0 in its config.json turns it off)")
    if not getattr(module, "is_causal", True) or others.get("is_causal") is False:
        asked.append("attention in both directions")
    if attention_mask is not None:
        asked.append("a mask of its own")
    if asked:
        raise ValueError(f"{name}: attention with {', '.join(asked)} is not supported")
    if packed is None:
        raise ValueError(f"{name}: its model does not hand on which sequences are packed")
    if query.is_cuda and _varlen_takes(query, value):
        return _by_varlen(query, key, value, scaling, sliding_window, packed), None
    return _one_by_one(query, key, value, scaling, sliding_window, packed), None


AttentionInterface.register(PACKED, packed_attention)


def require_packed_attention(model: Any) -> None:
    """Raise ValueError where an architecture cannot attend through `packed_attention`.

    What an attention kernel for packed sequences needs is what flash attention needs: heads and
    windows are handed over, and no mask.
    """
    name, config = type(model).__name__, model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    others = kinds - {"full_attention", "sliding_attention"}
    if not model._supports_flash_attn:
        raise ValueError(f"{name}: its attention takes no packed sequences; take another model")
    if others:
        raise ValueError(
            f"{name}: layers with {', '.join(sorted(others))} are not supported; take a model "
            "with plain or sliding attention"
        )


def _varlen_takes(query: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the kernel of flash attention knows this type, these head sizes and this GPU."""
    if query.dtype not in (torch.bfloat16, torch.float16):
        return False
    size, (generation, _) = query.shape[-1], torch.cuda.get_device_capability(query.device)
    return value.shape[-1] == size <= 256 and size % 8 == 0 and generation >= 8


def _by_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    window: int | None,
    packed: "Packed",
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    grouped: dict[str, Any] = {}
    if key.shape[1] != query.shape[1]:
        if "enable_gqa" in signature(varlen_attn).parameters:
            grouped = {"enable_gqa": True}
        else:  # torch before 2.12
            key, value = _repeated(key, query), _repeated(value, query)
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    bounds = packed.starts, packed.starts, packed.longest, packed.longest
    window_size = (-1 if window is None else window - 1, 0)
    heads = varlen_attn(
        query, key, value, *bounds, scale=scaling, window_size=window_size, **grouped
    )
    assert isinstance(heads, torch.Tensor)  # it was asked for nothing more
    return heads[None]


def _one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    window: int | None,
    packed: "Packed",
) -> torch.Tensor:
    """The same, one sequence after another."""
    if query.is_cuda:  # no kernel for float32 there takes groups
        key, value = _repeated(key, query), _repeated(value, query)
    # One split has one backward pass; slices would each have one over all T positions.
    queries, keys, values = (states.split(packed.lengths, 2) for states in (query, key, value))
    heads = [
        _attend(*sequence, scaling, window) for sequence in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(heads, 2).transpose(1, 2).contiguous()  # some architectures take a view


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Causal attention [1, heads, L, D] of one sequence, within a window in blocks of its size."""
    length, gqa = query.shape[2], key.shape[1] != query.shape[1]
    if window is None or length <= window:
        return scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=gqa
        )
    blocks = []
    for start in range(0, length, window):
        stop, first = min(start + window, length), max(0, start - window + 1)
        rows = torch.arange(start, stop, device=query.device)[:, None]
        distance = rows - torch.arange(first, stop, device=query.device)
        blocks.append(
            scaled_dot_product_attention(
                query[:, :, start:stop],
                key[:, :, first:stop],
                value[:, :, first:stop],
                attn_mask=(distance >= 0) & (distance < window),
                scale=scaling,
                enable_gqa=gqa,
            )
        )
    return torch.cat(blocks, 2)


def _repeated(states: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Heads of keys or values, each as often as its group of query heads is large."""
    return states.repeat_interleave(query.shape[1] // states.shape[1], 1)
