"""The section resources, which cannot change a result: an edit of it visits nothing."""

from typing import Annotated, Literal

from pydantic import Field

from mpd.config.base import Count, StrictModel

ChunkSize = Annotated[
    Count | None,
    Field(
        description="positions whose logits over the vocabulary are in memory at a time; null: "
        "4,096 on a GPU, 1,024 on a CPU and for training on hidden states"
    ),
]
Kernels = Annotated[
    Literal["auto", "none"],
    Field(
        description="auto: fused kernels of liger-kernel on a GPU, where it knows the architecture"
    ),
]


class Resources(StrictModel):
    """Resources of any job."""

    memory_mb: Count = Field(
        4000,
        description="memory reserved for the job; raise it if a scheduler kills the job; a second "
        "attempt gets twice as much",
    )
    runtime: Count = Field(
        240,
        description="minutes after which Slurm ends the job; a second attempt gets twice as many; "
        "finished parts are kept",
    )


class ThreadResources(Resources):
    """Resources of a job that works in several threads or processes."""

    threads: Count = Field(1, description="processor threads of the job")


class ModelResources(ThreadResources):
    """Resources of a job that runs a model."""

    gpu: int = Field(
        0,
        ge=0,
        description="GPUs reserved for the job; set it on a machine with GPUs, since a model runs "
        "on a GPU whenever it finds one",
    )


class EngineResources(ModelResources):
    """Resources of a job that runs an engine."""

    batch_size: Count = Field(
        64,
        description="sequences generated side by side; vLLM: max_num_seqs; server: requests in "
        "flight",
    )
    rows_per_part: Count = Field(
        256,
        description="rows that are saved together; a kill can lose as many, and the batches that "
        "scoring has computed ahead; no batch spans two parts",
    )
    tensor_parallel_size: Count = Field(1, description="vLLM: GPUs that share one replica")
    data_parallel_size: Count = Field(1, description="vLLM: replicas of the model")
    gpu_memory_utilization: float = Field(
        0.9,
        gt=0,
        le=1,
        description="vLLM: its share of the GPU's memory; without a GPU, of the machine's",
    )


class GenerationResources(EngineResources):
    """Resources of a job that generates."""

    max_model_len: Count | None = Field(
        None,
        description="vLLM: longest prompt with its completion, in tokens; null: the model's "
        "context; lower it to need less memory",
    )
    prefix_caching: bool = Field(
        True,
        description="vLLM: the samples of a prompt share its cache; set false for models for "
        "which vLLM cannot do this",
    )
    server: str | None = Field(
        None, description="base URL of the server, such as http://node:8000/v1"
    )
    server_timeout: float = Field(
        3600.0,
        gt=0,
        description="server: seconds to wait for one completion; a request is given up after "
        "three times as long, with all its tries",
    )


class ScoringResources(EngineResources):
    """Resources of a job that scores."""

    gpu: int = Field(
        0,
        ge=0,
        description="GPUs reserved for the job; transformers: the layers of the teacher are "
        "divided among them",
    )
    batch_size: Count = Field(32, description="vLLM: max_num_seqs")
    batch_tokens: Count = Field(
        16_384,
        description="transformers: tokens per forward pass of a model, at most, prompts included; "
        "a longer trajectory has a pass of its own",
    )
    chunk_size: ChunkSize = None
    kernels: Kernels = "auto"


class DistillResources(ModelResources):
    """Resources of a job that trains."""

    micro_batch_size: Count = Field(
        32, description="trajectories per forward pass of a process, at most"
    )
    micro_batch_tokens: Count = Field(
        16_384,
        description="tokens per forward pass of a process, at most, prompts included; a longer "
        "trajectory has a pass of its own",
    )
    num_processes: Count = Field(
        1, description="processes on each node, one per GPU, which divide gpu and threads"
    )
    nodes: Count = Field(
        1,
        description="machines of a Slurm allocation on which num_processes processes start; gpu, "
        "threads and memory_mb are those of each",
    )
    sharding: Literal["none", "full"] = Field(
        "none",
        description="none: every process holds the whole student; full: each holds a part of the "
        "weights, their gradients and the optimiser's state (FSDP2), for a student that is too "
        "large for one GPU",
    )
    chunk_size: ChunkSize = None
    kernels: Kernels = "auto"
    gradient_checkpointing: Literal["auto", True, False] = Field(
        "auto",
        description="layers that compute their activations twice: less memory, one more forward "
        "pass; auto: as many as the GPU's memory asks for, none on a CPU",
    )
    checkpoint_steps: Count = Field(
        50, description="optimiser steps between checkpoints; a kill can lose as many"
    )
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = Field(
        "none", description="where training metrics go, beside metrics.parquet"
    )


class AllResources(StrictModel):
    """The section: the resources of every stage's jobs."""

    shards_per_job: Count = Field(
        1,
        description="1 or 10: shards that a job of sample, compress, filter and logits takes, one "
        "after another; 10 where there are hundreds, so that Snakemake has fewer jobs",
    )
    models: ModelResources = ModelResources()
    problems: Resources = Resources()
    sample: GenerationResources = GenerationResources()
    bank: ThreadResources = ThreadResources()
    compress: GenerationResources = GenerationResources()
    filter: ThreadResources = ThreadResources()
    logits: ScoringResources = ScoringResources()
    distill: DistillResources = DistillResources()
    # For the engine, which the stage `answers` runs; the stage `evaluate` only grades.
    evaluate: GenerationResources = GenerationResources()
    grading: ThreadResources = ThreadResources()
    report: Resources = Resources()
