"""The files behind a report."""

import os
from pathlib import Path

from mpd.job.layout import Round
from mpd.report import rounds
from mpd.store import schema, table
from tests.test_report import evaluated, metrics_frame

ROUND = Round.at(Path("results/tiny/mpd/seed_3/round_1"))


def test_files_of_a_round():
    folder = Path("results/tiny/mpd/seed_3/round_1")
    assert rounds.round_files(ROUND, 2) == {
        **{
            stage: [folder / stage / "shard_0.parquet", folder / stage / "shard_1.parquet"]
            for stage in ("sample", "compress", "filter", "logits")
        },
        "metrics": [folder / "student" / "metrics.parquet"],
    }


def test_evaluations_with_their_places():
    folder = Path("results/tiny/mpd/seed_3/round_1/evaluate")
    place = {"method": "mpd", "round": 1, "seed": 3}
    assert rounds.evaluation_files([ROUND], ["dev", "aime"]) == {
        folder / "dev.parquet": {**place, "benchmark": "dev"},
        folder / "aime.parquet": {**place, "benchmark": "aime"},
    }


def test_digests_are_named_by_place(tmp_path):
    path = tmp_path / "dev.parquet"
    content = table.write(path, evaluated(("a", True, 5)), schema.EVALUATE, {})
    place = {"method": "mpd", "round": 1, "seed": 3, "benchmark": "dev"}
    assert rounds.evaluation_digests({path: place}) == {"mpd 1 3 dev": content}
    content = table.write(path, metrics_frame(3, 7), schema.METRICS, {})
    digests = rounds.round_digests({ROUND: {"metrics": [path]}}, {ROUND: {"sample": 1.5}})
    assert digests["mpd/seed_3/round_1 metrics 0"] == content
    others = rounds.round_digests({ROUND: {"metrics": [path]}}, {ROUND: {"sample": 2.5}})
    assert others.pop("seconds") != digests.pop("seconds")
    assert others == digests


def test_links_are_counted_by_inode(tmp_path):
    one, two, three, copy = (tmp_path / name for name in ("one", "two", "three", "copy"))
    one.write_text("rows")
    copy.write_text("rows")
    os.link(one, two)
    os.link(one, three)
    found = rounds.count_links({"sample": [one, two, three, copy], "filter": [copy], "none": []})
    assert [tuple(row.values()) for row in found] == [
        ("sample", 4, 2, 2),
        ("filter", 1, 1, 0),
        ("none", 0, 0, 0),
    ]
