"""Who may write what: the tests themselves, stored files, and files of other users."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mpd.store import rights
from tests.ordinary import ANNA, NEEDS_ROOT, ORDINARY

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
        (0o700, 0o444, 0o644),
        # As stored files never were, so as somebody wants them.
        (0o2775, 0o640, 0o640),
        (0o2775, 0o400, 0o400),
        (0o2775, 0o555, 0o555),
    ],
)
def test_what_was_once_stored_becomes_its_owners_and_its_groups(tmp_path, of_folder, before, after):
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(of_folder)
    path = folder / "file"
    path.touch()
    path.chmod(before)
    assert rights.make_writable(path) == bool(after & 0o200)
    assert oct(path.stat().st_mode & 0o777) == oct(after)


def test_old_results_become_writable_and_stay_as_old_as_they_are(tmp_path):
    deep = tmp_path / "results" / "tiny" / "mpd" / "shard_0.parquet"
    deep.parent.mkdir(parents=True)
    deep.touch()
    deep.chmod(0o444)
    (deep.parent / "gone").symlink_to("nowhere")
    (tmp_path / "data").touch()
    (tmp_path / "data").chmod(0o444)
    (deep.parent / "data").symlink_to(tmp_path / "data")
    os.utime(deep, ns=(LONG_AGO, LONG_AGO))
    assert rights.open_results(tmp_path / "results") == []
    assert oct(deep.stat().st_mode & 0o777) == "0o644"
    assert deep.stat().st_mtime_ns == LONG_AGO
    assert oct((tmp_path / "data").stat().st_mode & 0o777) == "0o444"
    assert rights.open_results(tmp_path / "none") == []


def test_a_folder_that_is_read_only_for_its_owner(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".snakemake/log").mkdir(parents=True)
    rights.require_working_folder()
    Path(".snakemake/log").chmod(0o555)
    sentence = (
        ".snakemake/log cannot be written: it is read-only; run `chmod -R u+w .snakemake/log`, or "
        "use another folder"
    )
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


REASON = (
    f"it belongs to user 47001, and you are {rights.user()}; to share results in a group, let user "
    "47001 run `chmod -R g+rwX results .snakemake` once, and all work with `umask 002`; to have "
    "results apart, run snakemake with --directory"
)


@NEEDS_ROOT
def test_files_of_another_user_are_counted_and_left(annas):
    assert rights.open_results(annas) == [
        f"{annas / 'file'} and 1 more cannot be replaced by a job: {REASON}"
    ]
    assert (annas / "file").read_text() == "hers"


def test_a_folder_of_ones_own_that_is_read_only_is_named(tmp_path):
    folder = tmp_path / "results" / "filter"
    folder.mkdir(parents=True)
    (folder / "shard_0.parquet").touch()
    folder.chmod(0o555)
    assert rights.open_results(tmp_path / "results") == [
        f"{folder} cannot be replaced by a job: it is read-only; run `chmod -R u+w "
        f"{tmp_path / 'results'}`, or use another folder"
    ]


def stderr_of(path, action):
    """How a job ends that does something with a path."""
    code = (
        "import os, sys; from pathlib import Path; from mpd.job import command; "
        f"path = Path(sys.argv[1]); command.run(lambda: {action}, 'sample')"
    )
    arguments = [*ORDINARY, sys.executable, "-c", code, str(path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("name", "action", "refused"),
    [
        ("file", "path.open('w')", "file"),
        ("new", "path.open('w')", ""),
        ("new/deeper/file", "path.parent.mkdir(parents=True)", ""),
        ("new", "rename", ""),
    ],
)
def test_a_job_that_may_not_write_says_whose_it_is(annas, name, action, refused):
    if "rename" in action:
        action = f"os.rename({str(annas.parent / 'fresh')!r}, path)"
        (annas.parent / "fresh").touch()
    said = stderr_of(annas / name, action)
    assert said == f"sample: error: {annas / refused} cannot be written: {REASON}\n"


@NEEDS_ROOT
def test_a_file_that_may_not_be_read_says_whose_it_is(annas):
    (annas / "file").chmod(0o600)
    assert stderr_of(annas / "file", "path.open()") == (
        f"sample: error: {annas / 'file'} belongs to user 47001, and {rights.user()} may not read "
        "it; let user 47001 allow it\n"
    )


@NEEDS_ROOT
def test_a_folder_that_may_not_be_searched_says_whose_it_is(annas):
    annas.chmod(0o700)
    assert stderr_of(annas / "deeper" / "file", "path.open('w')") == (
        f"sample: error: {annas} belongs to user 47001, and {rights.user()} may not read it; "
        "let user 47001 allow it\n"
    )


def test_whose_a_file_is_does_not_depend_on_names(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGNAME", "somebody")
    path = tmp_path / "mine"
    path.touch(0o400)
    assert stderr_of(path, "path.open('w')") == (
        f"sample: error: {path} cannot be written: it is read-only; run `chmod -R u+w {path}`, or "
        "use another folder\n"
    )


def test_a_read_only_file_system_is_named(tmp_path, monkeypatch):
    class ReadOnly:
        f_flag = os.ST_RDONLY

    tmp_path.chmod(0o555)  # in place of a mount, of which os.access says the same
    monkeypatch.setattr(os, "statvfs", lambda path: ReadOnly)
    error = OSError(errno.EROFS, "Read-only file system", str(tmp_path / "new"))
    assert rights.is_refusal(error)
    assert rights.refusal(error) == (
        f"{tmp_path} cannot be written: its file system is read-only; run snakemake with "
        "--directory and a folder elsewhere"
    )
