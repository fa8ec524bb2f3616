"""What `show --made-from` lists: all that contains a sample, up to the students of it."""

import re

import pytest

from mpd.show import __main__ as show
from tests.lineage import SAMPLE, write_experiment
from tests.test_report import HOSTILE


@pytest.fixture
def listed(tmp_path, capsys, monkeypatch):
    """A function that lists; it returns pairs of a path in the experiment and what it has."""
    monkeypatch.chdir(tmp_path)
    write_experiment(tmp_path / "results/a")

    def listed(*words):
        show.main([*words])
        lines = capsys.readouterr().out.splitlines()
        parts = [re.fullmatch(r"([0-9a-f]{12})  results/a/(\S+): (.*)", line) for line in lines]
        assert all(parts), lines
        assert len({part[1] for part in parts}) == len({part[2] for part in parts})
        return [part.group(2, 3) for part in parts]

    return listed


def of_round(number):
    place = f"mpd/seed_0/round_{number}"
    return [
        (f"{place}/sample/shard_0.parquet", "trajectory, 100 tokens, stop"),
        (f"{place}/compress/shard_0.parquet", "rewrite 0: ok, 1 tokens; rewrite 1: ok, 1 tokens"),
        (
            f"{place}/filter/shard_0.parquet",
            "rewrite 0: correct, kept; rewrite 1: correct, kept",
        ),
        (f"{place}/logits/shard_0.parquet", "rewrite 1: scored, 7 tokens to train on"),
        (f"{place}/student", "student trained on it"),
    ]


PROBLEM = ("problems/train/shard_0.parquet", "its problem, gold 4")
LATER = ("mpd/seed_0/round_2/student", "student that goes on from it")


def test_all_rounds_are_listed_up_to_their_students(listed):
    assert listed("--made-from", SAMPLE) == [PROBLEM, *of_round(1), LATER, *of_round(2)]


def test_a_round_is_listed_alone(listed):
    found = listed("results/a/mpd/seed_0/round_2", "--made-from", SAMPLE)
    assert found == [PROBLEM, *of_round(2)]


def test_what_was_not_kept_ends_before_the_cache(listed):
    found = listed("results/a", "--made-from", "p1-0")
    assert found[0][0] == "problems/train/shard_1.parquet"
    assert {path.split("/")[-2] for path, _ in found[1:]} == {"sample", "compress", "filter"}


def test_an_unknown_sample_is_refused(listed):
    with pytest.raises(ValueError, match="results: nothing there has a sample"):
        listed("--made-from", f"\x1b[2J{HOSTILE}")
    with pytest.raises(ValueError, match="which round"):
        listed()
