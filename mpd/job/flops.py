"""Floating-point operations of a forward pass, and how many a card can do: for MFU.

MFU (model FLOPs utilisation, arXiv 2204.02311) is the operations that the model needs each second,
as a share of the card's peak. A backward pass needs twice as many as its forward pass. Operations
that are done again to save memory do not count.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Dense bf16 TFLOP/s by the vendors' data sheets, and the words in the name of the device. The first
# line whose words all appear holds.
PEAKS = (
    (2250.0, "B200"),
    (835.0, "H200 NVL"),
    (989.0, "H200"),
    (756.0, "H100 PCIe"),
    (835.0, "H100 NVL"),
    (989.0, "H100"),
    (312.0, "A100"),
    (362.0, "L40S"),
    (121.0, "L4"),
    (165.0, "RTX 4090"),
)


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that the operations of a forward pass depend on.

    `matrices` is the number of weights in matrices without embeddings and output head; `windows`
    has for each layer how many tokens it attends to, None for all.
    """

    matrices: int
    hidden_size: int
    vocab_size: int
    num_heads: int
    head_size: int
    windows: tuple[int | None, ...]


def forward_flops(model: Any, lengths: Sequence[int], num_positions: int) -> int:
    """Operations of one forward pass of a transformers model, as `pass_flops` counts them.

    Every expert of a mixture counts.
    """
    return pass_flops(_shape_of(model), lengths, num_positions)


def pass_flops(shape: Shape, lengths: Sequence[int], num_positions: int) -> int:
    """Operations of one forward pass over sequences of these lengths, each attending to itself.

    Each matrix takes 2 operations per parameter and token. The output head works at
    `num_positions` positions only, and embeddings take none. Causal attention takes
    2 · 2 · heads · head size · L²/2 per layer, for its two products; within a window of W < L
    tokens, L·W - W²/2 in place of L²/2.
    """
    squares = 0  # L², or 2·L·W - W², of all sequences and layers
    for window in shape.windows:
        for length in lengths:
            seen = min(length, window or length)
            squares += 2 * length * seen - seen**2
    attention = 2 * shape.num_heads * shape.head_size * squares
    head = 2 * shape.hidden_size * shape.vocab_size * num_positions
    return 2 * shape.matrices * sum(lengths) + attention + head


def _shape_of(model: Any) -> Shape:
    config = model.config.get_text_config()
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    apart = {id(layer.weight) for layer in ends}
    num_heads, num_layers = config.num_attention_heads, config.num_hidden_layers
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * num_layers
    return Shape(
        matrices=sum(
            matrix.numel()
            for matrix in model.parameters()
            if matrix.ndim > 1 and id(matrix) not in apart
        ),
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        num_heads=num_heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // num_heads,
        windows=tuple(
            config.sliding_window if kind == "sliding_attention" else None for kind in kinds
        ),
    )


def peak_flops(device: str) -> float | None:
    """Dense bf16 operations per second of a GPU by its name; None where the name is unknown."""
    for peak, words in PEAKS:
        if all(re.search(rf"\b{word}\b", device) for word in words.split()):
            return peak * 1e12
    return None
