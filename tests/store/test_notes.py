"""Damaged notes: each is named by whoever reads it, and no result changes by it."""

import json
import os
import shutil
from argparse import Namespace

import polars as pl
import pytest

from mpd import audit, prune
from mpd.job.layout import Round
from mpd.report import costs, origin
from mpd.store import table
from mpd.store.differences import note_beside
from mpd.store.files import checksummed
from mpd.store.links import entries_noted_in
from mpd.store.notes import RECEIPT, fault_of
from mpd.store.outputs import FolderOutput, TableOutput
from mpd.store.publishing import Store
from mpd.store.schema import Artifact, Column
from mpd.why.findings import Comparison

NUMBERS = Artifact("numbers", 1, "numbers", ("number",), (Column("number", "int64", "", ""),))


def numbers(path, count=3):
    """An output with some numbers."""

    def compute(parts):
        parts.write(table.frame_of([{"number": number} for number in range(count)], NUMBERS))

    return TableOutput(NUMBERS, path, {"count": count}, {"of": "nothing"}, compute)


@pytest.fixture
def round(tmp_path):
    """A round in which each of two shards has its own content."""
    return Round.at(tmp_path / "results/tiny/mpd/seed_0/round_1")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results/store")


@pytest.fixture
def output(round, store):
    """A shard with its note, after another one."""
    one, other = (numbers(path, count) for count, path in enumerate(round.shards("sample", 2), 3))
    store.publish(other)
    return store.publish(one)


def edit(**changes):
    def change(note):
        write_in_place(note, json.dumps({**json.loads(note.read_text()), **changes}))

    return change


def drop(*keys):
    def change(note):
        content = json.loads(note.read_text())
        write_in_place(note, json.dumps({key: content[key] for key in content if key not in keys}))

    return change


def flip(text):
    """Another byte in place of the first of a text."""

    def change(note):
        content = note.read_text()
        write_in_place(note, content.replace(text, chr(ord(text[0]) ^ 1) + text[1:], 1))

    return change


def write_in_place(note, text):
    """As damage does: the note of the entry is the same file."""
    with note.open("r+") as file:
        file.truncate()
        file.write(text)


def spend(note):
    content = json.loads(note.read_text())
    edit(spent={**content["spent"], "seconds": 1e6})(note)


