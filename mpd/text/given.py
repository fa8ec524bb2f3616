"""The user's own trajectories, which the first round takes in place of samples: which they are.

A file is read row by row, and every row is checked. Every fault is named with its row, which counts
from 0. mpd/text/given_encoding.py reads the file again for the trajectories of a shard.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mpd.store import schema
from mpd.store.joins import matched
from mpd.text.questions import problem_id
from mpd.text.row_streams import RowStream
from mpd.text.rows import BadRow, Faults, FileRow, is_blank

log = logging.getLogger("mpd")

CONTENTS = ("text", "ids")
COLUMNS = ("problem", *CONTENTS, "finish_reason")
ADVICE = "fix or remove them"


@dataclass(frozen=True)
class NoIds:
    """A list of whole numbers, of which `number` is the first that is in no vocabulary."""

    number: str

    def __str__(self) -> str:
        return self.number


@dataclass(frozen=True)
class Given:
    """Which rows of a file belong to a shard.

    `content` is the column with the trajectories: text or ids. `rows` has row, finish_reason,
    sample_index, sample_id and the columns of the problem.
    """

    path: Path
    content: str
    rows: pl.DataFrame


class _Scan:
    """What is kept of the rows of a file: what is wrong with them, and which belong to a shard."""

    def __init__(self, shard: Collection[str], training: Collection[str]) -> None:
        self.shard, self.training = shard, training
        self.count = 0
        self.is_training = False  # whether any row answers a training problem
        # Which of the columns holds the trajectories is known once all rows were read.
        self.faults = {content: Faults() for content in CONTENTS}
        self.rows: list[tuple[int, str, str]] = []

    def take(self, row: FileRow) -> None:
        """Check the next row of the file."""
        number, self.count = self.count, self.count + 1
        for content, faults in self.faults.items():
            fault = _fault_of(row, content)
            if fault is not None:
                faults.add(f"row {number}", fault)
        if isinstance(row, BadRow) or not isinstance(row["problem"], str):
            return
        key, reason = problem_id(row["problem"]), _reason_of(row)
        self.is_training = self.is_training or key in self.training
        if key in self.shard and isinstance(reason, str):
            self.rows.append((number, key, reason))


def read_given(path: Path, problems: pl.DataFrame, training: pl.Series) -> Given:
    """The user's trajectories of these problems.

    The file has the columns problem and text or ids, and may have finish_reason: stop, or length
    where a trajectory was cut. Raises ValueError, naming file and rows, for anything else in any of
    its rows, and where none has a problem_id of `training`. Whether ids are tokens of a model is
    for `GivenEncoder`.
    """
    if path.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"{path}: give a file that ends in .jsonl or .parquet")
    stream = RowStream(path, COLUMNS, compact)
    scan = _Scan(set(problems["problem_id"]), set(training))
    try:
        for row in stream:
            scan.take(row)
        if not scan.count:
            raise ValueError("no rows")
    except ValueError as error:
        raise ValueError(
            f"{path}: not a complete {path.suffix[1:]} file ({error}); write it again"
        ) from None
    names = list(stream.names)
    if "problem" not in names or not {*CONTENTS} & set(names):
        raise ValueError(f"{path}: needs the columns problem and text or ids; has {names}")
    content = "ids" if "ids" in names else "text"
    if scan.faults[content].count:
        raise ValueError(scan.faults[content].sentence(path, ADVICE))
    if not scan.is_training:
        raise ValueError(
            f"{path}: none of its {scan.count} trajectories answers a training problem; its "
            "column problem must hold the questions as the source of the problems has them"
        )
    columns = {"row": pl.Int64, "problem_id": pl.String, "finish_reason": pl.String}
    rows = matched(pl.DataFrame(scan.rows, columns, orient="row"), problems, schema.PROBLEMS)
    log.info("%d of %d given trajectories belong to these problems", len(rows), scan.count)
    indices = pl.int_range(pl.len(), dtype=pl.Int32).over("problem_id")
    rows = rows.with_columns(sample_index=indices).with_columns(
        sample_id=pl.format("{}-{}", "problem_id", "sample_index")
    )
    return Given(path, content, rows)


def _fault_of(row: FileRow, content: str) -> str | None:
    """What is wrong with a row whose trajectory is in the column `content`, if anything is."""
    if isinstance(row, BadRow):
        return row.reason
    for name in ("problem", content):
        if is_blank(row[name]):
            return f"no {name}"
    for name in {"problem", content} - {"ids"}:
        if not isinstance(row[name], str):
            return f"column {name} must hold text, but holds {str(row[name])[:80]}"
    if _reason_of(row) not in ("stop", "length"):
        return f"finish_reason {_reason_of(row)!r}; it must be stop or length"
    return _fault_of_ids(row["ids"]) if content == "ids" else None


def _reason_of(row: Mapping[str, Any]) -> Any:
    return "stop" if row["finish_reason"] is None else row["finish_reason"]


def compact(cell: Any) -> Any:
    """Ids as an array, which takes less room than Python's integers; other cells as they are."""
    if isinstance(cell, list) and cell and all(type(token) is int for token in cell):
        outside = next((token for token in cell if not 0 <= token < 2**31), None)
        return np.array(cell, np.int64) if outside is None else NoIds(str(outside)[:80])
    return cell


def _fault_of_ids(cell: Any) -> str | None:
    if isinstance(cell, np.ndarray):
        return None
    if isinstance(cell, NoIds):
        return f"{cell} is no token id"
    if cell == []:
        return "no ids"
    return f"column ids must hold lists of token ids, but holds {str(cell)[:80]}"
