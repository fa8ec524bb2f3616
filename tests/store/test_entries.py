"""A stored entry: what makes it whole, and how an output is linked to it."""

import json
import os

import pytest

from mpd.store.entries import inspect, install
from mpd.store.links import link, other_links
from mpd.store.notes import RECEIPT
from mpd.store.outputs import fingerprint

OLD = {"manifest.json": "old manifest", "weights": "1", "deep/config": "2", "gone": "3"}
NEW = {"manifest.json": "new manifest", "weights": "4", "deep/config": "5"}


@pytest.fixture
def made(tmp_path):
    """A function that makes a folder entry of these files; it returns entry and note."""

    def make(name, files):
        fresh = tmp_path / f"{name}.fresh"
        for path, text in files.items():
            (fresh / path).parent.mkdir(parents=True, exist_ok=True)
            (fresh / path).write_text(text)
        meaning = {"kind": "models", "version": 1, "settings": {"name": name}, "inputs": {}}
        entry = tmp_path / fingerprint(**meaning)
        note = entry.with_suffix(".json")
        install(fresh, entry, note, meaning)
        return entry, note

    return make


def contents(folder):
    """The files of an output by their names, without its receipt."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != RECEIPT]
    return {str(path.relative_to(folder)): path.read_text() for path in paths}


def test_what_was_published_goes_and_a_stranger_stays(tmp_path, made):
    output = tmp_path / "out"
    strangers = {"thesis.tex": "mine", "deep/notes": "mine too"}
    for name, text in strangers.items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text(text)
    link(*made("old", OLD), output)
    new, note = made("new", NEW)
    link(new, note, output)
    assert contents(output) == {**strangers, **NEW, "provenance.json": note.read_text()}


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[1]", '{"sizes": {}}', "\x00"], ids=lambda text: repr(text)
)
def test_a_provenance_that_is_no_note_takes_nothing_away(tmp_path, made, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "provenance.json").write_text(text)
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    new, note = made("new", NEW)
    link(new, note, tmp_path / "out")
    assert contents(tmp_path / "out") == {
        **NEW,
        "thesis.tex": "mine",
        "provenance.json": note.read_text(),
    }


def test_no_kill_leaves_old_files_beside_new_ones(tmp_path, made, monkeypatch):
    """The process stops before each of its steps in turn; then the folder is linked again."""
    old, new = made("old", OLD), made("new", NEW)
    of_new = {**NEW, "provenance.json": new[1].read_text()}
    of_old = {**OLD, "provenance.json": old[1].read_text()}
    steps_left = 0

    def stopping(step):
        def counted(*arguments, **options):
            nonlocal steps_left
            if not steps_left:
                raise KeyboardInterrupt
            steps_left -= 1
            return step(*arguments, **options)

        return counted

    seen = []
    for number in range(100):
        output = tmp_path / f"out_{number}"
        link(*old, output)
        with monkeypatch.context() as patch:
            steps_left = number
            patch.setattr(os, "unlink", stopping(os.unlink))
            patch.setattr(os, "link", stopping(os.link))
            try:
                link(*new, output)
            except KeyboardInterrupt:
                finished = False
            else:
                finished = True
        found = contents(output)
        assert found.items() <= of_old.items() or found.items() <= of_new.items()
        assert not found or "provenance.json" in found  # by which the next job clears the rest
        seen.append(found)
        link(*new, output)
        assert contents(output) == of_new
        if finished:
            break
    assert {} in seen
    assert seen[-1] == of_new


@pytest.mark.parametrize(
    "text",
    [
        *("", '{"kind": "mod', "{}", "[]", "\x00\x00"),
        *('{"sizes": null}', '{"sizes": [1]}', '{"sizes": 5}'),
        *('{"sizes": {"a": 1}, "digests": {}}', '{"sizes": {"a": 1}, "digests": ["a"]}'),
    ],
)
def test_an_entry_with_a_torn_note_is_not_whole(made, text):
    entry, note = made("model", NEW)
    assert inspect(entry, note).changed == ()
    note.write_text(text)
    assert inspect(entry, note) is None


@pytest.mark.parametrize("name", ["../thesis.tex", "{folder}/thesis.tex", ""])
def test_names_that_lead_out_of_a_folder_take_nothing_away(tmp_path, made, name):
    victim, output = tmp_path / "thesis.tex", tmp_path / "out"
    victim.write_text("mine")
    output.mkdir()
    sizes = {name.format(folder=tmp_path): 4}
    (output / "provenance.json").write_text(json.dumps({"sizes": sizes}))
    link(*made("new", NEW), output)
    assert victim.read_text() == "mine"


def test_a_folder_that_somebody_put_on_another_disk_is_replaced(tmp_path, made):
    entry, note = made("model", OLD)
    entry.rename(tmp_path / "elsewhere")
    entry.symlink_to(tmp_path / "elsewhere")
    assert made("model", NEW) == (entry, note)
    assert contents(entry) == NEW
    assert contents(tmp_path / "elsewhere") == OLD


def test_what_is_written_while_bytes_are_read_is_read_again(tmp_path, made, monkeypatch):
    """An edit that comes after its file was read is no part of what was found right."""
    entry, note = made("model", NEW)
    link(entry, note, tmp_path / "out")
    os.utime(entry / "weights", (1_000_000_000, 1_000_000_000))
    before = inspect(entry, note)
    assert before.changed == ()
    (entry / "weights").write_text("9")
    link(entry, note, tmp_path / "out", before.marks)
    assert inspect(entry, note).changed == ("weights",)


def test_what_is_installed_is_on_the_disk_before_it_has_its_name(made, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("mpd.store.entries.sync", synced.append)
    entry, note = made("model", {"a": "1", "b/c": "2"})
    fresh = tmp_path / "model.fresh"
    assert synced == [fresh / "a", fresh / "b/c", note.with_name(f".{note.name}.draft")]
    noted = json.loads(note.read_text())
    assert set(noted.pop("digests")) == {"a", "b/c"}
    assert len(noted.pop("checksum")) == 64
    assert noted == {
        "kind": "models",
        "version": 1,
        "settings": {"name": "model"},
        "inputs": {},
        "sizes": {"a": 1, "b/c": 1},
    }
    assert contents(entry) == {"a": "1", "b/c": "2"}


def test_other_links_are_those_of_other_outputs(tmp_path, made):
    entry, note = made("model", NEW)
    counts = [other_links(entry, tmp_path / "one")]
    for name in ("one", "two", "three"):
        link(entry, note, tmp_path / name)
        counts.append(other_links(entry, tmp_path / "one"))
    counts.append(other_links(entry, tmp_path / "nowhere"))
    assert counts == [0, 0, 1, 2, 3]
