"""sync: killed at any operation on a file, it leaves nothing that looks whole and is not."""

import os
import shutil
import sys

import pytest

from mpd.store.units import units_in
from tests.sync.conftest import MODEL, PARTS, REPORT, is_link

OPERATIONS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.utime", "shutil.move")
EVERY = 3  # operations from one kill to the next
KILLED = 9


def until_killed(number, place, *words):
    """Run a command in a process that is killed at an operation on a file of the test.

    Returns whether it came to its end before.
    """
    child = os.fork()
    if child == 0:
        count = 0

        def kill(event, arguments):
            nonlocal count
            path = str(arguments[0]) if arguments else ""
            if event in OPERATIONS and str(place.folder.parent) in os.path.abspath(path):  # noqa: PTH100
                count += 1
                if count == number:
                    os._exit(KILLED)

        sys.addaudithook(kill)
        try:
            place.sync(*words)
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == 0


def kills():
    """The numbers of operations at which a command is killed, as long as there are any."""
    number = 1
    while True:
        yield number
        number += EVERY


@pytest.fixture
def whole(place):
    """The files that a pull gives of the project."""
    files = place.files()
    del files[f"{PARTS}/complete.parquet"], files[f"{PARTS}/.rows_1.parquet.draft"]
    return files


def require_nothing_half(there, whole):
    """What has the name of a file is that file, and a note or manifest stands for whole files."""
    for name, (data, _) in there.files().items():
        if not name.rpartition("/")[2].startswith(".") or name.endswith(".receipt"):
            assert data == whole[name][0], name
    if (there.folder / MODEL / "manifest.json").is_file():
        assert {name for name in there.files() if name.startswith(MODEL)} >= {
            name for name in whole if name.startswith(MODEL)
        }
    if not (there.folder / "results").is_dir():
        return
    for unit in units_in(there.folder / "results", there.folder / "results/store"):
        if unit.is_entry and unit.note and unit.note.is_file():
            assert unit.place.exists()


def test_a_killed_push_goes_on(place, make_place, tmp_path, whole):
    address, count = f"file://{tmp_path}/remote", 0
    for number in kills():
        shutil.rmtree(tmp_path / "remote", ignore_errors=True)
        if until_killed(number, place, "push", address):
            break
        count += 1
        there = make_place(f"there_{number}")
        if (tmp_path / "remote/experiments/tiny.json").exists():
            there.sync("pull", address)
        else:
            place.sync("push", address)
            there.sync("pull", address)
        assert there.files() == whole
    assert count > 20


def test_a_killed_pull_goes_on(place, make_place, tmp_path, whole):
    address, count = f"file://{tmp_path}/remote", 0
    place.sync("push", address)
    for number in kills():
        there = make_place(f"there_{number}")
        if until_killed(number, there, "pull", address):
            break
        count += 1
        require_nothing_half(there, whole)
        there.sync("pull", address)
        left = {name for name in there.files() if name.endswith(".draft")}
        assert {name: value for name, value in there.files().items() if name not in left} == whole
        assert is_link(there.folder, REPORT, "report")
        assert is_link(there.folder, f"{MODEL}/model.safetensors", "models")
    assert count > 20


def test_a_push_that_is_killed_again_and_again_ends(place, make_place, tmp_path, whole):
    address, attempts = f"file://{tmp_path}/remote", 1
    while not until_killed(60, place, "push", address):
        attempts += 1
        assert attempts < 50
    there = make_place("there")
    there.sync("pull", address)
    assert there.files() == whole
    assert attempts > 1
