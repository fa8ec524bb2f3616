"""Forward passes over packed sequences, up to the hidden states.

All sequences of a batch share one row, one after another, without padding. Position ids start again
with each, and attention keeps one from seeing another (mpd/scoring/attention.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch


@dataclass(frozen=True)
class Packed:
    """Sequences in one row: `ids` and `positions` [1, T], and the places [N] that predict.

    Places are indices into the row. An id is predicted one position before it: the first completion
    id at the last prompt position, and nothing at the last position of a sequence. `starts` [S + 1]
    (int32) are the sums of the `lengths` of the sequences before each.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    predicts: torch.Tensor
    starts: torch.Tensor
    lengths: list[int]

    @property
    def longest(self) -> int:
        """The length of the longest sequence, in tokens."""
        return max(self.lengths)

    def to(self, device: torch.device) -> "Packed":
        """The same on a device; copies from pinned memory are not waited for."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Packed":
        """The same in pinned memory."""
        return self._with(torch.Tensor.pin_memory)

    def _with(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Packed":
        return Packed(
            change(self.ids),
            change(self.positions),
            change(self.predicts),
            change(self.starts),
            self.lengths,
        )


def pack(prompts: Sequence[list[int]], completions: Sequence[list[int]]) -> Packed:
    """The sequences of prompts with their completions, in the order given."""
    pairs = list(zip(prompts, completions, strict=True))
    lengths = [len(prompt) + len(completion) for prompt, completion in pairs]
    starts = list(accumulate(lengths, initial=0))
    ids = [token for prompt, completion in pairs for token in (*prompt, *completion)]
    predicts = [
        torch.arange(start + len(prompt) - 1, start + len(prompt) + len(completion) - 1)
        for start, (prompt, completion) in zip(starts, pairs, strict=False)
    ]
    return Packed(
        torch.tensor(ids)[None],
        torch.cat([torch.arange(length) for length in lengths])[None],
        torch.cat(predicts),
        torch.tensor(starts, dtype=torch.int32),
        lengths,
    )


# Hidden states of a model over packed sequences, as `completion_states` gives them.
States = Callable[[Any, Packed], torch.Tensor]


def completion_states(model: Any, packed: Packed) -> torch.Tensor:
    """Hidden states [N, H] at the places that predict.

    Raises ValueError where the rotary embedding of some would depend on the others' lengths.
    """
    _require_one_rope(model, packed.lengths)
    packed = packed.to(next(model.parameters()).device)
    hidden = model.base_model(
        input_ids=packed.ids, position_ids=packed.positions, use_cache=False, packed=packed
    ).last_hidden_state
    # The last layer of a model that is split over devices is not on the first one.
    return hidden[0].to(packed.predicts.device).index_select(0, packed.predicts)


def _require_one_rope(model: Any, lengths: list[int]) -> None:
    """transformers takes the factors of longrope for all positions by the longest sequence."""
    rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    if rope.get("rope_type") != "longrope":
        return
    bound = rope["original_max_position_embeddings"]
    if min(lengths) <= bound < max(lengths):
        raise ValueError(
            f"{type(model).__name__}: its rotary embedding (longrope) has other factors above "
            f"{bound} tokens, and a batch has sequences of {min(lengths)} and {max(lengths)}; set "
            "resources.logits.batch_tokens and resources.distill.micro_batch_size to 1"
        )


@torch.no_grad()
def require_separate_sequences(model: Any) -> None:
    """Raise ValueError where the states of a sequence depend on those before it in its row.

    Architectures with a recurrent state, or an attention that ignores position ids, would silently
    mix the sequences of a row. Both passes have the same shapes, so that they round alike in any
    dtype.
    """
    ids = list(range(1, 9))
    one, other = (
        completion_states(model, pack([before, ids[:1]], [[], ids[1:]]))
        for before in (ids, list(range(9, 17)))
    )
    if not torch.allclose(one.float(), other.float(), rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"{type(model).__name__}: packed sequences see each other in this architecture; "
            "take a model with plain attention"
        )
