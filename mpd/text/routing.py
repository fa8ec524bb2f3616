"""The route of each question along a bank of paths, and how often a teacher keeps to its path."""

import json
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from mpd.text.path_bank import Embed, PathBank
from mpd.text.rationales import last_rationale, route_of

QUESTIONS_AT_ONCE = 1024  # whose similarities to all intents are in memory


def routes_of(bank: PathBank, questions: Sequence[str], embed: Embed) -> list[str]:
    """The route of each question, as JSON; none at all where the bank is empty.

    Its cell is that whose intent has the largest cosine with the question, its path that of the
    cell whose names of steps, joined by blanks, have; of equal ones the first.
    """
    cells = sorted(bank.cells)
    if not cells:
        return []
    intents = _unique_rows([intent for _, intent in cells], embed)
    routes: list[str] = []
    for start in range(0, len(questions), QUESTIONS_AT_ONCE):
        vectors = embed(questions[start : start + QUESTIONS_AT_ONCE])
        chosen = (vectors @ intents.T).argmax(axis=1)
        routes += _along_paths(bank, [cells[place] for place in chosen], vectors, embed)
    return routes


def _along_paths(
    bank: PathBank, cells: Sequence[tuple[str, str]], vectors: np.ndarray, embed: Embed
) -> Iterator[str]:
    """The route of each question, whose cell and vector these are."""
    paths = {cell: list(bank.cells[cell]) for cell in dict.fromkeys(cells)}
    joined = list(dict.fromkeys(" ".join(path) for each in paths.values() for path in each))
    places = {text: place for place, text in enumerate(joined)}
    rows = embed(joined)
    for (category, intent), vector in zip(cells, vectors, strict=True):
        offered = paths[category, intent]
        scores = rows[[places[" ".join(path)] for path in offered]] @ vector
        yield route_of(category, intent, offered[int(scores.argmax())])


def _unique_rows(texts: Sequence[str], embed: Embed) -> np.ndarray:
    """The vectors of texts, of which equal ones are embedded once."""
    unique = list(dict.fromkeys(texts))
    places = {text: place for place, text in enumerate(unique)}
    return embed(unique)[[places[text] for text in texts]]


def kept_paths(rewrites: pl.DataFrame, routes: pl.DataFrame) -> tuple[int, int]:
    """How many rewrites with the status ok keep the path of their route, and how many there are.

    `rewrites` have sample_id, status and rewrite, which may begin with thinking; a sample_id begins
    with the problem_id.
    """
    route_by_problem = dict(routes.select("problem_id", "route").iter_rows())
    kept = total = 0
    for sample_id, text in rewrites.filter(pl.col("status") == "ok")["sample_id", "rewrite"].rows():
        rationale = last_rationale(text)
        route = route_by_problem.get(sample_id.rpartition("-")[0])
        if rationale is not None and route is not None:
            total += 1
            kept += list(rationale.path) == json.loads(route)["reasoning_path"]
    return kept, total
