"""One cached trajectory, token by token: what student and teacher thought of it."""

from collections.abc import Mapping
from math import exp
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text
from tokenizers import Tokenizer

from mpd.candidates import candidates

NUM_SHOWN = 4  # candidates, so that a line fits
CONTROLS = {chr(code): f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
VISIBLE = str.maketrans({**CONTROLS, " ": "·", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
# Divergences in nats from which a token has this style: little, some, much to learn.
STYLES = ((0.0, "green"), (0.1, "yellow"), (1.0, "bold red"))


def token_table(row: Mapping[str, Any], teacher: Path) -> Table:
    """A line for each token of a row of the cache; `teacher` is the folder with the token map.

    Candidates are the teacher's most probable ids in the support, with the probabilities that the
    report's page shows. What the cache does not have (vLLM gives no student, hidden states no
    support) is a dash.
    """
    tokenizer = Tokenizer.from_file(str(teacher / "tokenizer.json"))

    def said(token: int) -> str:
        text = tokenizer.decode([token], skip_special_tokens=False)
        return text.translate(VISIBLE)

    lines = Table(box=None)
    for name in ("", "token", "student", "teacher", "divergence", "teacher's candidates"):
        number = name in ("", "student", "teacher", "divergence")
        lines.add_column(name, justify="right" if number else "left", no_wrap=True)
    best = None if row["support_size"] is None else candidates(row)["candidates"]
    for place, token in enumerate(row["completion_ids"]):
        if place == row["think_end"]:
            lines.add_row("", Text("end of thinking", "dim"))
        divergence = _at(row["divergence"], place)
        pairs = best[place][: 2 * NUM_SHOWN] if best else []
        shown = [
            f"{said(id)} {exp(-thousandths / 1000):.2f}"
            for id, thousandths in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        lines.add_row(
            str(place),
            Text(said(token), _style(divergence)),
            _number(_at(row["student_logprob"], place)),
            _number(row["realised_logprob"][place]),
            Text(_number(divergence), _style(divergence)),
            Text("  ".join(shown) or "-"),
        )
    return lines


def _at(values: list[float] | None, place: int) -> float | None:
    return None if values is None else values[place]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _style(divergence: float | None) -> str:
    """The style of the highest bound that a divergence reaches; none where it is not known."""
    reached = [style for bound, style in STYLES if divergence is not None and divergence >= bound]
    return reached[-1] if reached else ""
