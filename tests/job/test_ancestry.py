"""What was made from what, by the notes alone."""

import shutil

import pytest

from mpd.job.ancestry import ancestry, experiment_at
from mpd.store.files import read_json
from tests.lineage import write_experiment
from tests.notes import write_note


@pytest.fixture
def folder(tmp_path):
    return write_experiment(tmp_path / "results/a")


def named(artifacts, folder):
    """The sources of each artifact, by their first places in the experiment."""
    places = {key: str(made.places[0].relative_to(folder)) for key, made in artifacts.items()}
    return {
        places[key]: sorted(places[source] for source in made.sources)
        for key, made in artifacts.items()
    }


def test_notes_name_the_sources_of_every_artifact(folder):
    found = named(ancestry(folder), folder)
    first, second = "mpd/seed_0/round_1", "mpd/seed_0/round_2"
    assert found["models/teacher"] == found["problems/train"] == []
    assert found[f"{first}/sample/shard_1.parquet"] == ["models/student_seed_0", "problems/train"]
    assert found[f"{second}/filter/shard_0.parquet"] == [
        f"{first}/student",
        f"{second}/compress/shard_0.parquet",
        f"{second}/sample/shard_0.parquet",
        "problems/train",
    ]
    # Shards without rows have equal content: those of its own round are meant.
    assert found[f"{second}/student"] == [
        f"{first}/student",
        f"{second}/logits/shard_0.parquet",
        f"{second}/logits/shard_1.parquet",
    ]


def test_what_has_gone_is_named(folder):
    shutil.rmtree(folder / "mpd/seed_0/round_1/student")
    artifacts = ancestry(folder)
    (student,) = [made for made in artifacts.values() if made.kind == "student"]
    assert ("student", "student1") in student.missing
    # The models of this fixture have no teacher with that digest.
    assert ("teacher", "theteacher") in student.missing


def test_an_artifact_that_was_linked_twice_has_two_places(folder):
    copy = folder / "opd/seed_0/round_1/sample"
    shutil.copytree(folder / "mpd/seed_0/round_1/sample", copy)
    places = [made.places for made in ancestry(folder).values() if len(made.places) > 1]
    assert [[place.parts[-5] for place in each] for each in places] == [["mpd", "opd"]] * 2


def test_damaged_notes_and_other_folders_are_refused(tmp_path, folder):
    other = write_experiment(tmp_path / "results/b")
    assert experiment_at(folder) == folder
    with pytest.raises(ValueError, match=r"give the folder of one experiment; there are .*a, .*b"):
        experiment_at(tmp_path / "results")
    shutil.rmtree(other)
    assert experiment_at(tmp_path / "results") == folder
    note = folder / "mpd/seed_0/round_1/sample/shard_0.json"
    write_note(note, **{**read_json(note), "inputs": 3})
    with pytest.raises(ValueError, match=r"shard_0.json: expected inputs to be dict"):
        ancestry(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no artifact with a note there"):
        ancestry(tmp_path / "empty")
