"""What a GPU did, by kinds of kernels, and how long it had nothing to do."""

import re
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

Kernel = tuple[str, float, float]  # name, start and end in microseconds

# The first kind whose pattern is in the name of a kernel.
KINDS = {
    "attention": r"flash|fmha|attention|attn|softmax_warp|sdpa",
    "matrix products": r"gemm|nvjet|cutlass|xmma|cublas|splitk|gemv|s16816|wgmma",
    "optimizer": r"adam|multi_tensor|foreach|lpnorm",
    "norm, rotary, MLP (fused)": r"rms_?norm|layer_?norm|rope|rotary|swiglu|silu_mul|triton",
    "loss, top-k": r"softmax|logsumexp|topk|sort|radix|gather|scatter|histogram|cumsum|scan",
    "copies, casts": r"memcpy|memset|copy|cast|cat_?array|catarray",
    "elementwise, sums": r"elementwise|reduce|index|embedding|fill|arange|where|compare",
}


def kind_of(name: str) -> str:
    """The kind of a kernel."""
    return next(
        (kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.I)), "other"
    )


def busy_seconds(kernels: Iterable[Kernel]) -> float:
    """How long at least one kernel ran."""
    total = end = 0.0
    for _, start, stop in sorted(kernels, key=lambda kernel: kernel[1]):
        total += max(stop, end) - max(start, end)
        end = max(stop, end)
    return total / 1e6


def summary(kernels: list[Kernel], seconds: float) -> dict[str, Any]:
    """Seconds of each kind, the slowest kernels, and the share of `seconds` without any."""
    kinds: dict[str, float] = {}
    names: dict[str, float] = {}
    for name, start, stop in kernels:
        kinds[kind_of(name)] = kinds.get(kind_of(name), 0.0) + (stop - start) / 1e6
        names[name] = names.get(name, 0.0) + (stop - start) / 1e6
    slowest = sorted(names, key=lambda name: -names[name])[:12]
    ordered = sorted(kernels, key=lambda kernel: kernel[1])
    gaps = [
        (after[1] - before[2], before[0], after[0])
        for before, after in pairwise(ordered)
        if after[1] > before[2]
    ]
    return {
        "seconds": round(seconds, 4),
        "idle_share": round(1 - busy_seconds(kernels) / seconds, 4),
        "num_kernels": len(kernels),
        "gaps": [
            f"{length / 1e3:.1f} ms between {before[:60]} and {after[:60]}"
            for length, before, after in sorted(gaps, reverse=True)[:12]
        ],
        "kinds": {kind: round(kinds[kind], 4) for kind in sorted(kinds, key=lambda k: -kinds[k])},
        "slowest": {name[:90]: round(names[name], 4) for name in slowest},
    }


class Trace:
    """Notes what the GPU does from `start` to `summary`."""

    def __init__(self) -> None:
        from torch.profiler import ProfilerActivity, profile

        self.profile = profile(activities=[ProfilerActivity.CUDA])
        self.began = 0.0

    def start(self) -> None:
        """Begin, with nothing left to do on the GPU."""
        import torch

        torch.cuda.synchronize()
        self.profile.start()
        self.began = time.perf_counter()

    def summary(self) -> dict[str, Any]:
        """End, and say what the GPU did."""
        import torch

        torch.cuda.synchronize()
        seconds = time.perf_counter() - self.began
        self.profile.stop()
        kernels = [
            (event.name, event.time_range.start, event.time_range.end)
            for event in self.profile.events()
            if event.device_type == torch.autograd.DeviceType.CUDA
            and not getattr(event, "is_user_annotation", False)
            and not event.name.startswith(("Optimizer.", "ProfilerStep"))
        ]
        return summary(kernels, seconds)


def profiled(action: Callable[[], Any]) -> dict[str, Any]:
    """The summary of what the GPU did during an action."""
    trace = Trace()
    trace.start()
    action()
    return trace.summary()
