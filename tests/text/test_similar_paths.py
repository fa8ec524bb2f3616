"""Similar paths: by the words of their names, and found as by comparing with all."""

import random

import pytest

from mpd.text import similar_paths
from mpd.text.similar_paths import SimilarPaths, overlap, words_of


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("AddPrices", "TakeRest"), ("TakeRest", "AddPrices"), 1),
        (("AddPrices", "TakeRest"), ("AddPrices", "TakeAll"), 3 / 5),
        (("ADDPrices",), ("AddPRICES",), 1),
        (("A",), ("B",), 0),
    ],
)
def test_similarity_is_that_of_the_words_of_names(one, other, expected):
    one, other = words_of(one), words_of(other)
    assert overlap(one, other) == overlap(other, one) == expected


@pytest.mark.parametrize("near_duplicate", [0, 0.1, 0.3, 0.5, 0.6, 0.7, 2 / 3, 0.75, 0.9, 1])
def test_those_are_found_that_comparing_with_all_finds(near_duplicate):
    draw = random.Random(0)
    names = ["Add", "All", "Take", "Rest", "Find", "Half", "Two", "Sum", "X", "Y", "Z"]
    paths = [tuple("".join(draw.choices(names, k=3)) for _ in range(4)) for _ in range(400)]
    paths += [tuple(draw.choices(names, k=2)) for _ in range(100)]
    kept, similar = [], SimilarPaths([], near_duplicate)
    for path in paths:
        known = any(
            path == other or overlap(words_of(path), words_of(other)) >= near_duplicate
            for other in kept
        )
        assert similar.has(path) == known
        if not known:
            kept.append(path)
            similar.add(path)


def test_paths_that_are_not_similar_are_not_compared(monkeypatch):
    compared = []
    monkeypatch.setattr(
        similar_paths, "overlap", lambda one, other: compared.append(one) or overlap(one, other)
    )
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    paths = [(f"{a}x{b}yCompute", f"{c}zFind") for a in letters for b in letters for c in letters]
    similar = SimilarPaths(paths, 0.9)
    assert not similar.has(("AxByFind", "ConsiderAz"))  # of its first word, there is none
    assert not similar.has(("Compute", "All"))  # its number of words is another
    assert similar.has(paths[-1])
    assert similar.has(paths[-1][::-1])
    assert not compared
