"""The route of each question along a bank of paths, and how often a teacher keeps to its path."""

import json
from collections.abc import Iterable, Sequence

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
    first_cells: dict[str, tuple[str, str]] = {}  # by intent
    for cell in sorted(bank.cells):
        first_cells.setdefault(cell[1], cell)
    if not first_cells:
        return []
    cells, vectors_of = list(first_cells.values()), _Vectors(embed)
    intents = vectors_of(list(first_cells))
    routes: list[str] = []
    for start in range(0, len(questions), QUESTIONS_AT_ONCE):
        vectors = embed(questions[start : start + QUESTIONS_AT_ONCE])
        chosen = (vectors @ intents.T).argmax(axis=1)
        places = np.unique(chosen).tolist()
        along = [list(bank.cells[cells[place]]) for place in places]
        vectors_of.add(" ".join(path) for paths in along for path in paths)
        found = [""] * len(vectors)
        for place, paths in zip(places, along, strict=True):
            category, intent = cells[place]
            asked = np.flatnonzero(chosen == place)
            scores = vectors[asked] @ vectors_of([" ".join(path) for path in paths]).T
            for number, best in zip(asked, scores.argmax(axis=1), strict=True):
                found[number] = route_of(category, intent, paths[best])
        routes += found
    return routes


class _Vectors:
    """The vectors of texts, each of which is embedded once."""

    def __init__(self, embed: Embed) -> None:
        self.embed, self.known = embed, dict[str, np.ndarray]()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """The vectors of some texts, in order."""
        self.add(texts)
        return np.stack([self.known[text] for text in texts])

    def add(self, texts: Iterable[str]) -> None:
        """Embed those of the texts that are not known yet, together."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            self.known |= zip(new, self.embed(new), strict=True)


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
