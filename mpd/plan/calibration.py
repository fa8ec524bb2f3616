"""A run of about a minute on this machine, and the rates that it measured."""

import json
import logging
import os
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mpd.plan.amounts import World
from mpd.plan.cards import CPU
from mpd.plan.earlier import IN_NOTE, measured_rates, measured_rounds, read_tokens
from mpd.plan.estimate import Given, world_of
from mpd.plan.files import read_config
from mpd.plan.times import GENERATING, gpus_of
from mpd.store.differences import note_beside
from mpd.store.files import read_json, write_json

log = logging.getLogger("mpd")

RATES = Path(".snakemake") / "rates.json"
# One round of on-policy distillation in the embedded world, by models that know nothing: each stage
# that runs a model has several seconds of work beside its start.
WORLD: dict[str, Any] = {
    "experiment": "calibration",
    "rounds": 1,
    "methods": ["opd"],
    "seeds": [0],
    "models": {"student": {"num_steps": 1}, "teacher": {"num_steps": 1}},
    "problems": {
        "train": {"num_problems": 400},
        "num_train": 256,
        "num_dev": 10,
        "benchmarks": [],
    },
    "sample": {"max_new_tokens": 320},
    "distill": {"epochs": 3},
}
ROUND = "results/calibration/opd/seed_0/round_1"
TARGET = f"{ROUND}/student/manifest.json"  # no answers, no report
ONLY_STARTED = f"{ROUND}/compress/shard_0.parquet"  # this method rewrites nothing


def calibrate() -> None:
    """Run the embedded world small in a folder of its own, and keep its rates for later plans.

    Raises ValueError where the run fails.
    """
    began = time.monotonic()
    log.info("calibrating: a small run of the embedded world, about a minute")
    with TemporaryDirectory() as folder:
        overlay = Path(folder) / "calibration.json"
        overlay.write_text(json.dumps(WORLD), encoding="utf-8")
        words = ["--cores", str(os.cpu_count() or 1), "--configfile", str(overlay)]
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *words, "--directory", folder, TARGET],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},  # rates of the processor
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ValueError(f"the run to calibrate failed:\n{done.stdout}{done.stderr}")
        config = read_config([overlay], [])
        with chdir(folder):
            counted = read_tokens(config)
            world = world_of(config, Given(CPU), measured_rounds(counted))
            start = note_beside(Path(ONLY_STARTED))["spent"]["processor_seconds"]
            rates = measured_rates(world, CPU, counted, start=start)
    if "sample" in rates:  # rewrites and answers are generated at the same rate
        rates = {**dict.fromkeys(GENERATING, rates["sample"]), **rates}
    rates["start"] = start / IN_NOTE
    RATES.parent.mkdir(exist_ok=True)
    write_json(RATES, rates)
    log.info("calibrated in %.0f s: %s", time.monotonic() - began, RATES)


def calibrated_rates(world: World) -> dict[str, float]:
    """The rates of the last calibration, of stages that run on processors; empty without one."""
    rates = read_json(RATES)
    return {stage: rate for stage, rate in rates.items() if not gpus_of(world, stage)}
