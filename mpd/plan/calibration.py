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
from mpd.plan.earlier import measured_rates, measured_rounds, read_tokens
from mpd.plan.estimate import Given, world_of
from mpd.plan.files import read_config
from mpd.plan.times import gpus_of
from mpd.store.files import read_json, write_json

log = logging.getLogger("mpd")

RATES = Path(".snakemake") / "rates.json"
# The embedded world, hardly pretrained, one round: every stage that runs a model has some work.
WORLD: dict[str, Any] = {
    "experiment": "calibration",
    "rounds": 1,
    "methods": ["mpd"],
    "seeds": [0],
    "custom": [{"name": "mpd", "like": "mpd", "axes": {"kept": "all"}}],
    "models": {"student": {"num_steps": 60}, "teacher": {"num_steps": 60}},
    "problems": {
        "train": {"num_problems": 400},
        "num_train": 128,
        "num_dev": 100,
        "benchmarks": [],
    },
    "sample": {"max_new_tokens": 160},
    "compress": {"max_new_tokens": 64},
    "filter": {"max_ratio": 100.0},
    "distill": {"epochs": 4},
    "evaluate": {"max_new_tokens": 160},
}


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
            [sys.executable, "-m", "snakemake", *words, "--directory", folder],
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
            rates = measured_rates(world, CPU, counted)
    RATES.parent.mkdir(exist_ok=True)
    write_json(RATES, rates)
    log.info("calibrated in %.0f s: %s", time.monotonic() - began, RATES)


def calibrated_rates(world: World) -> dict[str, float]:
    """The rates of the last calibration, of stages that run on processors; empty without one."""
    rates = read_json(RATES)
    return {stage: rate for stage, rate in rates.items() if not gpus_of(world, stage)}
