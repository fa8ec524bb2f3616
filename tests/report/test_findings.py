from pathlib import Path

from mpd.job.layout import Experiment
from mpd.report import findings
from mpd.store import schema, table
from tests.test_report import evaluated, metrics_frame, stage_frames

ROUND = Experiment(Path("results/tiny")).round("mpd", 0, 1)
OTHER = Experiment(Path("results/tiny")).round("mpd", 1, 1)


def test_lengths_of_every_answer(tmp_path):
    places = {}
    for name, tokens in (("one", 5), ("two", 7)):
        path = tmp_path / name
        table.write(path, evaluated(("a", True, tokens), ("b", False, 9)), schema.EVALUATE, {})
        places[path] = {**ROUND.place, "benchmark": name}
    columns = ("method", "round", "benchmark", "num_tokens")
    assert findings.lengths(places).select(columns).rows() == [
        ("mpd", 1, "one", 5),
        ("mpd", 1, "one", 9),
        ("mpd", 1, "two", 7),
        ("mpd", 1, "two", 9),
    ]


def test_training_names_every_run(tmp_path):
    path = tmp_path / "metrics.parquet"
    table.write(path, metrics_frame(3, 7), schema.METRICS, {})
    found = findings.training({ROUND: {"metrics": [path]}, OTHER: {"metrics": [path]}})
    assert found.select("method", "round", "seed", "step", "tokens_seen").rows() == [
        ("mpd", 1, 0, 1, 3),
        ("mpd", 1, 0, 2, 7),
        ("mpd", 1, 1, 1, 3),
        ("mpd", 1, 1, 2, 7),
    ]
    assert findings.training({}).is_empty()


def test_funnels_are_sums_over_shards_and_seeds(tmp_path):
    _, samples, _, verdicts = stage_frames([0.5, None, 0.25])
    files = {}
    for artifact, frame in ((schema.SAMPLE, samples), (schema.FILTER, verdicts)):
        paths = [tmp_path / artifact.name / f"shard_{number}.parquet" for number in (0, 1)]
        for path, rows in zip(paths, (frame[:2], frame[2:]), strict=True):
            table.write(path, rows, artifact, {})
        files[artifact.name] = paths
    ((student, funnel),) = findings.funnels({ROUND: files, OTHER: files}).items()
    assert student == ("mpd", 1)
    counts = {name: funnel[name] for name in ("sampled", "correct", "kept")}
    assert counts == {"sampled": 6, "correct": 6, "kept": 4}
    assert funnel["num_tokens"] == 37.5
