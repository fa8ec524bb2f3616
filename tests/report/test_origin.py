"""Where a report came from."""

import json

import polars as pl
import pytest

from mpd.job.layout import Experiment
from mpd.report import origin
from mpd.store.manifest import described
from tests.notes import write_note


def test_settings_that_rounds_share_are_listed_once(tmp_path):
    experiment = Experiment(tmp_path)
    rounds = [experiment.round("mpd", seed, 1) for seed in (0, 1)]
    for round in rounds:
        for note, settings in (
            ("filter/shard_0.json", {"leaks": ["ü"]}),
            ("filter/shard_1.json", {"leaks": []}),
            ("student/provenance.json", {"seed": round.seed}),
            ("answers/dev.json", {"temperature": 0}),
            ("answers/former.json", {"temperature": 9}),
            ("evaluate/dev.json", {"max_new_tokens": 9}),
        ):
            write_note(round.folder / note, settings=settings)
        (round.folder / "student/config.json").write_text('{"settings": null}')
    first, second = "mpd, round 1, seed 0", "mpd, round 1, seed 1"
    assert origin.settings_of_stages(rounds, ["dev", "absent"]) == {
        "filter": {'{\n "leaks": [\n  "ü"\n ]\n}': [first, second]},
        "distill": {'{\n "seed": 0\n}': [first], '{\n "seed": 1\n}': [second]},
        "answers dev": {'{\n "temperature": 0\n}': [first, second]},
        "evaluate dev": {'{\n "max_new_tokens": 9\n}': [first, second]},
    }


def test_a_base_student_was_not_trained_here(tmp_path):
    base = Experiment(tmp_path).round("base", 0, 0)
    write_note(base.student.parent / "provenance.json", settings={"source": "tiny"})
    assert origin.settings_of_stages([base], ["dev"]) == {}


def test_versions_of_the_packages_that_are_installed():
    assert origin.versions()["polars"] == pl.__version__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(origin, "PACKAGES", ("no_such_package", "polars"))
        assert origin.versions() == {"polars": pl.__version__}


def manifest_of(role):
    texts = dict.fromkeys(("weights", "tokenizer", "token_map", "chat_template"), "abc")
    return {**texts, "digest": role, "context_length": 1024, "files": {"config.json": 3}}


def test_model_manifests_by_role(tmp_path):
    for role in ("teacher", "student_seed_0", "student_seed_1", "head"):
        path = tmp_path / "models" / role / "manifest.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(described(manifest_of(role), {"config.json": "abc"})))
    assert origin.model_manifests(Experiment(tmp_path), {0}) == {
        role: manifest_of(role) for role in ("student_seed_0", "teacher")
    }
    path = Experiment(tmp_path).teacher
    path.write_text(path.read_text().replace("1024", "1025"))
    with pytest.raises(ValueError, match=f"^{path}: expected the checksum of its other keys"):
        origin.model_manifests(Experiment(tmp_path), {0})
