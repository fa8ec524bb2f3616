"""How fast each stage of each round computed, and on what, from the notes of its artifacts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from mpd.job.flops import peak_flops
from mpd.job.layout import Round
from mpd.report.costs import sum_of, tokens_of
from mpd.report.rounds import Files, Spent, Trained
from mpd.report.students import IS_BASE, Student, by_student
from mpd.store import schema, table

TOKEN_COLUMNS = {
    "sample": "num_tokens",
    "compress": "rewrite_tokens",
    "logits": "num_tokens",
    "metrics": "tokens_seen",
}


def stage_speed(notes: Sequence[Mapping[str, Any]], tokens: int | None) -> dict[str, Any]:
    """The columns of `speed` of one stage; None where notes do not have what they need.

    `notes` are the fields `spent`; `tokens` are those of all the notes, None where no model runs.
    """
    devices = {note["device"] for note in notes if "device" in note}
    seconds = _sum_all(notes, "seconds")
    flops = None if "cpu" in devices else _sum_all(notes, "flops")
    peaks = [peak_flops(note.get("device", "")) for note in notes]
    possible = None
    if seconds and None not in peaks:
        pairs = zip(notes, peaks, strict=True)
        possible = sum(note["seconds"] * peak for note, peak in pairs if peak is not None)
    return {
        "seconds": seconds,
        "device_seconds": _total(map(_device_seconds, notes)),
        "tokens": tokens,
        "tokens_per_second": ratio(tokens, seconds),
        "flops_per_second": ratio(flops, seconds),
        "mfu": ratio(flops, possible),
        "joules": _sum_all(notes, "joules"),
        "peak_mb": max((note["peak_mb"] for note in notes if "peak_mb" in note), default=None),
        "peak_gpu_mb": max(
            (note["peak_gpu_mb"] for note in notes if "peak_gpu_mb" in note), default=None
        ),
        "device": ", ".join(sorted(devices)) or None,
    }


def speed_by_student(
    tokens: Mapping[Student, Sequence[Mapping[str, int]]],
    spent: Mapping[Student, Sequence[Spent]],
) -> pl.DataFrame:
    """Rows of `speed`, from the tokens and the notes of each student's seeds, by stage."""
    rows = []
    for (method, number), seeds in spent.items():
        counts = tokens[method, number]
        for stage in seeds[0]:
            notes = [note for seed in seeds for note in seed[stage]]
            count = sum(seed[stage] for seed in counts) if stage in counts[0] else None
            rows.append(
                {
                    "method": method,
                    "round": number,
                    "stage": stage,
                    **stage_speed(notes, count),
                }
            )
    return table.frame_of(rows, schema.SPEED).sort(~IS_BASE, "method", "round", maintain_order=True)


def speed_frame(
    trained: Trained, spent: Mapping[Round, Spent], benchmarks: Sequence[str], given: bool
) -> pl.DataFrame:
    """Rows of `speed`, from the files of trained rounds and the notes of all rounds by stage.

    `given`: the samples of round 1 are the user's, and no model drew them.
    """
    students = by_student(spent).items()
    return speed_by_student(
        {
            student: [
                read_tokens(round, trained.get(round), benchmarks, given and round.number == 1)
                for round in rounds
            ]
            for student, rounds in students
        },
        {student: [spent[round] for round in rounds] for student, rounds in students},
    )


def read_tokens(
    round: Round, files: Files | None, benchmarks: Sequence[str], given: bool
) -> dict[str, int]:
    """The tokens of a round by stage; those of its answers are counted in their grades.

    `files` are those of a trained round.
    """
    answers = [
        table.read_columns(round.benchmark("evaluate", name), ["num_tokens"]) for name in benchmarks
    ]
    tokens = {"answers": sum_of(pl.concat(answers)["num_tokens"])}
    if files is None:
        return tokens
    frames = {
        kind: pl.concat(table.read_columns(path, [column]) for path in files[kind])
        for kind, column in TOKEN_COLUMNS.items()
    }
    return tokens_of(frames, given) | tokens


def _device_seconds(note: Mapping[str, Any]) -> float | None:
    """Seconds times GPUs; notes of a CPU, and older ones, have no number of GPUs."""
    return note["seconds"] * note.get("gpus", 1) if "seconds" in note else None


def _sum_all(notes: Sequence[Mapping[str, Any]], name: str) -> Any:
    """The sum of a field of all notes; None where one has none."""
    return _total(note.get(name) for note in notes)


def _total(values: Iterable[Any]) -> Any:
    """The sum of values; None where there are none, or one is not known."""
    known = list(values)
    return None if None in known or not known else sum(known)


def ratio(value: float | None, whole: float | None) -> float | None:
    """A value as a part of a whole; None where one of them is not known, or the whole is 0."""
    return value / whole if value is not None and whole else None
