"""How much two token sequences overlap, and whether one repeats itself."""

import random

import pytest

from mpd.text.sequences import overlap, repeats_more_than


@pytest.mark.parametrize(
    ("rewrite", "sample", "share"),
    [
        ([], [], 0.0),
        ([1, 2], [1, 2], 0.0),
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 2, 3], [0, 1, 2, 3, 4], 1.0),
        ([1, 2, 3], [3, 2, 1], 0.0),
        ([1, 2, 3, 4], [1, 2, 3, 5], 0.5),
        ([1, 2, 3, 1, 2, 3], [1, 2, 3], 0.5),  # every occurrence counts: 123, 231, 312, 123
        ([1, 2, 3], [], 0.0),
    ],
)
def test_overlap(rewrite, sample, share):
    assert overlap(rewrite, sample) == share


RUN = [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("limit", "ids", "expected"),
    [
        (1, [], False),
        (1, RUN, False),
        (1, RUN + RUN, True),
        (1, RUN + RUN[:3], False),
        (2, RUN + RUN, False),
        (2, RUN * 3, True),
        (2, [9, 9, *RUN * 3, 9], True),
        (2, RUN + RUN + [9] + RUN, False),
        (2, [1, 2, 3] * 3, False),  # a run of 3 tokens
        (2, [1, 2, 3] * 5, False),
        (2, [1, 2, 3] * 6, True),  # is a run of 6, three times
        (2, [7] * 11, False),
        (2, [7] * 12, True),
        (8, RUN * 8, False),
        (8, RUN * 9, True),
    ],
)
def test_repeats_more_than(limit, ids, expected):
    assert repeats_more_than(limit, ids) is expected


def repeats_by_looking_everywhere(limit, ids):
    return any(
        ids[start : start + width] * (limit + 1) == ids[start : start + width * (limit + 1)]
        for width in range(4, len(ids) + 1)
        for start in range(len(ids) - width * (limit + 1) + 1)
    )


def test_repeats_more_than_agrees_with_looking_everywhere():
    rng, found = random.Random(0), {True: 0, False: 0}
    for _ in range(2_000):
        unit = [rng.randrange(2) for _ in range(rng.randint(3, 6))]
        noise = [rng.randrange(2) for _ in range(rng.randint(0, 5))]
        ids = noise + unit * rng.randint(1, 5) + unit[: rng.randint(0, 5)] + noise[::-1]
        limit = rng.randint(1, 4)
        expected = repeats_by_looking_everywhere(limit, ids)
        assert repeats_more_than(limit, ids) is expected, (limit, ids)
        found[expected] += 1
    assert min(found.values()) > 300