DAMAGE = {
    "cut": (lambda note: os.truncate(note, 40), "not JSON ("),
    "empty": (lambda note: os.truncate(note, 0), "not JSON ("),
    "zeros": (lambda note: write_in_place(note, "\0" * 99), "not JSON ("),
    "a list": (lambda note: write_in_place(note, "[1]"), "a JSON list, not an object"),
    "nothing in it": (lambda note: write_in_place(note, "{}"), "expected kind to be str, found no"),
    "deep": (lambda note: write_in_place(note, "[" * 10**5), "JSON that is nested too deep"),
    "settings a list": (edit(settings=[]), "expected settings to be dict, found []"),
    "sizes a number": (edit(sizes=5), "expected sizes to be dict of int, found 5"),
    "sizes of text": (edit(sizes={"": "5"}), "expected sizes to be dict of int, found {'': '5'}"),
    "digests a list": (edit(digests=[]), "expected digests to be dict of str, found []"),
    "digests of others": (edit(digests={"a": "b"}), "expected digests of the files that it has"),
    "spent a list": (edit(spent=[1]), "expected spent to be dict of int, found [1]"),
    "spent null": (edit(spent={"seconds": None}), "expected spent to be dict of int, found {'sec"),
    "inputs of numbers": (edit(inputs={"a": 1}), "expected inputs to be dict of str, found {'a'"),
    "kind a number": (edit(kind=7), "expected kind to be str, found 7"),
    "a key more": (edit(comment="mine"), "expected the keys of a note, found 'comment'"),
    "no kind": (drop("kind"), "expected kind to be str, found nothing"),
    "no settings": (drop("settings"), "expected settings to be dict, found nothing"),
    "no sizes": (drop("sizes"), "expected sizes to be dict of int, found nothing"),
    "no version": (drop("version"), "expected version to be int or list, found nothing"),
    "no inputs": (drop("inputs"), "expected inputs to be dict of str, found nothing"),
    "no spent": (drop("spent"), "expected the checksum of its other keys, found '"),
    "other settings": (edit(settings={"count": 4}), "expected the checksum of its other keys"),
    "other time": (spend, "expected the checksum of its other keys, found '"),
    "a flipped number": (flip("3\n"), "expected the checksum of its other keys, found '"),
    "a flipped name": (flip("checksum"), "expected the keys of a note, found 'bhecksum'"),
}
READERS = {
    "stages": lambda output, store, round: store.require_unchanged(output),
    "costs": lambda output, store, round: costs.spent_by_stage(round, 1, []),
    "origin": lambda output, store, round: origin.settings_of_stages([round], []),
    "audit": lambda output, store, round: audit.settings_of(output),
    "differences": lambda output, store, round: note_beside(output),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_note_is_refused_by_its_name(output, store, round, damage, reader):
    change, message = DAMAGE[damage]
    note = output.with_suffix(".json")
    change(note)
    with pytest.raises(ValueError) as caught:
        READERS[reader](output, store, round)
    assert str(caught.value).startswith(f"{note}: {message}")
    assert str(caught.value).endswith(
        f"; run again with --forcerun {output}, which puts whole files in their place"
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [*DAMAGE, "of another shard"])
def test_the_store_computes_again_what_a_damaged_note_is_beside(
    output, store, round, damage, caplog
):
    note = output.with_suffix(".json")
    content, times = output.read_bytes(), json.loads(note.read_text())["spent"]
    if damage == "of another shard":
        write_in_place(note, round.shards("sample", 2)[1].with_suffix(".json").read_text())
    else:
        DAMAGE[damage][0](note)
    entry = next(path for path in (store.root / "numbers").iterdir() if path.samefile(output))
    with caplog.at_level("INFO", "mpd"):
        store.publish(numbers(output))
    assert f"{entry.with_suffix('.json')} is damaged (expected " in caplog.text
    assert f"; {entry} is computed again" in caplog.text
    assert output.read_bytes() == content
    again = note_beside(output)
    assert again["spent"].keys() == times.keys()
    store.require_unchanged(output)


@pytest.mark.parametrize("damage", DAMAGE)
def test_why_names_a_damaged_note_and_that_it_is_computed_again(output, store, damage):
    change, message = DAMAGE[damage]
    note = output.with_suffix(".json")
    change(note)
    comparison = Comparison()
    assert comparison.take(Namespace(rule="sample"), store, numbers(output)) is None
    (cause,) = comparison.causes
    assert cause.startswith(f"{note}: {message}")


@pytest.mark.parametrize("damage", DAMAGE)
def test_prune_names_a_damaged_note_of_a_copy(tmp_path, output, damage, caplog):
    copy = shutil.copytree(tmp_path / "results/tiny", tmp_path / "copy/results/tiny")
    note = copy / output.relative_to(tmp_path / "results/tiny").with_suffix(".json")
    DAMAGE[damage][0](note)
    root = tmp_path / "results/store"
    noted = entries_noted_in(copy, root)
    assert len(noted) == 1  # that of the other shard
    if damage not in ("nothing in it", "no kind", "a list", "deep", "zeros", "cut", "empty"):
        assert caplog.text.count(f"{note}: expected ") == 1
    assert not list(prune.prune(root, delete=True, noted=noted))  # the outputs link to all of it


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_note_in_the_place_of_an_output_is_replaced(output, store, damage):
    """Another output is linked over it."""
    DAMAGE[damage][0](output.with_suffix(".json"))
    store.publish(numbers(output, 5))
    assert note_beside(output)["settings"] == {"count": 5}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_note_in_a_folder(tmp_path, store, damage):
    folder = tmp_path / "results/tiny/problems/train"
    change, message = DAMAGE[damage]

    def compute(place, scratch):
        (place / "shard_0.parquet").write_text("rows")

    made = FolderOutput("problems", 1, folder, {"count": 3}, {}, compute)
    store.publish(made)
    note = folder / "provenance.json"
    change(note)
    with pytest.raises(ValueError) as caught:
        store.require_unchanged(folder / "shard_0.parquet")
    assert str(caught.value).startswith(f"{note}: {message}")
    store.publish(made)
    assert contents(folder) == {"shard_0.parquet", "provenance.json"}
    store.require_unchanged(folder / "shard_0.parquet")


def contents(folder):
    return {path.name for path in folder.iterdir() if path.suffix != RECEIPT}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"": 5}', '{"": ["a"]}', '{"/copies": 5}', '{"/copies": [1, "a\\u0000b"]}'],
)
def test_damaged_marks_only_cost_reading_again(output, store, text):
    (seen,) = (
        path.with_suffix(".seen")
        for path in (store.root / "numbers").iterdir()
        if path.samefile(output)
    )
    seen.write_text(text)
    store.require_unchanged(output)
    list(prune.unused(store.root))
    before = output.read_bytes()
    store.publish(numbers(output))
    assert output.read_bytes() == before
    assert pl.read_parquet(output)["number"].to_list() == [0, 1, 2]


def test_a_note_of_an_earlier_version_has_no_fault(output):
    content = json.loads(output.with_suffix(".json").read_text())
    assert fault_of(content) == ""
    for key in ("checksum", "digests", "spent"):
        del content[key]
        assert fault_of(content) == ""


def test_a_note_of_a_later_version_may_have_more_keys(output):
    content = json.loads(output.with_suffix(".json").read_text())
    assert fault_of({**content, "later": 1}).startswith("expected the keys of a note")
    assert fault_of(checksummed({**content, "later": 1})) == ""
