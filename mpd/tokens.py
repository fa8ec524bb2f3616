"""One cached trajectory, token by token: what student and teacher thought of it."""

from collections.abc import Iterator, Mapping
from math import exp
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text
from tokenizers import Tokenizer

NUM_CANDIDATES = 4
CONTROLS = {chr(code): f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
VISIBLE = str.maketrans({**CONTROLS, " ": "·", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
# Divergences in nats from which a token has this style: little, some, much to learn.
STYLES = ((0.0, "green"), (0.1, "yellow"), (1.0, "bold red"))


def token_table(row: Mapping[str, Any], teacher: Path) -> Table:
    """A line for each token of a row of the cache; `teacher` is the folder with the token map.

    Candidates are the teacher's most probable ids in the support, with their probabilities. What
    the cache does not have (vLLM gives no student, hidden states no support) is a dash.
    """
    tokenizer = Tokenizer.from_file(str(teacher / "tokenizer.json"))

    def said(token: int) -> str:
        text = tokenizer.decode([token], skip_special_tokens=False)
        return text.translate(VISIBLE)

    lines = Table(box=None)
    for name in ("", "token", "student", "teacher", "divergence", "teacher's candidates"):
        number = name in ("", "student", "teacher", "divergence")
        lines.add_column(name, justify="right" if number else "left", no_wrap=True)
    for place, (token, support) in enumerate(
        zip(row["completion_ids"], supports(row), strict=True)
    ):
        if place == row["think_end"]:
            lines.add_row("", Text("end of thinking", "dim"))
        divergence = _at(row["divergence"], place)
        best = sorted(support.items(), key=lambda pair: -pair[1])[:NUM_CANDIDATES]
        lines.add_row(
            str(place),
            Text(said(token), _style(divergence)),
            _number(_at(row["student_logprob"], place)),
            _number(row["realised_logprob"][place]),
            Text(_number(divergence), _style(divergence)),
            Text("  ".join(f"{said(id)} {exp(logprob):.2f}" for id, logprob in best) or "-"),
        )
    return lines


def supports(row: Mapping[str, Any]) -> Iterator[dict[int, float]]:
    """Of each position the teacher's log-probabilities of realised, control and support ids.

    Empty where the cache holds hidden states.
    """
    control, start = row["control_ids"], 0
    for place, token in enumerate(row["completion_ids"]):
        if row["support_size"] is None:
            yield {}
            continue
        of_control = row["control_logprobs"][place * len(control) : (place + 1) * len(control)]
        stop = start + row["support_size"][place]
        entries = zip(
            row["support_ids"][start:stop], row["support_logprobs"][start:stop], strict=True
        )
        yield {
            **dict(zip(control, of_control, strict=True)),
            **dict(entries),
            token: row["realised_logprob"][place],
        }
        start = stop


def _at(values: list[float] | None, place: int) -> float | None:
    return None if values is None else values[place]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _style(divergence: float | None) -> str:
    """The style of the highest bound that a divergence reaches; none where it is not known."""
    reached = [style for bound, style in STYLES if divergence is not None and divergence >= bound]
    return reached[-1] if reached else ""
