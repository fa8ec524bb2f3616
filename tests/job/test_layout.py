"""Paths of the results, as the documents have them."""

from pathlib import Path

import pytest

from mpd.job.layout import Experiment, Round, place_in_experiment

TINY = Experiment(Path("results/tiny"))
ROUND = TINY.round("mpd", 0, 2)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (TINY.report, "results/tiny/report.html"),
        (TINY.teacher, "results/tiny/models/teacher/manifest.json"),
        (TINY.base_student(3), "results/tiny/models/student_seed_3/manifest.json"),
        (TINY.head, "results/tiny/models/head/head.safetensors"),
        (TINY.problems("dev"), "results/tiny/problems/train/dev.parquet"),
        (TINY.problems("aime"), "results/tiny/problems/eval/aime.parquet"),
        (TINY.train_shards(2)[1], "results/tiny/problems/train/shard_1.parquet"),
        (ROUND.folder, "results/tiny/mpd/seed_0/round_2"),
        (ROUND.shards("filter", 1)[0], "results/tiny/mpd/seed_0/round_2/filter/shard_0.parquet"),
        (TINY.embedder, "results/tiny/models/embedder/manifest.json"),
        (ROUND.bank, "results/tiny/mpd/seed_0/round_2/bank/bank.parquet"),
        (ROUND.routes, "results/tiny/mpd/seed_0/round_2/bank/routes.parquet"),
        (ROUND.student, "results/tiny/mpd/seed_0/round_2/student/manifest.json"),
        (ROUND.metrics, "results/tiny/mpd/seed_0/round_2/student/metrics.parquet"),
        (ROUND.before.student, "results/tiny/mpd/seed_0/round_1/student/manifest.json"),
        (ROUND.before.before.student, "results/tiny/models/student_seed_0/manifest.json"),
        (ROUND.base.student, "results/tiny/models/student_seed_0/manifest.json"),
        (ROUND.benchmark("answers", "dev"), "results/tiny/mpd/seed_0/round_2/answers/dev.parquet"),
    ],
)
def test_paths(path, expected):
    assert path == Path(expected)


def test_rounds_come_method_by_method_and_seed_by_seed():
    places = [place.name for place in TINY.rounds(["mpd", "opd"], [0, 3], range(1, 3))]
    assert places == [
        f"{method}/seed_{seed}/round_{number}"
        for method in ("mpd", "opd")
        for seed in (0, 3)
        for number in (1, 2)
    ]


@pytest.mark.parametrize("folder", ["results/tiny", "/a b/ü", "."])
def test_a_round_is_known_by_its_folder(folder):
    there = Experiment(Path(folder)).round("mpd-2", 11, 3)
    assert Round.at(there.folder) == there
    assert there.name == "mpd-2/seed_11/round_3"
    assert list(there.place.items()) == [("method", "mpd-2"), ("round", 3), ("seed", 11)]


@pytest.mark.parametrize("folder", ["results/tiny", "mpd/seed_0", "mpd/seed_x/round_1", "round_1"])
def test_another_folder_is_no_round(folder):
    with pytest.raises(ValueError, match=f"^{folder}: not a round; give results/"):
        Round.at(Path(folder))


def test_files_of_shards_with_their_numbers(tmp_path):
    for name in ("filter/shard_0.parquet", "filter/shard_12.json", "filter/shard_x", "student/a"):
        path = tmp_path / "mpd/seed_0/round_1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [(number, path.name) for number, path in Experiment(tmp_path).shard_files()]
    assert sorted(found) == [(0, "shard_0.parquet"), (12, "shard_12.json")]


@pytest.mark.parametrize(
    ("output", "place"),
    [
        (
            "results/tiny/mpd/seed_0/round_1/filter/shard_0.parquet",
            "mpd/seed_0/round_1/filter/shard_0",
        ),
        ("results/tiny/report.html", "report"),
        ("elsewhere/tiny/report.html", ""),
        ("report.html", ""),
    ],
)
def test_the_place_of_an_output_in_its_experiment(output, place):
    assert place_in_experiment(Path(output)) == place
