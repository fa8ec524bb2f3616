from pathlib import Path

import pytest

from mpd.report.rounds import place_of


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("results/tiny/base/seed_0/round_0", ("base", 0, 0)),
        ("/x/results/a_b/off_policy/seed_12/round_3", ("off_policy", 3, 12)),
    ],
)
def test_place_of(path, place):
    assert tuple(place_of(Path(path)).values()) == place
    assert list(place_of(Path(path))) == ["method", "round", "seed"]


@pytest.mark.parametrize(
    "path",
    [
        "round_1",
        "x/mpd/seed_0/round_a",
        "x/mpd/seed_0/round_1/evaluate",
    ],
)
def test_place_of_another_path_is_refused(path):
    with pytest.raises(ValueError) as caught:
        place_of(Path(path))
    assert str(caught.value) == f"{path}: not .../<method>/seed_<n>/round_<n>"
