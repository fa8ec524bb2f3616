"""What each round of each method cost, and how the teacher scored what was trained on."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.report import ReportSettings
from mpd.job.layout import BENCHMARK_STAGES, Round
from mpd.report.rounds import SHARDED, Files, Seconds, Spent, Trained, bank_files
from mpd.report.students import Student, by_student
from mpd.scoring.cache_layout import mean_overlap
from mpd.store import schema, table
from mpd.store.differences import note_beside

COST_INPUTS = {
    "sample": ["num_tokens"],
    "compress": ["rewrite_tokens"],
    "filter": ["keep"],
    "logits": [
        *("num_tokens", "divergence", "overlap"),
        *("mean_teacher_logprob", "think_close_logprob", "stop_logprob"),
    ],
    "metrics": ["step", "tokens_seen"],
}


def spent_by_stage(round: Round, num_shards: int, benchmarks: Sequence[str]) -> Spent:
    """What computing the artifacts of a round took, as each of their notes has it.

    It is empty for a note that has nothing, as older ones. Round 0 has stages of evaluation alone.
    """
    outputs: dict[str, Sequence[Path]] = {}
    if round.number > 0:
        outputs = {stage: round.shards(stage, num_shards) for stage in SHARDED}
        outputs["distill"] = [round.student.parent]
        outputs |= {"bank": files} if (files := bank_files(round)) else {}
    for stage in BENCHMARK_STAGES:
        outputs[stage] = [round.benchmark(stage, name) for name in benchmarks]
    return {
        stage: [note_beside(path).get("spent", {}) for path in paths]
        for stage, paths in outputs.items()
    }


def seconds_by_stage(spent: Spent) -> dict[str, float]:
    """Wall seconds of a trained round. A stage is left out unless each of its notes has them."""
    seconds: dict[str, list[Any]] = {
        stage: [note.get("seconds") for note in notes] for stage, notes in spent.items()
    }
    return {stage: sum(each) for stage, each in seconds.items() if each and None not in each}


def seconds_of(stages: Mapping[str, float]) -> dict[str, float | None]:
    """The seconds of all stages but evaluation, and those of evaluation; None where none is known.

    `stages` are those of `seconds_by_stage`.
    """
    held_out = [seconds for stage, seconds in stages.items() if stage in BENCHMARK_STAGES]
    others = [seconds for stage, seconds in stages.items() if stage not in BENCHMARK_STAGES]
    return {"wall_seconds": _sum_known(others), "evaluation_seconds": _sum_known(held_out)}


def tokens_of(frames: Mapping[str, pl.DataFrame], given: bool) -> dict[str, int]:
    """Tokens that the stages of a round generated, scored or trained on.

    `given`: the samples are the user's, and no model drew them.
    """
    return {
        "sample": 0 if given else sum_of(frames["sample"]["num_tokens"]),
        "compress": sum_of(frames["compress"]["rewrite_tokens"]),
        "logits": sum_of(frames["logits"]["num_tokens"]),
        "distill": max(frames["metrics"]["tokens_seen"], default=0),
    }


def sum_of(tokens: pl.Series) -> int:
    """The sum of a column of int32. Polars alone would keep the type, and overflow."""
    return int(tokens.cast(pl.Int64).sum())


def costs_of(
    frames: Mapping[str, pl.DataFrame], sampler: str | None, is_reused: bool = False
) -> dict[str, Any]:
    """The costs of one round of one seed, in full even where it shares what another computed.

    `frames` have the columns of COST_INPUTS. `sampler` is student or teacher, whichever drew the
    samples; None where the user gave them. `is_reused`: the round has samples and scores of an
    earlier one, which paid for them.
    """
    tokens = tokens_of(frames, given=sampler is None)
    if is_reused:
        tokens |= {"sample": 0, "compress": 0, "logits": 0}
    return {
        "num_samples": len(frames["sample"]),
        "student_tokens": tokens["sample"] if sampler == "student" else 0,
        "teacher_tokens": tokens["compress"] + (tokens["sample"] if sampler == "teacher" else 0),
        "kept_rows": frames["filter"]["keep"].sum(),
        "scored_tokens": tokens["logits"],
        "num_steps": len(frames["metrics"]),
        "trained_tokens": tokens["distill"],
    }


def diagnostics_of(logits: pl.DataFrame) -> dict[str, Any]:
    """Means of the teacher's scores over trained completions, in nats; None without any.

    Divergence and overlap are means over their tokens.
    """
    names = ("mean_teacher_logprob", "think_close_logprob", "stop_logprob")
    return {
        **{name: logits[name].mean() for name in names},
        "think_close_mass": logits["think_close_logprob"].exp().mean(),
        "divergence": logits["divergence"].explode().mean(),
        "overlap": mean_overlap(logits),
    }


def costs_by_student(
    rounds: Mapping[Student, Sequence[Mapping[str, pl.DataFrame]]],
    seconds: Mapping[Student, Sequence[Mapping[str, float | None]]],
    samplers: Mapping[str, str],
    given: bool,
) -> pl.DataFrame:
    """Rows of `costs`: sums over the seeds of each student, and means for diagnostics.

    `rounds` have the frames of each seed, `seconds` the times of `seconds_of`, `samplers` who
    samples for a method. `given`: the samples of round 1 are the user's, and no model drew them.
    """
    rows = []
    for (method, number), seeds in rounds.items():
        sampler = None if given and number == 1 else samplers[method]
        is_base = sampler == "base"
        sampler = "student" if is_base else sampler
        costs = [costs_of(frames, sampler, is_base and number > 1) for frames in seeds]
        sums = {name: sum(row[name] for row in costs) for name in costs[0]}
        times = {
            name: _sum_known(seed_times[name] for seed_times in seconds[method, number])
            for name in ("wall_seconds", "evaluation_seconds")
        }
        logits = pl.concat(frames["logits"] for frames in seeds)
        rows.append(
            {
                "method": method,
                "round": number,
                "num_seeds": len(seeds),
                **sums,
                "share_kept": sums["kept_rows"] / max(sums["num_samples"], 1),
                **times,
                **diagnostics_of(logits),
            }
        )
    return table.frame_of(rows, schema.COSTS).sort("method", "round")


def cost_frame(trained: Trained, seconds: Seconds, settings: ReportSettings) -> pl.DataFrame:
    """Rows of `costs`, from the files of trained rounds and their seconds by stage."""
    students = by_student(trained).items()
    return costs_by_student(
        {student: [read_round(trained[round]) for round in rounds] for student, rounds in students},
        {student: [seconds_of(seconds[round]) for round in rounds] for student, rounds in students},
        settings.samplers,
        settings.given,
    )


def read_round(files: Files) -> dict[str, pl.DataFrame]:
    """What `costs_of` needs of the files of a round: the columns of COST_INPUTS by kind."""
    return {
        kind: pl.concat(table.read_columns(path, COST_INPUTS[kind]) for path in paths)
        for kind, paths in files.items()
    }


def _sum_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
