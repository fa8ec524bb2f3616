import pytest

from mpd.report.shipping import shipped
from tests.test_report import BASE, summary_of


@pytest.mark.parametrize(
    ("rounds", "drop", "chosen"),
    [
        ([(0.8, 90.0), (0.8, 80.0)], 0.0, 2),
        ([(0.8, 80.0), (0.8, 90.0)], 0.0, 1),
        ([(0.8, 90.0), (0.79, 50.0)], 0.0, 1),
        ([(0.8, 90.0), (0.79, 50.0)], 0.02, 2),
        ([(0.79, 90.0), (0.5, 50.0)], 0.0, 0),
        ([(0.9, 90.0), (0.95, 91.0)], 0.0, 2),  # as short, within the standard error of 1.25
        ([(0.9, 90.0), (0.95, 91.3)], 0.0, 1),
        ([(0.9, 110.0)], 0.0, 0),  # longer than the base student
        ([(0.8, 70.0), (0.8, 70.0)], 0.0, 1),
        ([(0.7, 70.0)], 0.1, 1),  # 0.8 - 0.7 is more than 0.1 in floating point
        ([(0.69, 70.0)], 0.1, 0),
    ],
)
def test_shipped_is_the_shortest_that_is_not_worse(rounds, drop, chosen):
    trained = [
        ("mpd", number, 0, "dev", accuracy, tokens)
        for number, (accuracy, tokens) in enumerate(rounds, 1)
    ]
    choice = shipped(summary_of(BASE, *trained), drop)
    assert choice.to_dicts() == [{"method": "mpd", "seed": 0, "round": chosen}]


def test_shipped_looks_at_the_development_split_alone():
    summary = summary_of(
        BASE,
        ("mpd", 1, 0, "dev", 0.8, 90.0),
        ("mpd", 2, 0, "dev", 0.8, 95.0),
        ("base", 0, 0, "one", 0.8, 100.0),
        ("mpd", 1, 0, "one", 0.1, 500.0),
        ("mpd", 2, 0, "one", 0.9, 10.0),
    )
    assert shipped(summary, 0.0)["round"].to_list() == [1]


def test_shipped_says_nothing_of_what_was_not_trained():
    prompted = ("prompt_only", 0, 0, "dev", 0.9, 50.0)
    assert shipped(summary_of(BASE, prompted), 0.0).rows() == []
