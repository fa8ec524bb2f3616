"""The user's own trajectories as token ids: encoded in parts, and checked against the model."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from mpd.text.completions import CompletionWriter, LossyText
from mpd.text.given import ADVICE, Given, compact
from mpd.text.row_streams import RowStream
from mpd.text.rows import BadRow, Faults
from mpd.text.vocabulary import Vocabulary

log = logging.getLogger("mpd")

BATCH_ROWS = 32  # texts that are encoded at a time


class GivenEncoder:
    """Encodes the trajectories of a shard in parts, in the order of the file.

    `context_length` are the tokens of prompt and trajectory that the model can take.
    """

    def __init__(self, given: Given, writer: CompletionWriter, context_length: int) -> None:
        self.given, self.writer, self.context_length = given, writer, context_length
        self.faults = Faults()
        self._cells = enumerate(RowStream(given.path, [given.content], compact))

    def encode(self, rows: pl.DataFrame, prompts: Mapping[str, list[int]]) -> pl.DataFrame:
        """Rows of the file with their ids: text becomes ids, ids stay as they are.

        `prompts` has the prompt ids of each question. A text in which the tokenizer changes letters
        is a row without ids and the finish_reason lossy. Rows are left out, and `faults` names
        them, where a text has words without a token, and where ids are not a trajectory of this
        model.
        """
        sequences: list[list[int]] = []
        reasons: list[str] = []
        is_good: list[bool] = []
        for batch in rows.iter_slices(BATCH_ROWS):
            encoded = self._encode_batch(batch)
            for row, ids in zip(batch.iter_rows(named=True), encoded, strict=True):
                place = f"row {row['row']}"
                try:
                    if isinstance(ids, ValueError):
                        raise ids
                    self._check(ids, len(prompts[row["question"]]))
                except ValueError as error:
                    if not (isinstance(error, LossyText) and error.has_tokens):
                        self.faults.add(place, str(error))
                        is_good.append(False)
                        continue
                    self._warn(row, error)
                    ids = []
                sequences.append(ids)
                reasons.append(row["finish_reason"] if len(ids) else "lossy")
                is_good.append(True)
        return rows.filter(pl.Series(is_good, dtype=pl.Boolean)).with_columns(
            pl.Series("ids", sequences, pl.List(pl.Int64)),
            pl.Series("finish_reason", reasons, pl.String),
        )

    def require_no_faults(self) -> None:
        """Raise ValueError, naming file and rows, where rows were left out."""
        if self.faults.count:
            raise ValueError(self.faults.sentence(self.given.path, ADVICE))

    def _warn(self, row: Mapping[str, Any], error: ValueError) -> None:
        question = row["question"]
        message = "%s, row %s, problem %.80r: dropped: %s"
        log.warning(message, self.given.path, row["row"], question, error)

    def _encode_batch(self, rows: pl.DataFrame) -> Sequence[Any]:
        """The ids of each row, or the ValueError that says why it has none."""
        cells = list(self._cells_of(rows["row"].to_list()))
        if self.given.content == "ids":
            return cells
        results: list[Any] = [self._end_fault(text) for text in cells]
        numbers = [number for number, fault in enumerate(results) if fault is None]
        are_cut = [reason == "length" for reason in rows["finish_reason"]]
        encoded = self.writer.encode_batch(
            [cells[number] for number in numbers], [are_cut[number] for number in numbers]
        )
        for number, ids in zip(numbers, encoded, strict=True):
            results[number] = ids
        return results

    def _cells_of(self, numbers: Sequence[int]) -> Iterator[Any]:
        """The text or the ids of rows, which follow those that were asked for before."""
        for number in numbers:
            row = next((row for place, row in self._cells if place == number), None)
            if row is None or isinstance(row, BadRow):
                raise ValueError(f"{self.given.path}: it was changed while it was read; run again")
            yield row[self.given.content]

    def _end_fault(self, text: str) -> ValueError | None:
        """What is wrong with a text that spells a stop id at its end, which would stay text."""
        vocabulary = self.writer.vocabulary
        for end in (vocabulary.decode([token]) for token in vocabulary.stop_ids):
            if end.strip() and text.rstrip().endswith(end):
                return ValueError(
                    f"its text ends with {end}, which would be trained letter by letter; leave it "
                    "out: trajectories get the stop id of the model"
                )
        return None

    def _check(self, ids: Sequence[int], prompt: int) -> None:
        """Raise ValueError where ids are not a trajectory behind a prompt of so many tokens."""
        _check_ids(ids, self.writer.vocabulary)
        if prompt + len(ids) > self.context_length:
            raise ValueError(
                f"{prompt} tokens of the prompt and {len(ids)} of the trajectory are more than "
                f"the model's context of {self.context_length}"
            )


def _check_ids(ids: Sequence[int], vocabulary: Vocabulary) -> None:
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
