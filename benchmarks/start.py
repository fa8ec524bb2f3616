"""How long a job takes to its first step: imports, loading, checks and the step itself.

    python benchmarks/start.py training --shape tiny
    python benchmarks/start.py scoring --device cuda --shape qwen3-1.7b --dtype bfloat16

A fresh Python process reads a model folder with bf16 weights, which is written before the clock
starts. Scoring reads it twice, as student and as teacher.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import contestants
import random_models
import shapes

TRAINING = """
import sys
from pathlib import Path
from mpd.store.loading import loading
with loading():
    from mpd.training.job import TrainingJob
    from mpd.training.loop import start
print("imported", flush=True)
with loading():
    run = start(TrainingJob.model_validate_json(Path(sys.argv[1]).read_text()))
print("ready", flush=True)
next(run.measures)
print("step", flush=True)
"""
SCORING = """
import sys
from pathlib import Path
import polars as pl
from pydantic import TypeAdapter
from mpd.config.logits import LogitsSettings
from mpd.config.resources import ScoringResources
from mpd.store.loading import loading
with loading():
    from mpd.scoring.transformers_scorer import TransformersScorer
print("imported", flush=True)
folder = Path(sys.argv[1])
settings = TypeAdapter(LogitsSettings).validate_json((folder / "settings.json").read_text())
resources = ScoringResources.model_validate_json((folder / "resources.json").read_text())
rows = pl.read_parquet(folder / "rows.parquet")
manifest = Path(sys.argv[2]) / "manifest.json"
with loading():
    scorer = TransformersScorer(manifest, manifest, settings, resources, len(rows))
print("ready", flush=True)
list(scorer([rows]))
print("step", flush=True)
"""


def training_command(student: Path, folder: Path, arguments: argparse.Namespace) -> list[str]:
    """A process that trains."""
    cache = contestants.prepare(arguments.folder, arguments)
    job = contestants.training_job(folder, student, cache, "reverse_kl", arguments)
    (folder / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
    return [sys.executable, "-c", TRAINING, str(folder / "job.json")]


def scoring_command(student: Path, folder: Path, arguments: argparse.Namespace) -> list[str]:
    """A process that scores."""
    import score

    job = score.job_of(arguments)
    score.kept_rows(arguments).write_parquet(folder / "rows.parquet")
    for name in ("settings", "resources"):
        text = getattr(job, name).model_dump_json()
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return [sys.executable, "-c", SCORING, str(folder), str(student)]


def timed(command: list[str], arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of a fresh process until it is ready, and until its first step is taken."""
    start, seconds = time.monotonic(), {}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=None if arguments.verbose else subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    for line in process.stdout:
        if line.strip() in ("imported", "ready", "step"):
            seconds[line.strip()] = round(time.monotonic() - start, 2)
    if process.wait() or "step" not in seconds:
        raise SystemExit("the job ended early; run again with --verbose to see why")
    return seconds


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All starts of one kind of job."""
    student = arguments.folder / f"{arguments.shape}-bfloat16"
    random_models.write_model(student, arguments.shape, "bfloat16")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        commands = {"training": training_command, "scoring": scoring_command}
        command = commands[arguments.job](student, Path(name), arguments)
        starts = [timed(command, arguments) for _ in range(arguments.repeats)]
    return {"name": f"start of {arguments.job}", "starts": starts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("job", choices=["training", "scoring"])
    shapes.add_arguments(parser, batch_size=4, completion_tokens=160, repeats=2)
    shapes.run(parser, measure)


if __name__ == "__main__":
    main()
