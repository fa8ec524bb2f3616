"""Routes along a bank: the nearest intent, its nearest path, and what the teacher may change."""

import json

import polars as pl
import pytest

from mpd.text import routing
from mpd.text.path_bank import PathBank
from mpd.text.rationales import rationale_of, route_of
from mpd.text.routing import kept_paths, routes_of
from tests.bank import FakeEmbedder, rationale

LONG = ("AddAll", "TakeRest", "CheckIt")
BANK = PathBank(
    {
        ("Sums", "sum"): {("Start", "Now"): 1, LONG: 1},
        ("Areas", "area"): {("Measure", "Multiply"): 1},
    }
)
ANGLES = {"sum": 0, "area": 90, "Start Now": 20, "AddAll TakeRest CheckIt": 40}
ANGLES |= {"Measure Multiply": 0, "like sum": 25, "more": 35, "like area": 80, "between": 45}


def embedder():
    embed = FakeEmbedder()
    embed.angles = ANGLES
    return embed


def test_a_question_takes_the_nearest_intent_and_in_it_the_nearest_path(monkeypatch):
    expected = [
        route_of("Sums", "sum", ("Start", "Now")),
        route_of("Sums", "sum", LONG),
        route_of("Areas", "area", ("Measure", "Multiply")),
    ]
    questions = ["like sum", "more", "like area"]
    assert routes_of(BANK, questions, embedder()) == expected
    monkeypatch.setattr(routing, "QUESTIONS_AT_ONCE", 2)
    assert routes_of(BANK, questions, embedder()) == expected


def test_of_cells_with_one_intent_the_first_is_taken():
    categories = [f"Sums {number}" for number in range(10, 47)]
    bank = PathBank({(category, "sum"): {LONG: 1} for category in reversed(categories)})
    embed = embedder()
    assert routes_of(bank, ["more"] * 9, embed) == [route_of("Sums 10", "sum", LONG)] * 9
    assert embed.asked[0] == ["sum"]


def test_each_text_is_embedded_once_for_all_questions(monkeypatch):
    monkeypatch.setattr(routing, "QUESTIONS_AT_ONCE", 2)
    embed = embedder()
    questions = ["like sum", "like area", "more", "between", "like sum"]
    routes = routes_of(BANK, questions, embed)
    texts = [text for each in embed.asked for text in each]
    of_the_bank = [text for text in texts if text not in questions]
    assert sorted(of_the_bank) == sorted(set(ANGLES) - set(questions))
    single = [routes_of(BANK, [question], embedder()) for question in questions]
    assert routes == [route for (route,) in single]


def test_budget_and_difficulty_follow_the_length_of_the_path():
    assert json.loads(route_of("Sums", "sum", ("Start", "Now"))) == {
        "category": "Sums",
        "intent": ["sum"],
        "difficulty": 1,
        "budget": 2,
        "reasoning_path": ["Start", "Now"],
    }
    long = json.loads(route_of("Zählen", "量", LONG))
    assert (long["difficulty"], long["budget"]) == (2, 3)
    assert "Zählen" in route_of("Zählen", "量", LONG)


def test_an_empty_bank_has_no_routes():
    assert routes_of(PathBank(), ["like sum"], embedder()) == []


GIVEN = route_of("Sums", "sum", LONG)


@pytest.mark.parametrize(
    "path", [LONG, ("AddAll", "TakeRest", "Halve"), ("AddAll", "Halve"), ("Halve",)]
)
def test_a_teacher_may_change_the_path_within_its_budget(path):
    assert rationale_of(rationale(path=path, budget=3), GIVEN).path == path


@pytest.mark.parametrize(
    "changes",
    [
        {"path": (*LONG, "More")},
        {"path": ("AddAll", "TakeRest"), "budget": 2},
        {"category": "sums"},
        {"intent": "sum"},
        {"intent": ("sum", "rest")},
        {"path": ("AddAll", "take")},
        {"path": ()},
    ],
    ids=str,
)
def test_a_teacher_may_change_nothing_else(changes):
    text = rationale(**{"path": LONG, "budget": 3, **changes})
    assert rationale_of(text, GIVEN) is None


def test_without_a_route_a_path_is_as_long_as_its_budget():
    assert rationale_of(rationale(path=LONG)).path == LONG
    assert rationale_of(rationale(path=("Halve", "Double"), budget=3)) is None


def test_kept_paths_are_counted_among_whole_rewrites_with_a_route():
    rows = [
        ("a-0", "ok", rationale(path=LONG)),
        ("a-1", "ok", rationale(path=("AddAll", "Halve"), budget=3)),
        ("a-2", "ok", rf"<think>\frac{{1}}{{2}}</think>{rationale(path=LONG)}"),
        ("b-0", "format", "no JSON"),
        ("c-0", "ok", rationale()),  # it had no route
    ]
    rewrites = pl.DataFrame(rows, schema=["sample_id", "status", "rewrite"], orient="row")
    routes = pl.DataFrame({"problem_id": ["a", "b"], "route": [GIVEN, GIVEN]})
    assert kept_paths(rewrites, routes) == (2, 3)
    assert kept_paths(rewrites, routes.clear()) == (0, 0)
