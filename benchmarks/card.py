"""What a device can do at best: matrix products and copies; and what was used of it.

python benchmarks/card.py --device cuda
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shapes

GPU_WIDTH, CPU_WIDTH = 8192, 1024  # of the square matrices
GPU_BYTES, CPU_BYTES = 4 << 30, 64 << 20
WARM_UP, REPEATS = 3, 10


def seconds_of(device: str, action: Callable[[], Any]) -> float:
    """Median seconds of an action on the device, after a warm-up."""
    import torch

    taken = []
    for _ in range(WARM_UP + REPEATS):
        if device == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            action()
            end.record()
            end.synchronize()
            taken.append(begin.elapsed_time(end) / 1000)
        else:
            start = time.perf_counter()
            action()
            taken.append(time.perf_counter() - start)
    return statistics.median(taken[WARM_UP:])


def synchronize(device: str) -> None:
    """Wait until a GPU has done its work."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def matrix_tflops(device: str) -> float:
    """Tera-operations per second of a product of bf16 matrices; on a CPU of float32 ones."""
    import torch

    width = GPU_WIDTH if device == "cuda" else CPU_WIDTH
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    left, right = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(left)
    seconds = seconds_of(device, lambda: torch.mm(left, right, out=product))
    return 2 * width**3 / seconds / 1e12


def copy_tbs(device: str) -> float:
    """Terabytes per second of a copy on the device, bytes read and bytes written."""
    import torch

    count = GPU_BYTES if device == "cuda" else CPU_BYTES
    source = torch.randint(255, (count,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / seconds_of(device, lambda: target.copy_(source)) / 1e12


def take_memory(left_gb: float | None, device: str) -> Any:
    """A tensor that leaves so many GB of a GPU to the others, as on a smaller card; or None."""
    import torch

    if left_gb is None or device != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info()
    return torch.empty(max(0, int(free - left_gb * 1e9)), dtype=torch.uint8, device=device)


def peak_memory(device: str, taken: Any = None) -> dict[str, float]:
    """Peak memory of this process in GB: allocated and reserved on the GPU, resident on a CPU.

    What `take_memory` has taken does not count.
    """
    import torch

    if device == "cuda":
        others = 0 if taken is None else taken.numel()
        allocated = torch.cuda.max_memory_allocated() - others
        reserved = torch.cuda.max_memory_reserved() - others
        return {"peak_gb": round(allocated / 1e9, 2), "reserved_gb": round(reserved / 1e9, 2)}
    return {"peak_gb": round(resident_megabytes() * 2**20 / 1e9, 2)}


def resident_megabytes() -> float:
    """Peak resident memory of this process so far, in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def utilisation(arguments: argparse.Namespace, flops: float, seconds: float) -> dict[str, float]:
    """Operations per second, and as a share of those of the measured matrix product."""
    ceiling = arguments.matrix_tflops or matrix_tflops(arguments.device)
    reached = flops / seconds / 1e12
    return {
        "tflops": round(reached, 2),
        "mfu": round(reached / ceiling, 4),
        "matrix_tflops": round(ceiling, 2),
    }


def answer_of(*command: str) -> str:
    """What a command prints; "unknown" where it fails."""
    try:
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return printed.strip()


def describe(device: str) -> dict[str, Any]:
    """The card, what runs on it, and its measured speeds."""
    import torch
    import transformers

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    name, memory, driver = "CPU", 0.0, ""
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        name, memory = properties.name, round(properties.total_memory / 1e9, 1)
        driver = answer_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return {
        "card": name,
        "memory_gb": memory,
        "driver": driver,
        **versions,
        "matrix_tflops": round(matrix_tflops(device), 3),
        "copy_tbs": round(copy_tbs(device), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--wait", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shapes.choose_device(arguments)
    if arguments.wait:
        sys.stdin.readline()
    print(json.dumps(describe(arguments.device)))


if __name__ == "__main__":
    main()
