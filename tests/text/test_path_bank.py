"""The bank of paths: clusters, names, near-duplicates and growth, by hand."""

import pytest

from mpd.config.bank import Bank
from mpd.text.path_bank import (
    Entry,
    PathBank,
    bank_of,
    canonical,
    entries_of,
)
from mpd.text.rationales import written_rationale
from tests.bank import FakeEmbedder, rationale

ADD, TAKE = ("AddAll", "TakeRest"), ("Start", "Now")


def of(*texts):
    return [written_rationale(text) for text in texts]


def paths_of(bank):
    return {cell: list(paths) for cell, paths in bank.cells.items()}


@pytest.mark.parametrize(
    ("intents", "name"),
    [
        (["sum of all", "sum"], "sum"),
        (["sums", "sum"], "sum"),
        (["b", "a"], "a"),
        (["the sum of three prices", "a sum of all six prices"], "the sum of three"),
    ],
)
def test_the_shortest_intent_is_the_name_of_a_cluster(intents, name):
    assert canonical(intents) == name


def test_a_first_round_makes_cells_of_intents_that_are_near():
    embed = FakeEmbedder(sum=0, total_of_prices=10, rest=60, sum_of_areas=0)
    bank = bank_of(
        {
            1: of(
                rationale("Arithmetic", ("total of prices",), ADD),
                rationale(" arithmetic ", ("Sum", "rest"), TAKE),
                rationale("ARITHMETIC", ("sum",), ("NowStart", "Start")),  # near TAKE: same words
                rationale("Geometry", ("sum of areas",), ADD),
            )
        },
        Bank(),
        FakeEmbedder(**embed.angles, Sum=0),
    )
    assert paths_of(bank) == {
        ("Arithmetic", "Sum"): [ADD, TAKE],
        ("Arithmetic", "rest"): [TAKE],
        ("Geometry", "sum of areas"): [ADD],
    }
    assert bank.rows()[1] == {
        "category": "Arithmetic",
        "intent": "Sum",
        "path": "Start Now",
        "round": 1,
    }
    assert paths_of(PathBank.of(bank.rows())) == dict(sorted(paths_of(bank).items()))


def test_a_chord_of_a_quarter_decides():
    # Points at an angle of a are 2 sin(a / 2) apart: .2437 for 14 degrees, .2611 for 15.
    for angle, cells in ((14, 1), (15, 2)):
        rationales = of(rationale(intent=("a",)), rationale(intent=("b",)))
        bank = bank_of({1: rationales}, Bank(), FakeEmbedder(a=0, b=angle))
        assert len(bank.cells) == cells, angle


def test_paths_of_later_rounds_join_once_enough_are_pending():
    embed, settings = FakeEmbedder(sum=0), Bank(flush=2)
    rounds = {1: of(rationale(path=TAKE)), 2: of(*[rationale(path=ADD)] * 9, rationale(path=TAKE))}
    bank = bank_of(rounds, settings, embed)
    assert paths_of(bank) == {("Sums", "sum"): [TAKE]}
    assert bank.pending == {("Sums", "sum"): {ADD: 2}}
    rounds[3] = of(rationale(path=("RestTake", "AllAdd")), rationale(path=("Halve", "Double")))
    bank = bank_of(rounds, settings, embed)
    assert bank.cells == {("Sums", "sum"): {TAKE: 1, ADD: 2, ("Halve", "Double"): 3}}
    assert bank.pending == {}
    assert len(embed.asked) == 2  # for round 1, of each bank


def test_the_first_round_with_right_rationales_makes_the_bank():
    embed = FakeEmbedder(sum=0)
    assert bank_of({}, Bank(), embed).rows() == bank_of({1: [], 2: []}, Bank(), embed).rows() == []
    bank = bank_of({1: [], 2: of(rationale())}, Bank(), embed)
    assert bank.cells == {("Sums", "sum"): {TAKE: 2}}


def test_hundreds_of_paths_are_one_bank():
    letters = [chr(65 + number) for number in range(26)]
    paths = [(f"{one}x", f"{other}y") for one in letters for other in letters]
    bank = bank_of({1: of(*(rationale(path=path) for path in paths))}, Bank(), FakeEmbedder(sum=0))
    # AxBy and BxAy have other words, but AxBy and ByAx would have the same.
    assert paths_of(bank) == {("Sums", "sum"): paths}


@pytest.mark.parametrize(
    ("category", "intent", "expected"),
    [
        ("Sums", "sum", [("Sums", "sum")]),  # no list
        (" Sums\n of  all ", ("sum", "sum "), [("Sums of all", "sum")]),
        ("Zahlen", ("Größe e\u0301", "量"), [("Zahlen", "Größe é"), ("Zahlen", "量")]),
        ("Sums", ("sum", 3, None, "", {"a": 1}), [("Sums", "sum")]),
        ("Sums", {"sum": 1}, []),
        (["Sums"], ("sum",), []),
        (7, ("sum",), []),
        ("Sums", ("a\ud83d",), []),  # half an emoji
        ("Su\bms", ("sum",), []),
        ("Sums", ("a" * 201,), []),
    ],
    ids=str,
)
def test_what_is_no_text_of_fair_length_is_left_out(category, intent, expected):
    (each,) = of(rationale(category, intent).encode("utf-8", "backslashreplace").decode())
    assert [*entries_of(each)] == [Entry(*cell, TAKE) for cell in expected]


def test_a_path_of_long_names_is_left_out():
    (each,) = of(rationale(path=("A" * 100, "B" * 100)))
    assert [*entries_of(each)] == []
