"""The user's own trajectories, which the first round takes in place of samples."""

import logging
from pathlib import Path

import polars as pl

from mpd.store import schema
from mpd.store.joins import matched
from mpd.text.questions import problem_id

log = logging.getLogger("mpd")


def read_given(path: Path) -> pl.DataFrame:
    """The user's trajectories: problem_id, text or ids, and finish_reason.

    The file has the columns problem and text or ids, and may have finish_reason: stop, or length
    where a trajectory was cut. Raises ValueError, naming the file, for anything else.
    """
    frame = _read(path)
    if "problem" not in frame.columns or not {"text", "ids"} & set(frame.columns):
        raise ValueError(f"{path}: needs the columns problem and text or ids; has {frame.columns}")
    content = "ids" if "ids" in frame.columns else "text"
    empty = frame.filter(pl.col(content).is_null() | pl.col("problem").is_null())
    if len(empty):
        raise ValueError(f"{path}: {len(empty)} rows have no problem or no {content}; remove them")
    _require_type(path, frame, "problem", "text")
    _require_type(path, frame, content, "text" if content == "text" else "lists of token ids")
    if "finish_reason" not in frame.columns:
        frame = frame.with_columns(finish_reason=pl.lit(None))
    reason = pl.col("finish_reason").cast(pl.String).fill_null("stop")
    unknown = frame.filter(~reason.is_in(["stop", "length"]))
    if len(unknown):
        value = unknown["finish_reason"][0]
        raise ValueError(f"{path}: finish_reason {value!r}; it must be stop or length")
    key = pl.col("problem").map_elements(problem_id, pl.String).alias("problem_id")
    return frame.select(key, content, reason)


def _require_type(path: Path, frame: pl.DataFrame, name: str, expected: str) -> None:
    dtype = frame.schema[name]
    is_ids = isinstance(dtype, pl.List) and dtype.inner.is_integer()
    if not (dtype == pl.String if expected == "text" else is_ids):
        raise ValueError(f"{path}: column {name} must hold {expected}, but holds {dtype}")


def _read(path: Path) -> pl.DataFrame:
    try:
        with path.open("rb") as file:  # Polars would take a path for a pattern
            if path.suffix == ".jsonl":
                return pl.read_ndjson(file, infer_schema_length=None)  # else late columns are lost
            if path.suffix == ".parquet":
                return pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        cause = str(error).splitlines()[0]
        raise ValueError(
            f"{path}: not a complete {path.suffix[1:]} file ({cause}); write it again"
        ) from None
    raise ValueError(f"{path}: give a file that ends in .jsonl or .parquet")


def given_rows(path: Path, problems: pl.DataFrame, training: pl.Series) -> pl.DataFrame:
    """The user's trajectories of these problems, with sample_index and sample_id.

    Raises ValueError as `read_given` does, and where none has a problem_id of `training`.
    """
    given = read_given(path)
    if not given["problem_id"].is_in(training.implode()).any():
        raise ValueError(
            f"{path}: none of its {len(given)} trajectories answers a training problem; its "
            "column problem must hold the questions as the source of the problems has them"
        )
    rows = matched(given, problems, schema.PROBLEMS)
    log.info("%d of %d given trajectories belong to these problems", len(rows), len(given))
    return rows.with_columns(
        sample_index=pl.int_range(pl.len(), dtype=pl.Int32).over("problem_id")
    ).with_columns(sample_id=pl.format("{}-{}", "problem_id", "sample_index"))
