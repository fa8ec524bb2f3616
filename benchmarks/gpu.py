"""Everything that is measured on a GPU, in one run, as tables with the name of the card.

    python benchmarks/gpu.py --out results/gpu
    python benchmarks/gpu.py --only card distill-short sft-short --out results/gpu
    python benchmarks/gpu.py --device cpu --shape tiny --out results/gpu

It needs torch, transformers, accelerate and what `mpd` imports, but neither network nor model
files. Every measurement is a process of its own with a limit of time: one that fails costs its own
row. While one runs, the next is imported already, and waits. The tables are written after each
measurement, to OUT.md, and with all figures and the ends of failed logs to OUT.json.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import card
import gpu_report
import shapes

ROOT = Path(__file__).resolve().parents[1]
COMMIT = ("git", "-C", str(ROOT), "describe", "--always", "--dirty")
# Trajectories of a step, or scored, and the longest completion.
SHORT, LONG, SINGLE, SCORED = (32, 2048), (8, 8192), (1, 32_768), (128, 2048)
ON_DEMAND = ("no-recomputation", "tf32", "float32")  # measured where --only names them
TINY = 32  # the shape tiny is tried with completions so much shorter, and an eighth of the rows

SCRATCH_BYTES = 6e9  # a model of 1.7 billion parameters in bf16, and caches


@dataclass(frozen=True)
class Measurement:
    """A process: a script and its options.

    `alone`: nothing is imported beside it.
    """

    name: str
    script: str
    options: tuple[str, ...] = ()
    seconds: int = 75
    alone: bool = False


def measurements(arguments: argparse.Namespace) -> list[Measurement]:
    """What is measured, in the order in which it is."""
    runs = ("--device", arguments.device, "--shape", arguments.shape, "--dtype", arguments.dtype)
    runs += ("--threads", str(arguments.threads), "--prompt-tokens", "200")

    def lengths(sizes: tuple[int, int]) -> tuple[str, ...]:
        rows, longest = sizes
        if arguments.shape == "tiny":
            rows, longest = -(-rows // 8), longest // TINY
        return "--batch-size", str(rows), "--completion-tokens", str(longest)

    def step(name: str, sizes: tuple[int, int], one: str, *options: str) -> Measurement:
        chosen = (*runs, *lengths(sizes), "--one", one, "--repeats", str(arguments.repeats))
        chosen += (*options, *shlex.split(arguments.step_options))
        return Measurement(name, "step.py", chosen)

    def resources(**settings: Any) -> tuple[str, str]:
        return "--resources", json.dumps(settings)

    def precision(name: str) -> tuple[str, ...]:
        return "--dtype", "float32", "--settings", json.dumps({"mixed_precision": name})

    single = ("--fewest-tokens", str(SINGLE[1] // (TINY if arguments.shape == "tiny" else 1)))
    scored = (*runs, *lengths(SCORED), *shlex.split(arguments.score_options))
    starts = (*runs, *lengths((8, 2048)), "--verbose")
    profile = ("--profile",) if arguments.profile else ()
    return [
        Measurement("card", "card.py", ("--device", arguments.device)),
        step("distill-short", SHORT, "reverse_kl", *profile),
        step("sft-short", SHORT, "cross_entropy"),
        step("distill-long", LONG, "reverse_kl", *profile),
        step("distill-32768", SINGLE, "reverse_kl", *single, "--memory-gb", "80"),
        Measurement("score", "score.py", (*scored, "--profile"), 100),
        Measurement("start-training", "start.py", ("training", *starts), 100, True),
        Measurement("start-scoring", "start.py", ("scoring", *starts), 100, True),
        Measurement("equal", "equal.py", runs),
        step("kernels-none", SHORT, "reverse_kl", *resources(kernels="none")),
        step("recomputation", SHORT, "reverse_kl", *resources(gradient_checkpointing=True)),
        step("trl", SHORT, "trl", "--micro-batch-size", "8", "--repeats", "2"),
        step("no-recomputation", SHORT, "reverse_kl", *resources(gradient_checkpointing=False)),
        step("tf32", SHORT, "reverse_kl", *precision("tf32")),
        step("float32", SHORT, "reverse_kl", *precision("no"), "--repeats", "1"),
    ]


class Process:
    """A measurement's process, which imports, and waits for a line before it measures."""

    def __init__(self, measurement: Measurement, arguments: argparse.Namespace) -> None:
        self.measurement = measurement
        self.logs = {
            name: arguments.folder / f"{measurement.name}.{name}" for name in ("stdout", "stderr")
        }
        python = arguments.bench_python if measurement.name == "trl" else sys.executable
        options = list(measurement.options)
        if measurement.script != "card.py":
            options += ["--folder", str(arguments.folder)]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with self.logs["stdout"].open("wb") as stdout, self.logs["stderr"].open("wb") as stderr:
            self.process = subprocess.Popen(
                [python, str(ROOT / "benchmarks" / measurement.script), *options, "--wait"],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    def measure(self, limit: float, matrix_tflops: float | None) -> dict[str, Any]:
        """What the process prints last, or why there is nothing; `limit` is in seconds."""
        start, why = time.monotonic(), ""
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self.process.communicate(f"{matrix_tflops or ''}\n".encode(), timeout=limit)
        if self.process.poll() is None:
            why = f"it ran longer than {limit:.0f} s"
        self.kill()
        took = round(time.monotonic() - start, 1)
        printed, logged = (
            self.logs[name].read_text(encoding="utf-8", errors="replace").strip().splitlines()
            for name in ("stdout", "stderr")
        )
        if not why and self.process.returncode == 0 and printed and printed[-1].startswith("{"):
            return {**json.loads(printed[-1]), "took": took}
        why = why or " ".join(logged[-3:]) or f"it ended with code {self.process.returncode}"
        return {"failed": " ".join(why.split())[-600:], "log": logged[-40:], "took": took}

    def kill(self) -> None:
        """End the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Take all measurements that are wanted; tables are written after each."""
    begin = time.monotonic()
    wanted = [
        one
        for one in measurements(arguments)
        if (one.name in arguments.only if arguments.only else one.name not in ON_DEMAND)
        and one.name not in arguments.skip
    ]
    about = {
        "commit": arguments.commit or card.answer_of(*COMMIT),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        "shape": arguments.shape,
        "command": shlex.join(["python", *sys.argv]),
    }
    results: dict[str, Any] = {}
    process: Process | None = None
    following: Process | None = None
    try:
        for number, measurement in enumerate(wanted):
            left = arguments.limit - (time.monotonic() - begin)
            if left < min(20, arguments.limit / 4):
                results[measurement.name] = {"failed": "not run: the time was up", "took": 0}
                continue
            process, following = following or Process(measurement, arguments), None
            rest = wanted[number + 1 : number + 2]
            # The first tells the others the speed of the card.
            if (
                rest
                and measurement.script != "card.py"
                and not (measurement.alone or rest[0].alone)
            ):
                following = Process(rest[0], arguments)
            matrix_tflops = results.get("card", {}).get("matrix_tflops")
            result = process.measure(min(measurement.seconds, left), matrix_tflops)
            results[measurement.name] = result
            print(gpu_report.line(measurement.name, result), flush=True)
            gpu_report.write(arguments.out, about, results)
    finally:
        for each in (process, following):
            if each:
                each.kill()
    about["seconds"] = str(round(time.monotonic() - begin))
    gpu_report.write(arguments.out, about, results)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--shape", choices=list(shapes.SHAPES), default="qwen3-1.7b")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--threads", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--repeats", type=int, default=4, help="timed steps, behind a warm-up")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="alone")
    parser.add_argument("--skip", nargs="+", default=[], metavar="NAME", help="leave these out")
    parser.add_argument("--profile", action="store_true", help="a step by kinds of kernels")
    parser.add_argument("--step-options", default="", help="options for step.py, in one word")
    parser.add_argument("--score-options", default="", help="options for score.py, in one word")
    parser.add_argument("--limit", type=float, default=570, help="seconds of the whole run")
    parser.add_argument("--bench-python", default=sys.executable, help="has TRL")
    parser.add_argument("--commit", help="default: that of the working tree")
    parser.add_argument("--scratch", type=Path, help="where folders are made; default: in memory")
    parser.add_argument("--out", type=Path, default=Path("results/gpu"), help="without suffix")
    arguments = parser.parse_args()
    names = {measurement.name for measurement in measurements(arguments)}
    unknown = {*arguments.only, *arguments.skip} - names
    if unknown:
        parser.error(f"no measurement {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    memory = Path("/dev/shm")
    is_roomy = memory.is_dir() and shutil.disk_usage(memory).free > SCRATCH_BYTES
    scratch = arguments.scratch or (memory if is_roomy else None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # processes are ended on the way out
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        arguments.folder = Path(name)
        results = run(arguments)
    print(arguments.out.with_suffix(".md").read_text(encoding="utf-8"))
    if all("failed" in result for result in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
