"""The section resources: what cannot change a result. Editing it visits nothing."""

from typing import Literal

from pydantic import Field

from mpd.config.base import Count, StrictModel


class Resources(StrictModel):
    """Resources of a job."""

    memory_mb: Count = Field(
        4000, description="memory set aside for the job; raise it if a scheduler kills the job"
    )


class ThreadResources(Resources):
    """Resources of a job that works in several threads or processes."""

    threads: Count = Field(1, description="processor threads of the job")


class ModelResources(ThreadResources):
    """Resources of a job that runs a model."""

    gpu: int = Field(
        0,
        ge=0,
        description="GPUs set aside for the job; set it where there are some, since a model runs "
        "on a GPU wherever it finds one",
    )


class EngineResources(ModelResources):
    """Resources of a job that runs an engine."""

    batch_size: Count = Field(
        64, description="sequences side by side; vLLM: max_num_seqs; server: requests"
    )
    rows_per_part: Count = Field(256, description="rows a kill can lose; no batch spans two parts")
    tensor_parallel_size: Count = Field(1, description="vLLM: GPUs that share one replica")
    data_parallel_size: Count = Field(1, description="vLLM: replicas of the model")
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="vLLM: its share of the GPU's memory; without one, of all"
    )


class GenerationResources(EngineResources):
    """Resources of a job that generates."""

    max_model_len: Count | None = Field(
        None, description="vLLM: longest prompt with its new tokens; null: the model's context"
    )
    prefix_caching: bool = Field(
        True,
        description="vLLM: samples of one prompt share its cache; set false for a model with "
        "which vLLM cannot do this",
    )
    server: str | None = Field(None, description="base URL, such as http://node:8000/v1")


class ScoringResources(EngineResources):
    """Resources of a job that scores."""

    batch_size: Count = Field(32, description="trajectories per forward pass; vLLM: max_num_seqs")
    chunk_size: Count = Field(1024, description="positions whose full logits exist at a time")


class DistillResources(ModelResources):
    """Resources of a job that trains."""

    micro_batch_size: Count = Field(32, description="trajectories per forward pass and process")
    num_processes: Count = Field(
        1, description="data-parallel processes, started by torchrun; one per GPU"
    )
    chunk_size: Count = Field(1024, description="positions whose full logits exist at a time")
    gradient_checkpointing: bool = Field(False, description="less memory, one more forward pass")
    checkpoint_steps: Count = Field(50, description="optimiser steps that a kill can lose")
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = Field(
        "none", description="where training metrics go beside metrics.parquet"
    )


class AllResources(StrictModel):
    models: ModelResources = ModelResources()
    problems: Resources = Resources()
    sample: GenerationResources = GenerationResources()
    compress: GenerationResources = GenerationResources()
    filter: ThreadResources = ThreadResources()
    logits: ScoringResources = ScoringResources()
    distill: DistillResources = DistillResources()
    # Of the engine, so of the stage `answers`; grading is what the stage `evaluate` does.
    evaluate: GenerationResources = GenerationResources()
    grading: ThreadResources = ThreadResources()
    report: Resources = Resources()
