"""Who may write what: the tests themselves, stored files, and files of other users."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ordinary import ANNA, NEEDS_ROOT, ORDINARY

from mpd import rights

LONG_AGO = 1_000_000_000_123_456_789


def test_the_tests_may_not_write_what_a_mode_forbids(tmp_path):
    path = tmp_path / "file"
    path.touch(0o444)
    assert not os.access(path, os.W_OK)
    with pytest.raises(PermissionError):
        path.write_text("")


def test_commands_may_neither_write_nor_read_what_a_mode_forbids(tmp_path):
    (tmp_path / "read-only").touch(0o444)
    (tmp_path / "secret").touch(0o000)
    for script in ("test -r read-only", "! test -w read-only", "! test -r secret"):
        subprocess.run([*ORDINARY, "sh", "-c", script], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("of_folder", "before", "after"),
    [
        (0o755, 0o444, 0o644),
        (0o2775, 0o444, 0o664),
        (0o777, 0o444, 0o664),  # strangers are no group
        (0o700, 0o400, 0o600),
        (0o2775, 0o640, 0o640),  # its owner may write it: as the owner wants it
    ],
)
def test_a_read_only_file_becomes_its_owners_and_its_groups(tmp_path, of_folder, before, after):
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(of_folder)
    path = folder / "file"
    path.touch()
    path.chmod(before)
    assert rights.make_writable(path)
    assert oct(path.stat().st_mode & 0o777) == oct(after)


def test_old_results_become_writable_and_stay_as_old_as_they_are(tmp_path):
    deep = tmp_path / "results" / "tiny" / "mpd" / "shard_0.parquet"
    deep.parent.mkdir(parents=True)
    deep.touch()
    deep.chmod(0o444)
    (deep.parent / "gone").symlink_to("nowhere")
    os.utime(deep, ns=(LONG_AGO, LONG_AGO))
    assert rights.open_results(tmp_path / "results") == []
    assert oct(deep.stat().st_mode & 0o777) == "0o644"
    assert deep.stat().st_mtime_ns == LONG_AGO
    assert rights.open_results(tmp_path / "none") == []


def test_a_folder_that_is_read_only_for_its_owner(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".snakemake/log").mkdir(parents=True)
    rights.require_working_folder()
    Path(".snakemake/log").chmod(0o555)
    sentence = ".snakemake/log is read-only; run `chmod -R u+w` on it, or use another folder"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        rights.require_working_folder()


@pytest.fixture
def annas(tmp_path):
    """A folder with a file, of another user who shares neither."""
    folder = tmp_path / "annas"
    folder.mkdir()
    (folder / "file").write_text("hers")
    for path in (folder / "file", folder):
        os.chown(path, ANNA, -1)
    return folder


SHARING = (
    "to share results in a group, let user 47001 run `chmod -R g+rwX results .snakemake` once, "
    "and all work with `umask 002`; to have results apart, run snakemake with --directory"
)


@NEEDS_ROOT
def test_files_of_another_user_are_counted_and_left(annas):
    (sentence,) = rights.open_results(annas)
    assert sentence == (
        f"2 files and folders below {annas} belong to user 47001, and {rights.user()} may not "
        f"write them: no job can replace them; {SHARING}"
    )
    assert (annas / "file").read_text() == "hers"


@NEEDS_ROOT
@pytest.mark.parametrize("name", ["file", "new", "new/deeper/file"])
def test_a_job_that_may_not_write_says_whose_it_is(annas, name):
    code = (
        "import sys; from pathlib import Path; from mpd import command; "
        "command.run(lambda: Path(sys.argv[1]).open('w'), 'sample')"
    )
    if name == "new/deeper/file":
        code = code.replace(".open('w')", ".parent.mkdir(parents=True)")
    arguments = [sys.executable, "-c", code, str(annas / name)]
    done = subprocess.run([*ORDINARY, *arguments], capture_output=True, text=True, check=False)
    refused = annas / name if name == "file" else annas
    assert (done.returncode, done.stderr) == (
        1,
        f"sample: error: {refused} belongs to user 47001, and {rights.user()} may not write it; "
        f"{SHARING}\n",
    )


@NEEDS_ROOT
def test_a_file_that_may_not_be_read_says_whose_it_is(annas):
    (annas / "file").chmod(0o600)
    code = "import sys, pathlib, mpd.rights as r; print(r.refusal(pathlib.Path(sys.argv[1])))"
    words = [*ORDINARY, sys.executable, "-c", code, str(annas / "file")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == (
        f"{annas / 'file'} belongs to user 47001, and {rights.user()} may not read it; "
        "let user 47001 allow it\n"
    )
