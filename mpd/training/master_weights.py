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
    computes in float32.
    """

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype) -> None:
        """Take a float32 model; from now on it computes in `dtype`."""
        self.parameters = list(model.parameters())
        self.masters: list[Weight] = self.parameters
        if dtype != torch.float32:
            self.masters = [_master_of(parameter) for parameter in self.parameters]
            for parameter in self.parameters:  # buffers, such as rotary frequencies, stay float32
                parameter.data = parameter.data.to(dtype)
        pairs = zip(self.parameters, self.masters, strict=True)
        self.pairs = [pair for pair in pairs if pair[0].requires_grad]
        self.trained = [master for _, master in self.pairs]
        self.is_copied = self.masters is not self.parameters
        self.is_last = False
        self.sums: list[Any] = []
        if self.is_copied or distributed.is_initialized():
            for parameter, master in self.pairs:
                parameter.register_post_accumulate_grad_hook(partial(self._add_gradient, master))

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The float32 values of all parameters of the model, in its order."""
        return [master.detach() for master in self.masters]

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
        """The model with the float32 weights in it, to be saved.

        All of them are on the CPU if those that are not trained are: adapters are merged there.
        """
        rounded = [parameter.data for parameter in self.parameters]
        is_split = self.is_copied and len(self.pairs) < len(self.parameters)
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            parameter.data = master.data.cpu() if is_split else master.data
        yield
        for parameter, data in zip(self.parameters, rounded, strict=True):
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


def _master_of(parameter: Weight) -> Weight:
    """The float32 weights of a parameter; those that are not trained need no place on a GPU."""
    data = parameter.detach()
    if not parameter.requires_grad:
        data = data.cpu()
    return Weight(data, requires_grad=parameter.requires_grad)
