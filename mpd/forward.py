"""Forward passes that never hold the logits of a whole batch.

B sequences, T tokens, N completion positions of all sequences together, H hidden, V vocabulary.
The model's body gives hidden states; its output head is applied to chunks of positions.
"""

from collections.abc import Sequence
from typing import Any

import torch


def pad(
    prompts: Sequence[list[int]], completions: Sequence[list[int]]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, attention mask and the positions that predict a completion id, [B, T] each.

    An id is predicted one position before it stands: the first completion id at the last
    prompt position, and nothing at the last position of the sequence.
    """
    sequences = [
        prompt + completion for prompt, completion in zip(prompts, completions, strict=True)
    ]
    shape = len(sequences), max(len(sequence) for sequence in sequences)
    ids = torch.zeros(shape, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    predicts = torch.zeros(shape, dtype=torch.bool)
    for row, (sequence, prompt) in enumerate(zip(sequences, prompts, strict=True)):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
        predicts[row, len(prompt) - 1 : len(sequence) - 1] = True
    return ids, mask, predicts


def completion_states(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, predicts: torch.Tensor
) -> torch.Tensor:
    """Hidden states [N, H] at the positions that predict, sequence after sequence."""
    device = next(model.parameters()).device
    hidden = model.base_model(
        input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False
    ).last_hidden_state
    return hidden[predicts.to(device)]


def output_logits(model: Any, hidden: torch.Tensor, vocabulary_size: int) -> torch.Tensor:
    """Float32 logits [N, V] of hidden states [N, H], without the rows that are no tokens."""
    return model.get_output_embeddings()(hidden)[:, :vocabulary_size].float()


@torch.inference_mode()
def require_plain_head(model: Any) -> None:
    """Raise ValueError where logits are more than the head applied to the last hidden state.

    Some architectures scale or cap them; scoring without that would be silently wrong.
    """
    ids = torch.arange(1, 9, device=next(model.parameters()).device)[None]
    expected = model(input_ids=ids, use_cache=False).logits.float()
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    found = model.get_output_embeddings()(hidden).float()
    if not torch.allclose(found, expected, rtol=1e-2, atol=1e-2):
        raise ValueError(
            f"{type(model).__name__}: its logits are not its output head applied to the hidden "
            "states (it scales or caps them), which is not supported; take another model"
        )
