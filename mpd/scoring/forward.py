"""Forward passes over packed sequences, up to the hidden states.

Several sequences share a row, one after another. Position ids start again with each, which tells
transformers to keep one from attending to another.
"""

import heapq
from collections.abc import Sequence
from typing import Any

import torch

MAX_PADDING = 0.04  # share of the tokens of a packed batch


def arrange(lengths: Sequence[int]) -> list[list[int]]:
    """The numbers of the sequences in each row: as many rows as need little padding.

    Attention takes time in proportion to the length of a row. The longest sequence goes first,
    always to the emptiest row (Graham's longest-processing-time rule). One row needs no padding.
    """
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    total = sum(lengths)
    # No row is shorter than the longest sequence, so more rows than these need too much padding.
    num_rows = min(len(lengths), max(1, int(total / ((1 - MAX_PADDING) * max(lengths)))))
    while True:
        rows: list[list[int]] = [[] for _ in range(num_rows)]
        filled = [(0, row) for row in range(num_rows)]
        for number in order:
            length, row = heapq.heappop(filled)
            rows[row].append(number)
            heapq.heappush(filled, (length + lengths[number], row))
        if num_rows == 1 or total >= (1 - MAX_PADDING) * num_rows * max(filled)[0]:
            return rows
        num_rows -= 1


def pack(
    prompts: Sequence[list[int]], completions: Sequence[list[int]]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids and position ids [R, T], and the places [N] that predict the completion ids.

    Places are indices into the flattened rows, sequence after sequence in the order given. An id is
    predicted one position before it: the first completion id at the last prompt position, and
    nothing at the last position of a sequence.
    """
    lengths = [
        len(prompt) + len(completion)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    rows = arrange(lengths)
    width = max(sum(lengths[number] for number in row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    predicts: list[torch.Tensor] = [torch.empty(0)] * len(lengths)
    for index, row in enumerate(rows):
        start = 0
        for number in row:
            stop = start + lengths[number]
            ids[index, start:stop] = torch.tensor(prompts[number] + completions[number])
            positions[index, start:stop] = torch.arange(lengths[number])
            first = index * width + start + len(prompts[number]) - 1
            predicts[number] = torch.arange(first, first + len(completions[number]))
            start = stop
        # Padding is a sequence of its own.
        positions[index, start:] = torch.arange(width - start)
    return ids, positions, torch.cat(predicts)


def completion_states(
    model: Any, ids: torch.Tensor, positions: torch.Tensor, predicts: torch.Tensor
) -> torch.Tensor:
    """Hidden states [N, H] at the places that predict; the arguments are those of `pack`."""
    device = next(model.parameters()).device
    hidden = model.base_model(
        input_ids=ids.to(device), position_ids=positions.to(device), use_cache=False
    ).last_hidden_state
    return hidden.flatten(0, 1)[predicts.to(device)]


@torch.no_grad()
def require_separate_sequences(model: Any) -> None:
    """Raise ValueError where the states of a sequence depend on those before it in its row.

    Architectures with a recurrent state, or an attention that ignores position ids, would silently
    mix the sequences of a row. Both passes have the same shapes, so that they round alike in any
    dtype.
    """
    ids, positions = list(range(1, 9)), torch.tensor([[*range(8), *range(8)]])
    one, other = (
        completion_states(model, torch.tensor([[*before, *ids]]), positions, torch.arange(8, 16))
        for before in (ids, list(range(9, 17)))
    )
    if not torch.allclose(one.float(), other.float(), rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"{type(model).__name__}: packed sequences see each other in this architecture; "
            "take a model with plain attention"
        )
