"""Small models that print what a test wants: their last layer says which token follows which."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

Successors = dict[int, list[int]]


def chain(*texts: Sequence[int]) -> Successors:
    """The tokens that follow each token in one of several texts, given as ids."""
    successors: Successors = {}
    for text in texts:
        for token, following in pairwise(text):
            after = successors.setdefault(token, [])
            if following not in after:
                after.append(following)
    return successors


def printing(
    successors: Successors, stop_ids: Iterable[int], size: int | None = None
) -> Callable[[Any], None]:
    """An edit of a model's weights: after each token comes one of its successors.

    Those of one token are about equally probable. There may be as many tokens as the model is wide.
    Output rows from `size` on are no tokens, and would win nearly every choice.
    """
    import torch

    def edit(model: Any) -> None:
        for parameter in model.model.layers.parameters():
            if parameter.dim() == 2:
                parameter *= 0.2  # context matters, but little
        model.generation_config.eos_token_id = list(stop_ids)
        tokens = sorted({*successors, *(token for after in successors.values() for token in after)})
        width = model.config.hidden_size
        directions = torch.linalg.qr(torch.randn(width, width)).Q * width**0.5
        assert len(tokens) <= width
        of = dict(zip(tokens, directions[: len(tokens)], strict=True))
        embeddings, outputs = model.get_input_embeddings(), model.get_output_embeddings()
        for matrix in (embeddings.weight, outputs.weight):
            for token, direction in of.items():
                matrix[token] = direction
        if size is not None:
            outputs.weight[size:] *= 20
        # The last layer's memory: a token's direction in, the sum of its successors' out.
        memory = model.model.layers[-1].mlp
        for weights in (memory.gate_proj.weight, memory.up_proj.weight, memory.down_proj.weight):
            weights.zero_()
        for place, (token, after) in enumerate(successors.items()):
            memory.gate_proj.weight[place] = memory.up_proj.weight[place] = of[token] / 4
            memory.down_proj.weight[:, place] = sum(of[token] for token in after) / 6
        model.model.norm.weight.fill_(0.55)

    return edit
