"""Speed and peak memory of a distill step, against supervised fine-tuning or against TRL.

    python benchmarks/step.py --json
    make bench-env && python benchmarks/step.py --against trl --json
    python benchmarks/step.py --device cuda --shape qwen3-1.7b --dtype bfloat16 \\
        --batch-size 32 --prompt-tokens 200 --completion-tokens 2048

Every contestant is a process of its own; the ratio is of the medians. On a CPU they take their
optimiser steps in turns, on a GPU one after another, each with all of its memory. All train a
student of the same shape, randomly initialised, on the same token ids. Supervised fine-tuning is
our loop with cross-entropy, and thus the same chunked head without a cache. TRL's
DistillationTrainer, in an environment of its own, runs a live teacher.

MFU is a ratio to a matrix product that is measured first. A token costs 6 operations for each
weight, the output head at completion positions only, and causal attention of its own sequence.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import card
import contestants
import kernels
import shapes

ROOT = Path(__file__).parent
PASSED = (
    *("device", "shape", "teacher_shape", "dtype", "batch_size", "micro_batch_size"),
    *("prompt_tokens", "completion_tokens", "fewest_tokens", "chunk_size", "threads", "repeats"),
    *("settings", "resources", "matrix_tflops", "memory_gb"),
)


def steps_of(name: str, arguments: argparse.Namespace) -> Iterator[dict[str, float]]:
    """The steps of a contestant, each with its seconds, loss and gradient norm."""
    if name == "trl":
        steps = contestants.trl(arguments.folder, arguments)
    else:
        steps = contestants.ours(arguments.folder, name, arguments)
    while True:
        start = time.monotonic()
        measures = next(steps)
        card.synchronize(arguments.device)
        yield {"seconds": time.monotonic() - start, **measures}


def take_turns(arguments: argparse.Namespace) -> None:
    """A contestant: one step for each line that comes in, its seconds and the peak memory out."""
    steps = steps_of(arguments.work, arguments)
    for _ in sys.stdin:
        step = next(steps)
        print(json.dumps({**step, "peak": card.resident_megabytes()}), flush=True)


def take_all(arguments: argparse.Namespace) -> dict[str, Any]:
    """All steps of a contestant, and what they say of the device. The first is a warm-up."""
    lengths, num_positions = shapes.sizes(shapes.trajectories(arguments))
    if not arguments.matrix_tflops:
        arguments.matrix_tflops = card.matrix_tflops(arguments.device)
    taken = card.take_memory(arguments.memory_gb, arguments.device)
    start = time.monotonic()
    steps = steps_of(arguments.one, arguments)
    first = next(steps)
    until_first = time.monotonic() - start
    seconds = [next(steps)["seconds"] for _ in range(arguments.repeats)]
    result = {
        "name": arguments.one,
        "seconds": [round(one, 4) for one in seconds],
        "until_first_step": round(until_first, 2),
        "tokens": num_positions,
        "loss": first["loss"],
        "gradient_norm": first["gradient_norm"],
        **card.peak_memory(arguments.device, taken),
    }
    if arguments.one != "trl":  # whose teacher computes too
        flops = 3 * shapes.forward_flops(arguments.shape, lengths, num_positions)
        result |= card.utilisation(arguments, flops, statistics.median(seconds))
    if arguments.profile and arguments.device == "cuda":
        result["profile"] = kernels.profiled(lambda: next(steps))
    return result


def command_of(python: str, name: str, mode: str, arguments: argparse.Namespace) -> list[str]:
    """The command of a contestant's process."""
    command = [python, __file__, mode, name, "--folder", str(arguments.folder)]
    for option in PASSED:
        value = getattr(arguments, option)
        if value not in (None, {}):
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            command += [f"--{option.replace('_', '-')}", text]
    return command


