"""A bank of reasoning paths, by category and intent, from right structural rationales.

After arXiv 2605.07139 (D-RPC): intents of a category that mean the same become one, near-duplicates
of paths are left out, and later paths are taken on once enough of them are pending.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from mpd.config.bank import Bank
from mpd.text.rationales import Rationale

Embed = Callable[[Sequence[str]], np.ndarray]  # texts to rows of norm 1
Path = tuple[str, ...]  # the names of steps

NAME_WORDS = 4  # of a canonical intent
MAX_LETTERS = 200  # of a category, an intent or a path: longer ones would fill every later prompt
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


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

    cells: dict[tuple[str, str], dict[Path, int]] = field(default_factory=dict)
    pending: dict[tuple[str, str], dict[Path, int]] = field(default_factory=dict)

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
        if not bank.cells:
            bank.cells = _first_cells(entries, number, settings, embed)
            continue
        _queue(bank, entries, number, settings)
        if sum(map(len, bank.pending.values())) >= settings.flush:
            for cell, paths in bank.pending.items():
                bank.cells.setdefault(cell, {}).update(paths)
            bank.pending = {}
    return bank


def _first_cells(
    entries: Collection[Entry], number: int, settings: Bank, embed: Embed
) -> dict[tuple[str, str], dict[Path, int]]:
    """The cells of a first round: categories apart from their case, and clusters of intents."""
    intents: dict[str, dict[str, str]] = {}  # by category, each intent as it was first written
    shown: dict[str, str] = {}
    for entry in entries:
        category = shown.setdefault(entry.category.casefold(), entry.category)
        intents.setdefault(category, {}).setdefault(entry.intent.casefold(), entry.intent)
    names: dict[tuple[str, str], str] = {}
    for category, spellings in intents.items():
        texts = list(spellings.values())
        vectors = principal_components(embed(texts), settings.dimensions)
        for members in clusters(vectors, settings.eps):
            name = canonical([texts[member] for member in members])
            names |= {(category, texts[member].casefold()): name for member in members}
    cells: dict[tuple[str, str], dict[Path, int]] = {}
    for entry in entries:
        category = shown[entry.category.casefold()]
        paths = cells.setdefault((category, names[category, entry.intent.casefold()]), {})
        if not _is_known(entry.path, paths, settings.near_duplicate):
            paths[entry.path] = number
    return cells


def _queue(bank: PathBank, entries: Iterable[Entry], number: int, settings: Bank) -> None:
    """Make paths pending that neither their cell nor what is pending for it has."""
    for entry in entries:
        cell = (entry.category, entry.intent)
        paths = bank.pending.get(cell, {})
        if not _is_known(entry.path, [*bank.cells.get(cell, ()), *paths], settings.near_duplicate):
            bank.pending.setdefault(cell, paths)[entry.path] = number


def _is_known(path: Path, paths: Iterable[Path], near_duplicate: float) -> bool:
    """Whether a path, or one as similar as `near_duplicate`, is among others."""
    return any(path == other or similarity(path, other) >= near_duplicate for other in paths)


def similarity(one: Path, other: Path) -> float:
    """The share of the words of two paths, by which their names are split, that both have."""
    words, others = _words_of(one), _words_of(other)
    return len(words & others) / len(words | others)


@cache
def _words_of(path: Path) -> frozenset[str]:
    return frozenset(map(str.lower, _WORDS.findall(" ".join(path))))


def canonical(intents: Sequence[str]) -> str:
    """The name of a cluster: its intent of the fewest words, then letters, cut to four words."""
    shortest = min(intents, key=lambda text: (len(text.split()), len(text), text))
    return " ".join(shortest.split()[:NAME_WORDS])


def principal_components(vectors: np.ndarray, count: int) -> np.ndarray:
    """The vectors on at most `count` principal components: their distances, less what is left."""
    centred = vectors - vectors.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return (left * values)[:, :count]


def clusters(points: np.ndarray, eps: float) -> list[list[int]]:
    """The clusters of DBSCAN with min_samples 2, each point of its noise as one of its own.

    A point with a neighbour is a core point then, so that clusters are the connected components of
    the graph of points that are at most `eps` apart.
    """
    left = np.ones(len(points), dtype=bool)
    found = []
    for start in range(len(points)):
        if not left[start]:
            continue
        left[start] = False
        members = [start]
        for member in members:  # which grows
            near = left & (np.linalg.norm(points - points[member], axis=1) <= eps)
            left &= ~near
            members += np.flatnonzero(near).tolist()
        found.append(sorted(members))
    return found
