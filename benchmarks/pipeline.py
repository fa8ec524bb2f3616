"""Wall time, processor time and peak memory of the newest run, stage by stage.

    python benchmarks/pipeline.py results/tiny
    python benchmarks/pipeline.py results/tiny --wall 312      as `time make run` measured it

Read from Snakemake's benchmark files, and from its logs the newest run that has any of them: it
lasts from the time in the log's name to the log's last line. So start it where Snakemake ran.
Jobs of other runs are left out. Jobs side by side make the stages add up to more than the wall
time; uncovered is the share of it in which no job ran: Snakemake itself. The start-up of jobs is
their imports: measured here in a process that imports what a model stage does and ends; a job
that imported less, since it reused, counts with its own length at most.
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

IMPORTS = """
from mpd.store.loading import loading
with loading():
    import torch, transformers
    transformers.AutoModelForCausalLM, transformers.AutoTokenizer
"""
MODEL_STAGES = {"models", "sample", "compress", "logits", "distill", "answers"}


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
        record = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
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


def newest_run(jobs: list[dict], logs: Path) -> tuple[float, list[dict]]:
    """Wall seconds of the newest run of Snakemake that ran any of `jobs`, and those it ran."""
    for path in sorted(logs.glob("*.snakemake.log"), reverse=True):
        start = datetime.fromisoformat(path.name.removesuffix(".snakemake.log")).timestamp()
        end = path.stat().st_mtime
        own = [job for job in jobs if start <= job["end"] <= end]
        if own:
            return end - start, own
    raise SystemExit(f"{logs}: no log of a run with these jobs; start this where Snakemake ran")


def covered(jobs: list[dict]) -> float:
    """Seconds in which at least one job ran."""
    busy, reached = 0.0, 0.0
    for job in sorted(jobs, key=lambda job: job["start"]):
        busy += max(job["end"] - max(job["start"], reached), 0.0)
        reached = max(reached, job["end"])
    return busy


def startup_seconds() -> float:
    """Seconds of a process that imports what a model stage imports: the median of three."""
    times = []
    for _ in range(3):
        start = time.monotonic()
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)
        times.append(time.monotonic() - start)
    return sorted(times)[1]


def print_stages(jobs: list[dict]) -> None:
    """One line for each stage, in the order of their starts."""
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


def shares(jobs: list[dict], wall: float, startup: float) -> dict[str, float]:
    """What of the wall time no stage accounts for, and what went into the start-up of jobs."""
    starting = sum(min(startup, job["seconds"]) for job in jobs if job["stage"] in MODEL_STAGES)
    return {
        "wall_seconds": round(wall, 1),
        "uncovered_share": round(1 - covered(jobs) / wall, 3),
        "startup_seconds": round(startup, 2),
        "startup_share": round(starting / wall, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("results", type=Path)
    parser.add_argument("--wall", type=float, help="seconds of the whole command; else the log's")
    parser.add_argument("--json", action="store_true", help="a last line of JSON")
    arguments = parser.parse_args()
    recorded = records(arguments.results)
    wall, jobs = newest_run(recorded, Path(".snakemake/log"))
    print_stages(jobs)
    if len(jobs) < len(recorded):
        print(f"{len(recorded) - len(jobs)} jobs of other runs are left out")
    result = shares(jobs, arguments.wall or wall, startup_seconds())
    for name, value in result.items():
        print(f"{name.replace('_', ' ')}: {value}")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
