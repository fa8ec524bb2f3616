"""Wall time, processor time and peak memory of a finished run, stage by stage.

    python benchmarks/pipeline.py results/tiny
    python benchmarks/pipeline.py results/tiny --json

Read from Snakemake's benchmark files. `elapsed` runs from the start of the first job to the end
of the last; with jobs side by side the stages add up to more than that. What no stage accounts
for is the share of `elapsed` in which no job ran, and the start-up of jobs is their imports:
measured here in a process that imports what a model stage does and ends.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

IMPORTS = (
    "import torch, transformers; transformers.AutoModelForCausalLM, transformers.AutoTokenizer"
)
MODEL_STAGES = {"models", "sample", "compress", "logits", "distill", "evaluate"}


def records(folder: Path) -> list[dict]:
    """One record per job: stage, seconds, processor seconds, MB, start and end (epoch seconds)."""
    found = []
    for path in sorted((folder / "benchmarks").rglob("*.jsonl")):
        relative = path.relative_to(folder / "benchmarks")
        stage = relative.parts[0] if relative.parts[0] in ("models", "problems") else ""
        if not stage:
            named = [
                part for part in relative.with_suffix("").parts if not part.startswith("shard")
            ]
            stage = named[-1]
        record = json.loads(path.read_text().splitlines()[-1])
        end = path.stat().st_mtime
        found.append(
            {
                "stage": stage,
                "seconds": float(record["s"]),
                "cpu": float(record["cpu_time"] or 0),
                "memory": float(record["max_rss"] or 0),
                "start": end - float(record["s"]),
                "end": end,
            }
        )
    if not found:
        raise SystemExit(f"{folder}: no benchmarks/*.jsonl in it; give results/<experiment>")
    return found


def uncovered(jobs: list[dict]) -> float:
    """Seconds between the first start and the last end in which no job ran."""
    idle, reached = 0.0, min(job["start"] for job in jobs)
    for job in sorted(jobs, key=lambda job: job["start"]):
        idle += max(job["start"] - reached, 0.0)
        reached = max(reached, job["end"])
    return idle


def startup_seconds() -> float:
    """Seconds of a process that imports what a model stage imports: the median of three."""
    times = []
    for _ in range(3):
        start = time.monotonic()
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)
        times.append(time.monotonic() - start)
    return sorted(times)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("results", type=Path)
    parser.add_argument("--json", action="store_true", help="a last line of JSON")
    arguments = parser.parse_args()
    jobs = records(arguments.results)
    elapsed = max(job["end"] for job in jobs) - min(job["start"] for job in jobs)
    shown = Table("stage", "jobs", "wall s", "processor s", "peak MB", box=None)
    for stage in dict.fromkeys(job["stage"] for job in sorted(jobs, key=lambda job: job["start"])):
        own = [job for job in jobs if job["stage"] == stage]
        shown.add_row(
            stage,
            str(len(own)),
            f"{sum(job['seconds'] for job in own):.1f}",
            f"{sum(job['cpu'] for job in own):.1f}",
            f"{max(job['memory'] for job in own):.0f}",
        )
    Console(width=100).print(shown)
    startup = startup_seconds()
    starting = startup * sum(job["stage"] in MODEL_STAGES for job in jobs)
    result = {
        "elapsed_seconds": round(elapsed, 1),
        "uncovered_share": round(uncovered(jobs) / elapsed, 3),
        "startup_seconds": round(startup, 2),
        "startup_share_of_job_time": round(starting / sum(job["seconds"] for job in jobs), 3),
    }
    for name, value in result.items():
        print(f"{name.replace('_', ' ')}: {value}")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
