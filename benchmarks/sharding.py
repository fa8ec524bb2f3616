"""Speed and memory of a distill step on several GPUs, with and without sharded weights.

    python benchmarks/sharding.py --device cuda --shape qwen3-8b --dtype bfloat16 --processes 8 \\
        --batch-size 32 --prompt-tokens 200 --completion-tokens 2048
    python benchmarks/sharding.py --device cpu --shape tiny --processes 2 --batch-size 4

One line of JSON for each of `sharding: none` and `full`: the median of the steps after the first,
its loss and gradient norm, which have to agree, and the peak memory of the first process. Models
are random, and the first process makes them on its GPU: the peak is that of the steps alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import contestants
import shapes


def measure(arguments: argparse.Namespace) -> None:
    """Take the steps in this process, one of several; the first prints a line."""
    import torch

    num_gpus = torch.cuda.device_count()
    steps, seconds = contestants.ours(arguments.folder, "reverse_kl", arguments), []
    first = next(steps)
    if num_gpus:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(arguments.repeats):
        start = time.monotonic()
        next(steps)
        seconds.append(time.monotonic() - start)
    if torch.distributed.get_rank() == 0:
        peak = round(torch.cuda.max_memory_allocated() / 1e9, 2) if num_gpus else None
        result = {"seconds": statistics.median(seconds), "peak_gb": peak, **first}
        print(json.dumps({"sharding": arguments.resources["sharding"], **result}), flush=True)


def main() -> None:
    """Start torchrun once for each sharding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shapes.add_arguments(parser)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shapes.choose_device(arguments)
    if arguments.work:
        measure(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        arguments.folder = Path(name)
        contestants.prepare(arguments.folder, arguments)
        for sharding in ("full", "none"):
            resources = {**arguments.resources, "sharding": sharding}
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            torchrun += ["--nproc_per_node", str(arguments.processes), __file__, *sys.argv[1:]]
            work = ["--work", "--folder", name, "--resources", json.dumps(resources)]
            subprocess.run([*torchrun, *work], check=True)


if __name__ == "__main__":
    main()
