"""Floating-point operations of a forward pass, and how many a card can do: for MFU.

MFU (model FLOPs utilisation, arXiv 2204.02311) is the operations that the model needs each second,
as a share of the card's peak. A backward pass needs twice as many as its forward pass. Operations
that are done again to save memory do not count.
"""

import re
from collections.abc import Sequence
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


def forward_flops(model: Any, lengths: Sequence[int], num_positions: int) -> int:
    """Operations of one forward pass over sequences of these lengths, each attending to itself.

    `model` is a transformers model. Each matrix takes 2 operations per parameter and token. The
    output head works at `num_positions` positions only, and embeddings take none. Causal attention
    takes 2 · 2 · heads · head size · L²/2 per layer, for its two products; within a window of W < L
    tokens, L·W - W²/2 in place of L²/2. Every expert of a mixture counts.
    """
    config = model.config.get_text_config()
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    apart = {id(layer.weight) for layer in ends}
    matrices = sum(
        matrix.numel()
        for matrix in model.parameters()
        if matrix.ndim > 1 and id(matrix) not in apart
    )
    num_heads, num_layers = config.num_attention_heads, config.num_hidden_layers
    head_size = getattr(config, "head_dim", None) or config.hidden_size // num_heads
    squares = 0  # L², or 2·L·W - W², of all sequences and layers
    for kind in getattr(config, "layer_types", None) or ["full_attention"] * num_layers:
        window = config.sliding_window if kind == "sliding_attention" else None
        for length in lengths:
            seen = min(length, window or length)
            squares += 2 * length * seen - seen**2
    attention = 2 * num_heads * head_size * squares
    head = 2 * config.hidden_size * config.vocab_size * num_positions
    return 2 * matrices * sum(lengths) + attention + head


def peak_flops(device: str) -> float | None:
    """Dense bf16 operations per second of a GPU by its name; None where the name is unknown."""
    for peak, words in PEAKS:
        if all(re.search(rf"\b{word}\b", device) for word in words.split()):
            return peak * 1e12
    return None
