"""The user's own trajectories, which the first round takes in place of samples.

They are checked when they come in; every fault is named with its row, which counts from 0.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mpd.store import schema
from mpd.store.joins import matched
from mpd.text.completions import CompletionWriter, LossyText
from mpd.text.questions import problem_id
from mpd.text.rows import BadRow, fault_sentence, is_blank, read_rows
from mpd.text.vocabulary import Vocabulary

log = logging.getLogger("mpd")

COLUMNS = ("problem", "text", "ids", "finish_reason")
ADVICE = "fix or remove them"

Fault = tuple[str, str]  # the row, and what is wrong there


@dataclass(frozen=True)
class NoIds:
    """A list of whole numbers, of which `number` is the first that is in no vocabulary."""

    number: str

    def __str__(self) -> str:
        return self.number


def read_given(path: Path) -> pl.DataFrame:
    """The user's trajectories: row, problem_id, text or ids, and finish_reason.

    The file has the columns problem and text or ids, and may have finish_reason: stop, or length
    where a trajectory was cut. Raises ValueError, naming file and rows, for anything else. Whether
    ids are tokens of a model is for `encode_given`.
    """
    if path.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"{path}: give a file that ends in .jsonl or .parquet")
    try:
        names, rows = read_rows(path, COLUMNS, _compact)
        if not rows:
            raise ValueError("no rows")
    except ValueError as error:
        raise ValueError(
            f"{path}: not a complete {path.suffix[1:]} file ({error}); write it again"
        ) from None
    if "problem" not in names or not {"text", "ids"} & set(names):
        raise ValueError(f"{path}: needs the columns problem and text or ids; has {names}")
    content = "ids" if "ids" in names else "text"
    columns: dict[str, list[Any]] = {"row": [], "problem_id": [], content: [], "finish_reason": []}
    faults: list[Fault] = []
    for number, row in enumerate(rows):
        try:
            cells = _checked(row, content)
        except ValueError as error:
            faults.append((f"row {number}", str(error)))
            continue
        for name, cell in zip(columns, (number, *cells), strict=True):
            columns[name].append(cell)
    _raise(path, faults)
    ids = {"ids": pl.List(pl.Int64)} if content == "ids" else {}
    return pl.DataFrame(columns, schema_overrides=ids)


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


def encode_given(
    path: Path,
    rows: pl.DataFrame,
    writer: CompletionWriter,
    prompts: Mapping[str, list[int]],
    context_length: int,
) -> pl.DataFrame:
    """The rows of `given_rows` with their ids: text becomes ids, ids stay as they are.

    `prompts` has the prompt ids of each question, `context_length` the tokens of prompt and
    trajectory that the model can take.
    A text in which the tokenizer changes letters is a row without ids and the finish_reason lossy.
    Raises ValueError, naming file and rows, where a text has words without a token, and where ids
    are not a trajectory of this model.
    """
    sequences: list[list[int]] = []
    reasons: list[str] = []
    faults: list[Fault] = []
    for row in rows.iter_rows(named=True):
        place = f"row {row['row']}"
        try:
            ids = row["ids"] if "ids" in row else _encode(row["text"], row["finish_reason"], writer)
            _check_ids(ids, writer.vocabulary)
            prompt = len(prompts[row["question"]])
            if prompt + len(ids) > context_length:
                raise ValueError(
                    f"{prompt} tokens of the prompt and {len(ids)} of the trajectory are more than "
                    f"the model's context of {context_length}"
                )
        except ValueError as error:
            if not (isinstance(error, LossyText) and error.has_tokens):
                faults.append((place, str(error)))
                continue
            log.warning("%s, %s, problem %.80r: dropped: %s", path, place, row["question"], error)
            ids = []
        sequences.append(ids)
        reasons.append(row["finish_reason"] if len(ids) else "lossy")
    _raise(path, faults)
    return rows.with_columns(
        pl.Series("ids", sequences, pl.List(pl.Int64)), pl.Series("finish_reason", reasons)
    )


def _raise(path: Path, faults: list[Fault]) -> None:
    if faults:
        raise ValueError(fault_sentence(path, faults, ADVICE))


def _checked(row: Mapping[str, Any] | BadRow, content: str) -> tuple[str, Any, str]:
    """The problem_id, the text or the ids, and the finish_reason of a row."""
    if isinstance(row, BadRow):
        raise ValueError(row.reason)
    for name in ("problem", content):
        if is_blank(row[name]):
            raise ValueError(f"no {name}")
    for name in {"problem", content} - {"ids"}:
        if not isinstance(row[name], str):
            raise ValueError(f"column {name} must hold text, but holds {str(row[name])[:80]}")
    reason = "stop" if row["finish_reason"] is None else row["finish_reason"]
    if reason not in ("stop", "length"):
        raise ValueError(f"finish_reason {reason!r}; it must be stop or length")
    cell = _ids_of(row[content]) if content == "ids" else row[content]
    return problem_id(row["problem"]), cell, reason


def _compact(cell: Any) -> Any:
    """Ids as an array, which takes less room than Python's integers; other cells as they are."""
    if isinstance(cell, list) and cell and all(type(token) is int for token in cell):
        outside = next((token for token in cell if not 0 <= token < 2**31), None)
        return np.array(cell, np.int64) if outside is None else NoIds(str(outside)[:80])
    return cell


def _ids_of(cell: Any) -> np.ndarray:
    if isinstance(cell, np.ndarray):
        return cell
    if isinstance(cell, NoIds):
        raise ValueError(f"{cell} is no token id")
    if cell == []:
        raise ValueError("no ids")
    raise ValueError(f"column ids must hold lists of token ids, but holds {str(cell)[:80]}")


def _encode(text: str, finish_reason: str, writer: CompletionWriter) -> list[int]:
    """The ids of a text; a stop id ends them unless it was cut.

    Raises ValueError where the text spells one at its end, which would stay text.
    """
    vocabulary = writer.vocabulary
    for end in (vocabulary.decode([token]) for token in vocabulary.stop_ids):
        if end.strip() and text.rstrip().endswith(end):
            raise ValueError(
                f"its text ends with {end}, which would be trained letter by letter; leave it out: "
                "trajectories get the stop id of the model"
            )
    return writer.encode(text, is_cut=finish_reason == "length")


def _check_ids(ids: list[int], vocabulary: Vocabulary) -> None:
    """Raise ValueError where ids are not tokens, or end before their end."""
    outside = next((token for token in ids if token >= vocabulary.size), None)
    if outside is not None:
        raise ValueError(
            f"{outside} is no token id: the tokenizer has {vocabulary.size} tokens, from 0 on, and "
            "further rows of the model are padding"
        )
    stops = set(vocabulary.stop_ids)
    position = next((place for place, token in enumerate(ids[:-1]) if token in stops), None)
    if position is not None:
        raise ValueError(
            f"the stop id {ids[position]} is at position {position} of {len(ids)}: a trajectory "
            "ends with its first stop id"
        )
