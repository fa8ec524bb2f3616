"""The rows of a round, with their verdicts, as a list."""

from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mpd.show.shards import RoundShards
from mpd.store import schema
from mpd.store.joins import joined

TITLES = ("sample", "candidate", "tokens", "rewrite", "ratio", "answer", "gold", "reason")


def listed(shards: RoundShards) -> pl.DataFrame:
    """One row for each candidate with its verdict; what has not run yet is null."""
    key = ["sample_id", "candidate"]
    samples = shards.rows(schema.SAMPLE, ["sample_id", "num_tokens"])
    candidates = shards.rows(schema.COMPRESS, [*key, "num_tokens"])
    verdicts = shards.rows(schema.FILTER, [*key, "ratio", "answer", "gold", "keep", "reason"])
    rows = joined(samples.rename({"num_tokens": "sample_tokens"}), candidates, schema.COMPRESS)
    return joined(rows, verdicts, schema.FILTER)


def print_rows(console: Console, rows: pl.DataFrame, reason: str | None, limit: int) -> None:
    """List candidates with their verdicts. Raises ValueError where none has the reason."""
    counts = rows.drop_nulls("reason")["reason"].value_counts(sort=True).rows()
    heading = ", ".join(f"{count} {name}" for name, count in counts)
    if reason is not None:
        if reason not in dict(counts):
            raise ValueError(
                f"--reason {reason}: no row has it; there are {heading or 'no verdicts'}"
            )
        rows = rows.filter(pl.col("reason") == reason)
        heading = f"{len(rows)} {reason}"
    if heading:
        console.print(heading, highlight=False)
    lines = Table(box=None)
    for name in TITLES:
        lines.add_column(name, no_wrap=True)
    for row in rows.head(limit).iter_rows(named=True):
        style = "green" if row["keep"] else "red" if row["reason"] is not None else ""
        lines.add_row(
            row["sample_id"],
            _text(row["candidate"]),
            _text(row["sample_tokens"]),
            _text(row["num_tokens"] or None),
            "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
            Text(_text(row["answer"])),
            Text(_text(row["gold"])),
            Text(_text(row["reason"]), style),
        )
    console.print(lines)
    if len(rows) > limit:
        console.print(f"{len(rows) - limit} more; --limit {len(rows)} lists all")


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
