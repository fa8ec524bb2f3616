import json

import polars as pl
import pytest

from mpd.report import findings
from mpd.store import schema, table
from tests.test_report import evaluated, metrics_frame, stage_frames

ROUND = {"method": "mpd", "round": 1, "seed": 0}
OTHER = {"method": "mpd", "round": 1, "seed": 1}


def test_lengths_of_every_answer(tmp_path):
    places = {}
    for name, tokens in (("one", 5), ("two", 7)):
        path = tmp_path / name
        table.write(path, evaluated(("a", True, tokens), ("b", False, 9)), schema.EVALUATE, {})
        places[path] = {**ROUND, "benchmark": name}
    assert findings.lengths(places).rows() == [
        ("mpd", 1, "one", 5),
        ("mpd", 1, "one", 9),
        ("mpd", 1, "two", 7),
        ("mpd", 1, "two", 9),
    ]


def test_training_names_every_run(tmp_path):
    trained, places = {}, {tmp_path / "a": ROUND, tmp_path / "b": OTHER}
    for folder in places:
        path = folder / "metrics.parquet"
        table.write(path, metrics_frame(3, 7), schema.METRICS, {})
        trained[folder] = {"metrics": [path]}
    found = findings.training(trained, places)
    assert found.select("method", "round", "seed", "step", "tokens_seen").rows() == [
        ("mpd", 1, 0, 1, 3),
        ("mpd", 1, 0, 2, 7),
        ("mpd", 1, 1, 1, 3),
        ("mpd", 1, 1, 2, 7),
    ]
    assert findings.training({}, {}).is_empty()


def test_funnels_are_sums_over_shards_and_seeds(tmp_path):
    _, samples, _, verdicts = stage_frames([0.5, None, 0.25])
    trained, places = {}, {tmp_path / "a": ROUND, tmp_path / "b": OTHER}
    for folder in places:
        for kind, artifact, frame in (
            ("sample", schema.SAMPLE, samples),
            ("filter", schema.FILTER, verdicts),
        ):
            paths = [folder / kind / f"shard_{number}.parquet" for number in (0, 1)]
            for path, rows in zip(paths, (frame[:2], frame[2:]), strict=True):
                table.write(path, rows, artifact, {})
            trained.setdefault(folder, {})[kind] = paths
    (student,) = findings.funnels(trained, places).items()
    assert student[0] == ("mpd", 1)
    counts = {name: student[1][name] for name in ("sampled", "correct", "kept")}
    assert counts == {"sampled": 6, "correct": 6, "kept": 4}
    assert student[1]["num_tokens"] == 37.5


def test_stage_seconds_are_sums_over_seeds():
    seconds = {"a": {"sample": 5.5, "evaluate": 8.0}, "b": {"sample": 6.0}}
    assert findings.stage_seconds(seconds, {"a": ROUND, "b": OTHER}) == {
        ("mpd", 1): {"sample": 11.5, "evaluate": 8.0}
    }


def test_settings_of_stages_are_told_once(tmp_path):
    places = {tmp_path / "a": ROUND, tmp_path / "b": OTHER}
    for folder in places:
        for note, settings in (
            ("filter/shard_0.json", {"leaks": ["ü"]}),
            ("filter/shard_1.json", {"leaks": []}),
            ("student/provenance.json", {"seed": places[folder]["seed"]}),
            ("student/config.json", None),
            ("answers/dev.json", {"temperature": 0}),
            ("answers/former.json", {"temperature": 9}),
            ("evaluate/dev.json", {"max_new_tokens": 9}),
        ):
            (folder / note).parent.mkdir(parents=True, exist_ok=True)
            (folder / note).write_text(json.dumps({"settings": settings}))
    first, second = "mpd, round 1, seed 0", "mpd, round 1, seed 1"
    assert findings.settings_of_stages(places, ["dev", "absent"]) == {
        "filter": {'{\n "leaks": [\n  "ü"\n ]\n}': [first, second]},
        "student": {'{\n "seed": 0\n}': [first], '{\n "seed": 1\n}': [second]},
        "answers dev": {'{\n "temperature": 0\n}': [first, second]},
        "evaluate dev": {'{\n "max_new_tokens": 9\n}': [first, second]},
    }


def test_versions_are_of_what_is_installed():
    found = findings.versions()
    assert found["polars"] == pl.__version__
    assert "no_such_package" not in found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "PACKAGES", ("no_such_package", "polars"))
        assert findings.versions() == {"polars": pl.__version__}


def test_model_manifests_by_role(tmp_path):
    for role in ("teacher", "student_seed_0", "student_seed_1"):
        (tmp_path / role).mkdir()
        (tmp_path / role / "manifest.json").write_text(json.dumps({"digest": role}))
    (tmp_path / "head").mkdir()
    assert findings.model_manifests(tmp_path, [0, 0]) == {
        "student_seed_0": {"digest": "student_seed_0"},
        "teacher": {"digest": "teacher"},
    }
