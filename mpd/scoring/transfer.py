"""Tensors on their way from a GPU to the memory of the CPU."""

from collections.abc import Mapping

import torch


class Transfer:
    """Copies of tensors, which a GPU makes once it has computed them; nothing waits meanwhile.

    Copies go to pinned memory, which a GPU can write by itself. Tensors that are on the CPU are
    taken as they are.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.copies = {name: _copy(values) for name, values in tensors.items()}
        self.event: torch.cuda.Event | None = None
        if any(values.is_cuda for values in tensors.values()):
            self.event = torch.cuda.Event(blocking=True)  # a waiting thread takes no processor
            self.event.record()

    def result(self) -> dict[str, torch.Tensor]:
        """The copies, once they are there."""
        if self.event is not None:
            self.event.synchronize()
        return self.copies


def _copy(values: torch.Tensor) -> torch.Tensor:
    if not values.is_cuda:
        return values
    copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return copy.copy_(values, non_blocking=True)
