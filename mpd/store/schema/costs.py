"""The tables of the report on what a run cost, and how fast it was."""

from mpd.store.schema.column import METHOD, METHOD_OR_BASE, ROUND, Artifact, Column

COSTS = Artifact(
    "costs",
    5,
    "what each round of each method cost, and how probable the teacher (or whoever scored) found "
    "the trained completions; sums over seeds, with each method charged in full, also for what it "
    "shares with another",
    ("method", "round"),
    (
        METHOD,
        ROUND,
        Column("num_seeds", "int32", "", "seeds that are summed"),
        Column("num_samples", "int64", "", "samples drawn"),
        Column("student_tokens", "int64", "token", "tokens that the student generated"),
        Column("teacher_tokens", "int64", "token", "tokens that the teacher generated"),
        Column("kept_rows", "int64", "", "trajectories that passed the filter"),
        Column("scored_tokens", "int64", "token", "completion tokens that were scored"),
        Column("num_steps", "int64", "", "optimiser steps"),
        Column(
            "trained_tokens",
            "int64",
            "token",
            "completion tokens trained on, over all epochs",
        ),
        Column("share_kept", "float64", "", "kept_rows over num_samples"),
        Column(
            "wall_seconds",
            "float64",
            "s",
            "wall time that computing the artifacts of the round took, without evaluation, also "
            "if the store had them; null if a note has no times",
            nullable=True,
        ),
        Column(
            "evaluation_seconds",
            "float64",
            "s",
            "wall time of sampling and grading the held-out answers; null as above",
            nullable=True,
        ),
        Column(
            "mean_teacher_logprob",
            "float64",
            "nat",
            "mean over trained completions of the teacher's mean log-probability of their ids",
            nullable=True,
        ),
        Column(
            "think_close_logprob",
            "float64",
            "nat",
            "mean teacher log-probability of the end of thinking where thinking ends",
            nullable=True,
        ),
        Column(
            "stop_logprob",
            "float64",
            "nat",
            "mean teacher log-probability of the last id",
            nullable=True,
        ),
        Column(
            "think_close_mass",
            "float64",
            "",
            "mean teacher probability of the end of thinking where thinking ends",
            nullable=True,
        ),
        Column(
            "divergence",
            "float64",
            "nat",
            "exact reverse KL of the student to the scorer before training, mean over tokens",
            nullable=True,
        ),
        Column(
            "overlap",
            "float64",
            "",
            "share of the student's most probable ids that are among the scorer's before training, "
            "mean over tokens: of 64 with cache: realised, else of logits.student_top_k; null with "
            "cache: hidden, or if vLLM scored",
            nullable=True,
        ),
    ),
)

SPEED = Artifact(
    "speed",
    2,
    "how fast each stage of each round computed, on what and with how much energy, from the notes "
    "of its artifacts; round 0 has the stages of evaluation alone; sums over seeds, shards and "
    "benchmarks. Where several jobs ran at once, their seconds are added up, so that speed is that "
    "of one job",
    ("method", "round", "stage"),
    (
        METHOD_OR_BASE,
        ROUND,
        Column("stage", "string", "", "stage that computed"),
        Column(
            "seconds",
            "float64",
            "s",
            "wall time that computing took, with loading models and writing; null if a note has "
            "none",
            nullable=True,
        ),
        Column(
            "device_seconds",
            "float64",
            "s",
            "seconds of every job times its GPUs; those of a job without GPUs count once",
            nullable=True,
        ),
        Column(
            "tokens",
            "int64",
            "token",
            "completion tokens that were generated, scored or trained on; null where no model runs",
            nullable=True,
        ),
        Column("tokens_per_second", "float64", "token/s", "tokens over seconds", nullable=True),
        Column(
            "flops_per_second",
            "float64",
            "1/s",
            "floating-point operations of the models' passes over seconds; null on a CPU, and "
            "where a note has no number of them: engines count none, nor does training in several "
            "processes",
            nullable=True,
        ),
        Column(
            "mfu",
            "float64",
            "",
            "model FLOPs utilisation: operations over those that the GPU does at its dense bf16 "
            "peak in these seconds; null where they or the peak are not known",
            nullable=True,
        ),
        Column(
            "joules",
            "float64",
            "J",
            "energy of the GPUs; null where the card or a missing nvidia-ml-py does not tell",
            nullable=True,
        ),
        Column("peak_mb", "float64", "MB", "largest memory of a process", nullable=True),
        Column("peak_gpu_mb", "float64", "MB", "largest memory of tensors on a GPU", nullable=True),
        Column("device", "string", "", "names of the GPUs, or cpu", nullable=True),
    ),
)
