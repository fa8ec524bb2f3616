"""The tables of the page on costs: time, tokens, energy, and when training has paid. No markup."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from mpd.job.layout import BENCHMARK_STAGES
from mpd.report.page.cells import DASH, Cell, Grid, grid, number
from mpd.report.students import IS_BASE

WATT_HOUR = 3600  # joules


def costs_table(costs: pl.DataFrame) -> Grid:
    """Samples, tokens and seconds of each round, over all seeds."""
    columns = {
        "num_seeds": "seeds",
        "num_samples": "samples",
        "student_tokens": "student tokens",
        "teacher_tokens": "teacher tokens",
        "scored_tokens": "scored tokens",
        "kept_rows": "kept",
        "num_steps": "steps",
        "trained_tokens": "trained tokens",
        "wall_seconds": "seconds",
        "evaluation_seconds": "evaluation seconds",
    }
    rows = [
        [row["method"], str(row["round"]), *(number(row[name]) for name in columns)]
        for row in costs.iter_rows(named=True)
    ]
    return grid(["method", "round", *columns.values()], rows)


def devices_table(speed: pl.DataFrame) -> Grid:
    """Seconds and energy of each device in each round, for training and for evaluation."""
    parts = {
        "training": ~pl.col("stage").is_in(BENCHMARK_STAGES),
        "evaluation": pl.col("stage").is_in(BENCHMARK_STAGES),
    }
    totals = speed.group_by("method", "round", "device", maintain_order=True).agg(
        expression
        for part, chosen in parts.items()
        for expression in (
            _total("device_seconds", chosen).alias(f"{part} seconds"),
            _total("joules", chosen).alias(f"{part} energy"),
        )
    )
    rows: list[list[str | Cell]] = [
        [row["method"], str(row["round"]), Cell(row["device"] or DASH, "text")]
        + [number(row[f"{part} seconds"], ",.1f") for part in parts]
        + [_watt_hours(row[f"{part} energy"]) for part in parts]
        for row in totals.sort(~IS_BASE, "method", "round", maintain_order=True).to_dicts()
    ]
    header = ["method", "round", "device"]
    header += [f"device-seconds, {part}" for part in parts]
    return grid([*header, *(f"energy, {part}, Wh" for part in parts)], rows, text=(0, 2))


def _total(name: str, chosen: pl.Expr) -> pl.Expr:
    """The sum over the chosen rows; null where there are none, or one has no value."""
    values = pl.col(name).filter(chosen)
    return pl.when(values.len() > 0, values.null_count() == 0).then(values.sum())


def payback_table(rows: pl.DataFrame) -> Grid:
    """What each student cost for each seed, and when its training has paid for itself."""
    columns = {
        "training_seconds": ("training, device-seconds", 1, ",.1f"),
        "training_joules": ("training, Wh", WATT_HOUR, ",.2f"),
        "saved_share": ("tokens saved", 1, ".1%"),
        "seconds_per_percent": ("seconds per percent saved", 1, ",.2f"),
        "joules_per_percent": ("Wh per percent saved", WATT_HOUR, ",.3f"),
        "seconds_per_answer": ("seconds per answer", 1, ",.4f"),
        "seconds_per_correct": ("seconds per correct answer", 1, ",.4f"),
        "joules_per_correct": ("J per correct answer", 1, ",.1f"),
        "answers_to_pay_back": ("answers until paid", 1, ",.0f"),
    }
    place = [name for name in ("benchmark", "experiment", "method") if name in rows.columns]
    cells = [
        [*(row[name] for name in place), str(row["round"])]
        + [
            number(None if row[name] is None else row[name] / unit, form)
            for name, (_, unit, form) in columns.items()
        ]
        for row in rows.iter_rows(named=True)
    ]
    header = [*place, "round", *(title for title, _, _ in columns.values())]
    return grid(header, cells, text=range(len(place)))


def _watt_hours(joules: float | None) -> str:
    return number(None if joules is None else joules / WATT_HOUR, ",.2f")


def speed_table(speed: pl.DataFrame) -> Grid:
    """Time, speed, memory and device of each stage of each round; columns without values go."""
    columns = {
        "seconds": ("seconds", 1, ",.0f"),
        "tokens": ("tokens", 1, ",.0f"),
        "tokens_per_second": ("tokens/s", 1, ",.0f"),
        "flops_per_second": ("TFLOP/s", 1e12, ",.1f"),
        "mfu": ("MFU", 1, ".2f"),
        "joules": ("energy, Wh", WATT_HOUR, ",.2f"),
        "peak_mb": ("memory, GB", 1000, ",.1f"),
        "peak_gpu_mb": ("GPU memory, GB", 1000, ",.1f"),
    }
    known = {name: how for name, how in columns.items() if speed[name].count()}
    devices = [Cell("device", "text")] if speed["device"].count() else []
    rows: list[list[str | Cell]] = [
        [row["method"], str(row["round"]), row["stage"]]
        + [
            number(None if row[name] is None else row[name] / unit, form)
            for name, (_, unit, form) in known.items()
        ]
        + [Cell(row["device"] or DASH, "text") for _ in devices]
        for row in speed.iter_rows(named=True)
    ]
    titles = [title for title, _, _ in known.values()]
    return grid(["method", "round", "stage", *titles, *devices], rows, text=(0, 2))


def artifacts_table(artifacts: Sequence[Mapping[str, Any]]) -> Grid:
    """How many files there are of each kind, and how many of them are links."""
    counts = ("files", "computed", "linked")
    total = {"kind": "all", **{name: sum(row[name] for row in artifacts) for name in counts}}
    rows = [[row["kind"], *(str(row[name]) for name in counts)] for row in (*artifacts, total)]
    return grid(["kind", *counts], rows)
