"""One cached trajectory, token by token: how student and teacher score it."""

from collections.abc import Mapping
from math import exp
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text
from tokenizers import Tokenizer

from mpd.scoring.token_records import ids_of, token_record
from mpd.store.signs import visible
from mpd.store.tokenizer_files import TOKENIZER
from mpd.text.token_texts import token_texts

NUM_SHOWN = 4  # candidates, so that a line fits
# Divergences in nats from which on a token has this style: little, some, much to learn.
DIVERGENCE_STYLES = ((0.0, "green"), (0.1, "yellow"), (1.0, "bold red"))


def token_table(row: Mapping[str, Any], teacher: Path) -> Table:
    """A line for each token of a row of the cache; `teacher` is its manifest.

    Candidates are the teacher's most probable ids in the support, with the same probabilities as on
    the page of the report. What the cache does not have is a dash.
    """
    record = token_record(row)
    tokenizer = Tokenizer.from_file(str(teacher.with_name(TOKENIZER)))
    texts = token_texts(tokenizer, ids_of([record]))
    lines = Table(box=None)
    for name in ("", "token", "student", "teacher", "divergence", "teacher's candidates"):
        is_number = name in ("", "student", "teacher", "divergence")
        lines.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    for position, token in enumerate(record["ids"]):
        if position == row["think_end"]:
            lines.add_row("", Text("end of thinking", "dim"))
        divergence = _nats(record["divergence"], position)
        style = _style(divergence)
        lines.add_row(
            str(position),
            Text(visible(texts[token]), style),
            _number(_nats(record["student"], position), -1),
            _number(_nats(record["teacher"], position), -1),
            Text(_number(divergence), style),
            Text(_candidate_texts(record, position, texts)),
        )
    return lines


def _candidate_texts(record: Mapping[str, Any], position: int, texts: Mapping[int, str]) -> str:
    """The first candidates with their probabilities; a dash where there is none."""
    pairs = record["candidates"][position][: 2 * NUM_SHOWN] if record["candidates"] else []
    return (
        "  ".join(
            f"{visible(texts[token])} {exp(-thousandths / 1000):.2f}"
            for token, thousandths in zip(pairs[::2], pairs[1::2], strict=True)
        )
        or "-"
    )


def _nats(thousandths: list[int] | None, position: int) -> float | None:
    return None if thousandths is None else thousandths[position] / 1000


def _number(value: float | None, sign: int = 1) -> str:
    return "-" if value is None else f"{sign * value or 0.0:.3f}"


def _style(divergence: float | None) -> str:
    """The style of the highest bound that a divergence reaches; empty where it is not known."""
    reached = [
        style
        for bound, style in DIVERGENCE_STYLES
        if divergence is not None and divergence >= bound
    ]
    return reached[-1] if reached else ""