def in_turns(
    pythons: dict[str, str], arguments: argparse.Namespace
) -> dict[str, list[dict[str, float]]]:
    """Steps of every contestant, in turns; `pythons` maps names to Python interpreters."""
    processes = {
        name: subprocess.Popen(
            command_of(python, name, "--work", arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if arguments.verbose else subprocess.DEVNULL,
            text=True,
        )
        for name, python in pythons.items()
    }
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in pythons}
    for turn in range(arguments.repeats + 1):
        for name, process in processes.items():
            assert process.stdin and process.stdout
            process.stdin.write("step\n")
            process.stdin.flush()
            line = process.stdout.readline()
            while line and not line.startswith("{"):  # what a library prints
                line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{name} ended; run again with --verbose to see why")
            if turn:  # the first step makes the optimiser's state
                taken[name].append(json.loads(line))
    for process in processes.values():
        process.kill()
        process.wait()
    return taken


def one_after_another(
    pythons: dict[str, str], arguments: argparse.Namespace
) -> dict[str, list[dict[str, float]]]:
    """Steps of every contestant, each alone on the GPU."""
    taken = {}
    arguments.matrix_tflops = arguments.matrix_tflops or card.matrix_tflops(arguments.device)
    print(f"matrix product: {arguments.matrix_tflops:.0f} TFLOP/s")
    for name, python in pythons.items():
        printed = subprocess.run(
            command_of(python, name, "--one", arguments),
            stdout=subprocess.PIPE,
            stderr=None if arguments.verbose else subprocess.DEVNULL,
            text=True,
            check=False,
        ).stdout.splitlines()
        if not printed or not printed[-1].startswith("{"):
            raise SystemExit(f"{name} ended; run again with --verbose to see why")
        result = json.loads(printed[-1])
        peak = result["peak_gb"] * 1000
        taken[name] = [{"seconds": seconds, "peak": peak} for seconds in result["seconds"]]
        if "mfu" in result:
            print(f"{name}: MFU {result['mfu']:.3f}")
    return taken


def compare(arguments: argparse.Namespace) -> None:
    """Measure a step of ours against that of another, and print both."""
    other = {"sft": "cross_entropy", "trl": "trl"}[arguments.against]
    python = {"sft": sys.executable, "trl": arguments.bench_python}[arguments.against]
    tokens = shapes.sizes(shapes.trajectories(arguments))[1]
    results = Path("results").absolute()
    results.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=results) as name:
        arguments.folder = Path(name)
        contestants.prepare(arguments.folder, arguments)
        measure = in_turns if arguments.device == "cpu" else one_after_another
        taken = measure({"reverse_kl": sys.executable, other: python}, arguments)
    seconds = {name: statistics.median(one["seconds"] for one in of) for name, of in taken.items()}
    peaks = {name: max(one["peak"] for one in of) for name, of in taken.items()}
    for name in taken:
        print(f"{name:14} {tokens / seconds[name]:8.1f} completion tokens/s  {peaks[name]:8.0f} MB")
    result = {
        "speed_ratio": round(seconds[other] / seconds["reverse_kl"], 3),
        "memory_ratio": round(peaks["reverse_kl"] / peaks[other], 3),
    }
    print(f"speed ratio {result['speed_ratio']}, memory ratio {result['memory_ratio']}")
    if arguments.json:
        print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--against", choices=["sft", "trl"], default="sft")
    shapes.add_arguments(parser, batch_size=8, completion_tokens=160)
    parser.add_argument("--bench-python", default=".venv-bench/bin/python", help="has TRL")
    parser.add_argument("--json", action="store_true", help="a last line of JSON")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--one", help="measure this contestant alone, and print JSON")
    parser.add_argument("--wait", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shapes.choose_device(arguments)
    if arguments.work:
        take_turns(arguments)
    elif arguments.one:
        shapes.wait_for_turn(arguments, *(("trl",) if arguments.one == "trl" else shapes.OURS))
        with shapes.model_folder(arguments):
            print(json.dumps(take_all(arguments)))
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
