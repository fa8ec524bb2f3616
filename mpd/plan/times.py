"""How long jobs take, by what a card reaches or by rates of an earlier run."""

from collections.abc import Mapping

from mpd.plan.amounts import World
from mpd.plan.cards import (
    COPY,
    CPU,
    CPU_SHARE,
    CPU_SHARES,
    GENERATION,
    LAYER_FLOPS,
    PRODUCT,
    READING,
    SCORING,
    TRAINING,
    Card,
)
from mpd.plan.work import Work

# Seconds until a job's first step: 20.6 were measured for training on an H200, and about 3.5 on a
# CPU; those of vLLM are assumed. A light job, or one whose result is linked, takes less.
START = {"vllm": 60.0, "transformers": 20.0, "server": 5.0}
CPU_START, LIGHT_START = 3.5, 1.3
LIGHT_SECONDS = {
    "problems": 0.0005,
    "bank": 0.02,
    "filter": 0.003,
    "evaluate": 0.0015,
    "head": 3.0,
    "report": 2.0,
}  # a row
DISK_SPEED = 5e8  # bytes a second, to copy a model
GENERATING = {"sample": "sample", "compress": "compress", "answers": "evaluate"}
SECTIONS = {**GENERATING, "logits": "logits", "distill": "distill", "models": "models"}


def gpus_of(world: World, stage: str) -> int:
    """GPUs that a job of a stage reserves."""
    section = SECTIONS.get(stage)
    return getattr(world.config.resources, section).gpu if section else 0


def seconds_of(world: World, work: Work, card: Card, rates: Mapping[str, float]) -> float:
    """Seconds of all jobs of some work, one after another.

    `rates` are operations a second by stage, as measured on the device that the stage runs on, and
    as `start` the seconds in which a job on a processor starts.
    """
    gpus = gpus_of(world, work.stage)
    device = card if gpus else CPU
    light = work.linked * LIGHT_START
    jobs = work.jobs - work.linked
    if not jobs:
        return light
    if work.stage not in SECTIONS or (work.stage == "models" and not work.flops):
        seconds = work.rows * LIGHT_SECONDS.get(work.stage, 0.0)
        return light + jobs * LIGHT_START + seconds + work.disk / DISK_SPEED
    if work.stage == "compress" and not work.tokens:  # nothing is rewritten, but libraries load
        return light + jobs * rates.get("start", CPU_START)
    engine = _engine(world, work.stage)
    start = START[engine] if device.is_gpu else rates.get("start", CPU_START)
    rate = rates.get(work.stage)
    operations = operations_of(work.flops, work.layers, device)
    seconds = operations / rate if rate else _seconds(work, device, engine, max(gpus, 1))
    return light + jobs * start + seconds


def operations_of(flops: float, layers: float, device: Card) -> float:
    """Operations, and on a processor those that the time of a layer's Python is worth."""
    return flops + (0 if device.is_gpu else layers * LAYER_FLOPS)


def _engine(world: World, stage: str) -> str:
    section = {**GENERATING, "logits": "logits"}.get(stage)
    return getattr(world.config, section).engine if section else "transformers"


def _seconds(work: Work, device: Card, engine: str, gpus: int) -> float:
    """Of generation the longer of its operations and of what it reads; of others operations."""
    if not device.is_gpu:
        share = CPU_SHARES.get(work.stage, CPU_SHARE)
        return operations_of(work.flops, work.layers, device) / (device.flops * share)
    reachable = device.flops * PRODUCT * gpus
    if work.stage in GENERATING:
        reading = work.moved / (device.bandwidth * COPY * READING[engine] * gpus)
        return max(work.flops / (reachable * GENERATION[engine]), reading)
    return work.flops / (reachable * (SCORING if work.stage == "logits" else TRAINING))
