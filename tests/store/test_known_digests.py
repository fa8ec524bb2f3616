"""Large files are hashed once for each file and machine."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from mpd.store.known_digests import digest_like, fresh_digest, remember
from tests.ordinary import ORDINARY

CONTENT = b"weights"
DIGEST = sha256(CONTENT).hexdigest()


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A file written an hour ago, and a folder for markers of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    age(path, 3600)
    return path


def age(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


def markers(path):
    return [file for file in (path.parent / "caches").rglob("*") if file.is_file()]


def never(path):
    raise AssertionError(f"{path} is hashed again")


def test_a_file_is_hashed_once(path):
    assert digest_like(path, DIGEST) == DIGEST
    (marker,) = markers(path)
    assert marker.stat().st_size == 0
    assert digest_like(path, DIGEST, never) == DIGEST


@pytest.mark.parametrize("change", ["content", "time", "inode", "expected"])
def test_what_moved_is_hashed_again(path, change):
    digest_like(path, DIGEST)
    expected = "0" * 64 if change == "expected" else DIGEST
    if change == "content":
        path.write_bytes(b"Weights")
    elif change == "time":
        age(path, 60)
    elif change == "inode":
        os.link(path, path.with_name("kept"))
        path.unlink()
        path.write_bytes(CONTENT)
        age(path, 3600)
    with pytest.raises(AssertionError, match="is hashed again"):
        digest_like(path, expected, never)


def test_another_digest_is_not_remembered(path):
    assert digest_like(path, "0" * 64) == DIGEST
    assert not markers(path)


def test_what_was_written_in_this_tick_is_not_remembered(path):
    path.write_bytes(CONTENT)
    assert digest_like(path, DIGEST) == DIGEST
    assert not markers(path)


@pytest.mark.parametrize("place", ["nowhere", "read-only", "a file"])
def test_without_a_folder_for_markers_files_are_hashed_again(path, place, monkeypatch):
    caches = path.parent / "caches"
    if place == "nowhere":
        monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    elif place == "read-only":
        caches.mkdir(mode=0o500)
    else:
        caches.write_text("")
    remember(path, DIGEST)
    assert [digest_like(path, DIGEST) for _ in range(2)] == [DIGEST, DIGEST]
    assert not list(caches.glob("*/*"))


def test_where_markers_may_not_be_read_files_are_hashed_again(path):
    caches = path.parent / "caches"
    caches.mkdir(mode=0)
    code = (
        "import sys; from pathlib import Path; from mpd.store.known_digests import digest_like; "
        "print(digest_like(Path(sys.argv[1]), sys.argv[2]))"
    )
    command = [*ORDINARY, sys.executable, "-c", code, str(path), DIGEST]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{DIGEST}\n", "")


def test_markers_that_were_not_used_for_long_go(path):
    digest_like(path, DIGEST)
    (old,) = markers(path)
    age(old, 100 * 86_400)
    age(path, 60)
    digest_like(path, DIGEST)
    assert old not in markers(path) and len(markers(path)) == 1


def test_jobs_at_once_do_not_disturb_each_other(path):
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: digest_like(path, DIGEST), range(64))) == {DIGEST}
    assert len(markers(path)) == 1


def test_a_process_reads_what_it_has_hashed_once(path, monkeypatch):
    assert fresh_digest(path) == DIGEST
    monkeypatch.setattr("mpd.store.known_digests.file_digest", never)
    assert fresh_digest(path) == DIGEST
    path.write_bytes(CONTENT)
    with pytest.raises(AssertionError, match="is hashed again"):
        fresh_digest(path)
