"""Float32 weights that are trained, and the model that computes with them.

In bfloat16 the model holds a rounded copy, which is made once per optimiser step. The gradients of
every backward pass are added in float32, and summed over processes while the last backward pass of
a step still runs (mixed precision: arXiv 1710.03740).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import distributed

Weight = torch.nn.Parameter


class MasterWeights:
    """The weights of a model that are trained, in float32.

    `trained` are those that an optimiser updates. They are the model's own parameters where it
    computes in float32. Weights that are not trained have no copy in float32: they are read again
    where one is needed.
    """

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype) -> None:
        """Take a float32 model; from now on it computes in `dtype`."""
        self.parameters = list(model.parameters())
        self.is_copied = dtype != torch.float32
        named = {name: one for name, one in model.named_parameters() if one.requires_grad}
        masters = [Weight(one.detach()) if self.is_copied else one for one in named.values()]
        self.pairs = list(zip(named.values(), masters, strict=True))
        self.named = dict(zip(named, masters, strict=True))
        self.trained = masters
        if self.is_copied:  # buffers, such as rotary frequencies, stay float32
            for parameter in self.parameters:
                parameter.data = parameter.data.to(dtype)
        self.is_last = False
        self.sums: list[Any] = []
        if self.is_copied or distributed.is_initialized():
            for parameter, master in self.pairs:
                parameter.register_post_accumulate_grad_hook(partial(self._add_gradient, master))

    @property
    def is_rounded(self) -> bool:
        """Whether weights that are not trained exist in the dtype of the model alone."""
        return self.is_copied and len(self.pairs) < len(self.parameters)

    def values(self) -> dict[str, torch.Tensor]:
        """The trained weights on the CPU, by the names of the parameters."""
        return {name: weight.detach().cpu() for name, weight in self.named.items()}

    def backward(self, loss: torch.Tensor, is_last: bool) -> None:
        """Add the gradients of a loss; those of the last one of a step are then complete."""
        self.is_last = is_last
        loss.backward()
        for handle in self.sums:
            handle.wait()
        self.sums.clear()

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Round the weights for the model, after they changed."""
        if self.is_copied:
            parameters, masters = zip(*self.pairs, strict=True)
            torch._foreach_copy_(parameters, masters)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """The model with the float32 weights in it, to be saved; what is not trained stays."""
        rounded = [parameter.data for parameter, _ in self.pairs]
        for parameter, master in self.pairs:
            parameter.data = master.data
        yield
        for (parameter, _), data in zip(self.pairs, rounded, strict=True):
            parameter.data = data

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The trained weights, by number."""
        return {str(number): weight.detach() for number, weight in enumerate(self.trained)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take the weights of `state_dict`."""
        for number, weight in enumerate(self.trained):
            weight.copy_(state[str(number)])
        self.copy_to_model()

    @torch.no_grad()
    def _add_gradient(self, master: Weight, parameter: Weight) -> None:
        """Add the gradient that a backward pass left in a parameter."""
        if self.is_copied:
            assert parameter.grad is not None
            if master.grad is None:
                master.grad = parameter.grad.to(master.dtype)
            else:  # cast first: kernels for one type are twice as fast as those for two
                master.grad.add_(parameter.grad.to(master.dtype))
            parameter.grad = None
        if self.is_last and distributed.is_initialized():
            self.sums.append(distributed.all_reduce(master.grad, async_op=True))
