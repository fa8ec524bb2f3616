"""Paths of reasoning that are as good as the same: those whose names have nearly the same words."""

import re
from collections.abc import Iterable

Path = tuple[str, ...]  # the names of steps

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


class SimilarPaths:
    """Paths, which are asked for those as similar to another one as `near_duplicate`.

    Two paths that are have one of the first words of both, in any one order of all words: of `n`
    words, of which `k` have to be shared, the first `n - k + 1`. By these and by their number of
    words they are found. Longer words come first in that order, since fewer paths have them.
    """

    def __init__(self, paths: Iterable[Path], near_duplicate: float) -> None:
        self.near_duplicate = near_duplicate
        self.paths: set[Path] = set()
        self.by_word: dict[int, dict[str, set[frozenset[str]]]] = {}  # and number of words
        for path in paths:
            self.add(path)

    def add(self, path: Path) -> None:
        """Add a path."""
        self.paths.add(path)
        words = words_of(path)
        by_word = self.by_word.setdefault(len(words), {})
        for word in self._first(words):
            by_word.setdefault(word, set()).add(words)

    def has(self, path: Path) -> bool:
        """Whether the path, or one that is as similar as that, is among these."""
        if path in self.paths:
            return True
        if not self.near_duplicate:  # then those that share no word are, too
            return bool(self.paths)
        words = words_of(path)
        candidates = [
            by_word[word]
            for number, by_word in self.by_word.items()
            if min(number, len(words)) / max(number, len(words)) >= self.near_duplicate
            for word in self._first(words)
            if word in by_word
        ]
        return any(
            words in each or any(overlap(words, other) >= self.near_duplicate for other in each)
            for each in candidates
        )

    def _first(self, words: frozenset[str]) -> list[str]:
        """The words by which a path is found."""
        total = len(words)
        shared = next(count for count in range(total + 1) if count / total >= self.near_duplicate)
        return sorted(words, key=lambda word: (-len(word), word))[: total - shared + 1]


def words_of(path: Path) -> frozenset[str]:
    """The words of the names of a path, which are split at capitals."""
    return frozenset(map(str.lower, _WORDS.findall(" ".join(path))))


def overlap(words: frozenset[str], others: frozenset[str]) -> float:
    """The share of the words of both that both have (Jaccard)."""
    return len(words & others) / len(words | others)
