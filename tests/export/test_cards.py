"""The cards of what is handed over: nothing in them says where files were on this machine."""

import json
from pathlib import Path

import polars as pl
import pytest
import yaml

from mpd.export.cards import data_card, model_card, origin
from mpd.export.results import Results
from mpd.job.layout import Round
from mpd.store import schema

HOME = "/home/somebody/secret"
ROW = {
    "method": "mpd",
    "round": 1,
    "seed": 0,
    "benchmark": "held_out",
    "num_samples": 4,
    **dict.fromkeys(("accuracy", "accuracy_se", "mean_tokens_se", "truncation_rate"), 0.5),
    **dict.fromkeys(("mean_tokens", "tokens_median", "tokens_p90", "tokens_max"), 20.0),
}


@pytest.fixture
def results():
    settings = {
        "engine_arguments": {"lora": [f"{HOME}/adapter"], "model": {"path": f"{HOME}/draft"}},
        "trajectories": f"{HOME}/mine.jsonl",
        "prompt": "/no_think {problem}",
        "close": "\n</think>\n\n",
    }
    return Results(
        round=Round.at(Path("results/x/mpd/seed_0/round_1")),
        summary=pl.DataFrame([ROW]),
        comparison=pl.DataFrame(schema=dict.fromkeys(schema.COMPARISON.names, pl.Float64)),
        chosen=1,
        models={
            "student": {"source": "folder", "path": f"{HOME}/student"},
            "teacher": {"source": "hub", "path": "lab/teacher", "revision": "0" * 40},
        },
        problems={
            "train": {"source": "file", "path": f"{HOME}/train.jsonl"},
            "held_out": {"source": "file", "path": f"{HOME}/test.jsonl"},
        },
        stages={"sample": {json.dumps(settings): ["mpd, round 1, seed 0"]}},
        versions={"mpd": "1"},
    )


def test_no_card_says_where_files_were(results):
    cards = [model_card(results, None), data_card(results, {"round_1": 3}, None)]
    assert not [card for card in cards if "somebody" in card]
    for name in ("student", "train.jsonl", "lab/teacher"):
        assert all(name in card for card in cards)


def test_settings_are_what_they_were_but_for_paths(results):
    text = model_card(results, None).split("```json\n")[1].split("```")[0]
    assert json.loads(text) == {
        "engine_arguments": {"lora": ["adapter"], "model": {"path": "draft"}},
        "trajectories": "mine.jsonl",
        "prompt": "/no_think {problem}",
        "close": "\n</think>\n\n",
    }


def test_results_of_a_data_set_of_the_hub_name_it(results):
    results.problems["held_out"] = {"source": "hub", "path": "lab/problems", "revision": "0" * 40}
    head = yaml.safe_load(model_card(results, None).split("---")[1])
    (model,) = head["model-index"]
    assert {each["dataset"]["type"] for each in model["results"]} == {"lab/problems"}


def test_made_problems_name_their_tasks():
    tasks = [{"task": "chain_sum"}, {"task": "gcd"}]
    named = origin({"source": "reasoning_gym", "tasks": tasks, "split": "train"})
    assert named.startswith("`chain_sum, gcd` of the package reasoning-gym")
    assert "gcd" in origin({"source": "reasoning_gym", "task": "gcd"})
