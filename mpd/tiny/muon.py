"""Muon in float32: momentum whose matrix is replaced by a nearby orthogonal one.

torch.optim.Muon iterates in bfloat16, which a CPU without bfloat16 units emulates: a step of the
tiny teacher took 650 ms that way. It takes 50 ms here, where all matrices of one shape are also
orthogonalised together.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, without weight decay. For matrices only.

    An update has the root mean square 0.2, as AdamW's have, so that one learning rate fits both.
    Source: https://kellerjordan.github.io/posts/muon; the scale is that of arXiv 2502.16982.
    """

    def __init__(
        self, parameters: Iterable[torch.Tensor], lr: float = 1e-3, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters by their gradients; a closure is not supported."""
        assert closure is None
        for group in self.param_groups:
            same_shape: dict[tuple[int, int], list[tuple[torch.Tensor, torch.Tensor]]]
            same_shape = defaultdict(list)
            for parameter in group["params"]:
                gradient = parameter.grad
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(gradient)
                state["momentum"].lerp_(gradient, 1 - group["momentum"])
                update = gradient.lerp(state["momentum"], group["momentum"])
                wide = (parameter, update) if _is_wide(update) else (parameter.T, update.T)
                same_shape[wide[0].shape[0], wide[0].shape[1]].append(wide)
            for (_, columns), pairs in same_shape.items():
                updates = orthogonalise(torch.stack([update for _, update in pairs]))
                for (parameter, _), update in zip(pairs, updates, strict=True):
                    parameter.sub_(update, alpha=group["lr"] * 0.2 * columns**0.5)


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """A stack of matrices, no higher than wide, with all singular values near 1 (0.7 to 1.2)."""
    a, b, c = COEFFICIENTS
    iterate = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NUM_ITERATIONS):
        gram = iterate @ iterate.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        iterate = torch.baddbmm(iterate, polynomial, iterate, beta=a)
    return iterate


def _is_wide(matrix: torch.Tensor) -> bool:
    return matrix.shape[0] <= matrix.shape[1]
