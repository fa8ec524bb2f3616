"""A bank of reasoning paths, by category and intent, from right structural rationales.

After arXiv 2605.07139 (D-RPC): intents of a category that mean the same become one, near-duplicates
of paths are left out, and later paths are taken on once enough of them are pending.
"""

import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from mpd.config.bank import Bank
from mpd.text.clusters import clusters, principal_components
from mpd.text.rationales import Rationale
from mpd.text.similar_paths import Path, SimilarPaths

Embed = Callable[[Sequence[str]], np.ndarray]  # texts to rows of norm 1
Cells = dict[tuple[str, str], dict[Path, int]]  # by category and intent, paths with their rounds

NAME_WORDS = 4  # of a canonical intent
MAX_LETTERS = 200  # of a category, an intent or a path: longer ones would fill every later prompt


@dataclass(frozen=True)
class Entry:
    """A path under one of the intents of a rationale."""

    category: str
    intent: str
    path: Path


@dataclass
class PathBank:
    """The paths of each cell, which is a category and a canonical intent, with their rounds.

    `pending` are paths that are not taken on yet.
    """

    cells: Cells = field(default_factory=dict)
    pending: Cells = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "PathBank":
        """The bank that rows of the artifact are of."""
        bank = cls()
        for row in rows:
            cell = bank.cells.setdefault((row["category"], row["intent"]), {})
            cell[tuple(row["path"].split())] = row["round"]
        return bank

    def rows(self) -> list[dict[str, Any]]:
        """The paths as rows of the artifact, in order."""
        return [
            {"category": category, "intent": intent, "path": " ".join(path), "round": number}
            for (category, intent), paths in sorted(self.cells.items())
            for path, number in paths.items()
        ]


def entries_of(rationale: Rationale) -> Iterator[Entry]:
    """The path under each intent; none where category or intents are no text of fair length.

    Blanks count as one, and composed letters as those that they are made of.
    """
    intents = rationale.route.get("intent")
    intents = intents if isinstance(intents, list) else [intents]
    category = _text(rationale.route.get("category"))
    is_short = len(" ".join(rationale.path)) <= MAX_LETTERS
    for intent in dict.fromkeys(map(_text, intents)):
        if category and intent and is_short:
            yield Entry(category, intent, rationale.path)


def _text(value: Any) -> str:
    """A name as text with single blanks; empty where it is none, or cannot be shown."""
    if not isinstance(value, str):
        return ""
    text = unicodedata.normalize("NFC", " ".join(value.split()))
    shown = text.isprintable() and len(text) <= MAX_LETTERS
    return text if shown else ""


def bank_of(rounds: Mapping[int, Iterable[Rationale]], settings: Bank, embed: Embed) -> PathBank:
    """The bank from the right rationales of each round, in order.

    The first round with any makes it; those of later rounds were written along its routes, and
    their new paths join once as many as `settings.flush` are pending.
    """
    bank = PathBank()
    for number, rationales in rounds.items():
        entries = dict.fromkeys(entry for each in rationales for entry in entries_of(each))
        if not entries:
            continue
        if not bank.cells:
            bank.cells = _first_cells(entries, number, settings, embed)
            continue
        _add(entries, number, settings, bank.pending, bank.cells)
        if sum(map(len, bank.pending.values())) >= settings.flush:
            for cell, paths in bank.pending.items():
                bank.cells.setdefault(cell, {}).update(paths)
            bank.pending = {}
    return bank


def _first_cells(entries: Collection[Entry], number: int, settings: Bank, embed: Embed) -> Cells:
    """The cells of a first round: categories apart from their case, and clusters of intents."""
    intents: dict[str, dict[str, str]] = {}  # by category, each intent as it was first written
    shown: dict[str, str] = {}
    for entry in entries:
        category = shown.setdefault(entry.category.casefold(), entry.category)
        intents.setdefault(category, {}).setdefault(entry.intent.casefold(), entry.intent)
    names: dict[tuple[str, str], str] = {}
    unique = list(dict.fromkeys(chain.from_iterable(each.values() for each in intents.values())))
    rows, places = embed(unique), {text: place for place, text in enumerate(unique)}
    for category, spellings in intents.items():
        texts = list(spellings.values())
        own = rows[[places[text] for text in texts]]
        vectors = principal_components(own, settings.dimensions)
        for members in clusters(vectors, settings.eps):
            name = canonical([texts[member] for member in members])
            names |= {(category, texts[member].casefold()): name for member in members}
    named = []
    for entry in entries:
        category = shown[entry.category.casefold()]
        named.append(Entry(category, names[category, entry.intent.casefold()], entry.path))
    cells: Cells = {}
    _add(named, number, settings, cells)
    return cells


def _add(
    entries: Iterable[Entry], number: int, settings: Bank, cells: Cells, known: Cells | None = None
) -> None:
    """Add the paths to cells that are similar to none of theirs, nor of the same cell of `known`.

    Of paths that are similar to each other the first is added.
    """
    similar: dict[tuple[str, str], SimilarPaths] = {}
    for entry in entries:
        cell = (entry.category, entry.intent)
        if cell not in similar:
            paths = chain((known or {}).get(cell, ()), cells.get(cell, ()))
            similar[cell] = SimilarPaths(paths, settings.near_duplicate)
        if not similar[cell].has(entry.path):
            similar[cell].add(entry.path)
            cells.setdefault(cell, {})[entry.path] = number


def canonical(intents: Sequence[str]) -> str:
    """The name of a cluster: its intent of the fewest words, then letters, cut to four words."""
    shortest = min(intents, key=lambda text: (len(text.split()), len(text), text))
    return " ".join(shortest.split()[:NAME_WORDS])
