import errno
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest
from filelock import FileLock

from mpd import prune
from mpd.store import entries, table
from mpd.store.differences import note_beside
from mpd.store.files import checksummed
from mpd.store.outputs import FileOutput, FolderOutput, TableOutput, fingerprint, take_each
from mpd.store.publishing import Store
from mpd.store.schema import Artifact, Column
from tests.notes import write_note

SQUARES = Artifact(
    "squares",
    1,
    "numbers and their squares",
    ("number",),
    (Column("number", "int64", "", ""), Column("square", "int64", "", "")),
)
ROWS = pl.DataFrame({"number": list(range(10))})
RESULT = ROWS.with_columns(square=pl.Series([0, 1, 4, 9, 16, 25, 36, 49, 64, 81]))
LONG_AGO = 1_000_000_000

REPOSITORY = Path(__file__).parents[2]


class Squares:
    """The work of a stage. Notes the first row of every part that it computes."""

    def __init__(self, rows_per_part=3, stop_after=None, add=0):
        self.rows_per_part = rows_per_part
        self.stop_after = stop_after
        self.add = add
        self.computed = []
        self.prepared = 0

    def __call__(self, parts):
        parts.map(ROWS, self.rows_per_part, self.prepare)

    def prepare(self):
        self.prepared += 1
        return self.work

    def work(self, rows):
        if len(self.computed) == self.stop_after:
            self.stop()
        self.computed.append(rows["number"][0])
        return rows.with_columns(square=pl.col("number") ** 2 + self.add)

    def stop(self):
        raise InterruptedError


class Killed(Squares):
    """Work whose process dies, with nothing that Python could still run."""

    def stop(self):
        os.kill(os.getpid(), signal.SIGKILL)


def publish(root, output, compute, settings=None, refresh=False):
    Store(root, refresh).publish(TableOutput(SQUARES, output, settings or {}, {}, compute))


def entry_of(root, settings=None):
    return root / "squares" / f"{fingerprint('squares', 1, settings or {}, {})}.parquet"


def child(function, *arguments):
    """A Python process that runs one function of this file."""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys; from tests.store import test_store; test_store.{function}(*sys.argv[1:])",
            *map(str, arguments),
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def job_that_dies(root, output, parts):
    publish(Path(root), Path(output), Killed(stop_after=int(parts)))


def job_beside_another(root, folder, own, other):
    """Computes no sooner than the other job is about to ask for the same."""
    folder = Path(folder)

    def compute(parts):
        (folder / f"computed_by_{own}").touch()
        deadline = time.monotonic() + 60
        while not (folder / f"started_{other}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.2)  # time for the other to compute too, were there no lock
        Squares()(parts)

    (folder / f"started_{own}").touch()
    publish(Path(root), folder / f"{own}.parquet", compute)


class Gathered(Squares):
    """The same work, given its rows at once; they finish last first, in parts of `rows_per_part`.

    Notes the rows that it is given, and the first of every part that it computes.
    """

    def __call__(self, parts):
        self.parts = parts
        parts.gather(ROWS, self.work)

    def work(self, rows):
        self.prepared += 1
        self.given, self.remaining = rows["number"].to_list(), self.parts.remaining
        for part in rows[::-1].iter_slices(self.rows_per_part):
            if len(self.computed) == self.stop_after:
                self.stop()
            self.computed.append(part["number"][0])
            yield part.with_columns(square=pl.col("number") ** 2 + self.add)


class GatheredAndKilled(Gathered):
    stop = Killed.stop


def gathering_that_dies(root, output, parts):
    publish(Path(root), Path(output), GatheredAndKilled(stop_after=int(parts)))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def messages(caplog):
    caplog.set_level(logging.INFO, "mpd")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "mpd"]


def test_fingerprint_is_stable_over_releases():
    found = fingerprint("sample", 1, {"temperature": 0.5, "top_k": [1, 2]}, {"problems": "abc"})
    assert found == "936a8e67f3fa558a930add63f0bf8659"


@pytest.mark.parametrize(
    "other",
    [
        ("logits", 1, {"a": 1, "b": 2}, {"x": "1", "y": "2"}),
        ("sample", 2, {"a": 1, "b": 2}, {"x": "1", "y": "2"}),
        ("sample", 1, {"a": 1, "b": 3}, {"x": "1", "y": "2"}),
        ("sample", 1, {"a": 1}, {"x": "1", "y": "2"}),
        ("sample", 1, {"a": 1, "b": 2}, {"x": "1", "y": "3"}),
        ("sample", 1, {"a": 1, "b": 2}, {"x": "2", "y": "1"}),
        ("sample", 1, {"a": 1, "b": 2}, {"x": "1"}),
        ("sample", 1, {"x": "1", "y": "2"}, {"a": 1, "b": 2}),
    ],
)
def test_fingerprint_changes_with_every_part_of_the_meaning(other):
    assert fingerprint(*other) != fingerprint("sample", 1, {"a": 1, "b": 2}, {"x": "1", "y": "2"})


def test_fingerprint_does_not_change_with_the_order_of_keys():
    one = fingerprint("sample", 1, {"a": {"c": 1, "d": 2}, "b": 2}, {"x": "1", "y": "2"})
    two = fingerprint("sample", 1, {"b": 2, "a": {"d": 2, "c": 1}}, {"y": "2", "x": "1"})
    assert one == two


def test_first_publish_computes_and_second_links(tmp_path, root, messages):
    output, again, compute = tmp_path / "a" / "out.parquet", tmp_path / "b.parquet", Squares()
    publish(root, output, compute)
    assert table.read(output, SQUARES).equals(RESULT)
    assert compute.computed == [0, 3, 6, 9]
    assert output.stat().st_nlink == 2

    unneeded = Squares()
    publish(root, output, unneeded)
    publish(root, again, unneeded)
    assert unneeded.prepared == 0
    assert output.stat().st_ino == again.stat().st_ino == entry_of(root).stat().st_ino
    assert output.stat().st_nlink == 3
    key = entry_of(root).stem[:12]
    assert messages() == [f"computed squares {key}", *[f"reused squares {key}"] * 2]


def spent_of(output):
    return json.loads(output.with_suffix(".json").read_text())["spent"]


def test_what_computing_took_stays_with_the_entry(tmp_path, root, monkeypatch):
    output, again = tmp_path / "out.parquet", tmp_path / "again.parquet"
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class Slow(Squares):
        def work(self, rows):
            now[0] += 10
            return super().work(rows)

    with pytest.raises(InterruptedError):
        publish(root, output, Slow(stop_after=2))
    now[0] += 1000  # between the two jobs
    publish(root, output, Slow())
    # Two parts of 10 seconds were saved, and two came; that in which the job stopped is lost.
    assert spent_of(output)["seconds"] == 40.0
    publish(root, again, never)
    publish(root, again, Slow(), refresh=True)
    assert spent_of(again)["seconds"] == 40.0


def test_an_edit_taken_back_computes_nothing(tmp_path, root):
    output = tmp_path / "out.parquet"
    publish(root, output, Squares(), {"add": 0})
    first = output.read_bytes()
    publish(root, output, Squares(add=1), {"add": 1})
    edited = table.read(output, SQUARES)
    assert edited.equals(RESULT.with_columns(pl.col("square") + 1))
    assert entry_of(root, {"add": 0}).read_bytes() == first

    compute = Squares()
    publish(root, output, compute, {"add": 0})
    assert compute.prepared == 0
    assert output.read_bytes() == first
    assert output.stat().st_ino == entry_of(root, {"add": 0}).stat().st_ino


@pytest.mark.parametrize(
    ("of_folder", "of_file"), [(0o755, 0o644), (0o2775, 0o664), (0o700, 0o600)]
)
def test_a_stored_file_is_its_owners_and_its_groups_as_its_folder_is(
    tmp_path, root, of_folder, of_file
):
    (root / "squares").mkdir(parents=True)
    (root / "squares").chmod(of_folder)
    output = tmp_path / "out.parquet"
    publish(root, output, Squares())
    assert oct(output.stat().st_mode & 0o777) == oct(of_file)


def test_beside_an_entry_and_an_output_are_only_their_notes(tmp_path, root):
    output = tmp_path / "out" / "rows.parquet"
    publish(root, output, Squares())
    key = entry_of(root).stem
    found = {path.name for path in (root / "squares").iterdir()}
    # Who unlocks may delete the lock.
    assert found - {f"{key}.lock"} == {f"{key}.parquet", f"{key}.json", f"{key}.seen"}
    beside = {"rows.parquet", "rows.json", ".rows.receipt"}
    assert {path.name for path in output.parent.iterdir()} == beside


def test_link_is_touched(tmp_path, root):
    output = tmp_path / "out.parquet"
    publish(root, output, Squares())
    os.utime(output, (LONG_AGO, LONG_AGO))
    before = time.time()
    publish(root, output, Squares())
    assert output.stat().st_mtime >= before - 1  # the kernel's clock ticks in milliseconds


def test_footer_and_provenance(tmp_path, root):
    output = tmp_path / "out.parquet"
    Store(root).publish(
        TableOutput(SQUARES, output, {"add": 0}, {"model": "abc"}, Squares(), {"tokens": "123"})
    )
    footer = table.check(output, SQUARES, {"tokens": "123"})
    digest = table.write(tmp_path / "alone.parquet", RESULT, SQUARES, {})
    alone = table.check(tmp_path / "alone.parquet", SQUARES)
    # Each part is a row group, and has checksums of its own.
    assert {name: len(sums) for name, sums in footer.pop("checksums").items()} == {
        "number": 4,
        "square": 4,
    }
    del alone["checksums"]
    assert footer == {**alone, "identity": {"tokens": "123"}}
    assert alone["content"] == digest
    note = json.loads((tmp_path / "out.json").read_text())
    content = {key: value for key, value in note.items() if key != "checksum"}
    text = json.dumps(content, sort_keys=True).encode()
    assert note.pop("checksum") == sha256(text).hexdigest()
    assert set(note.pop("spent")) == {"seconds", "processor_seconds", "peak_mb", "device"}
    assert note == {
        "kind": "squares",
        "version": 1,
        "settings": {"add": 0},
        "inputs": {"model": "abc"},
        "sizes": {"": output.stat().st_size},
        "digests": {"": sha256(output.read_bytes()).hexdigest()},
    }


def test_killed_job_resumes_to_the_same_bytes(tmp_path, root, messages):
    output = tmp_path / "out.parquet"
    process = child("job_that_dies", root, output, 2)
    assert process.wait(60) == -signal.SIGKILL
    parts = entry_of(root).with_suffix(".parts")
    assert sorted(path.name for path in parts.glob("*.parquet")) == [
        "rows_000000000_000000003.parquet",
        "rows_000000003_000000006.parquet",
    ]
    assert not output.exists()
    assert not entry_of(root).exists()

    compute = Squares()
    publish(root, output, compute)
    assert compute.computed == [6, 9]
    assert messages()[0] == "resumed: 2 of 4 parts were there"
    assert not parts.exists()

    undisturbed = tmp_path / "undisturbed.parquet"
    publish(tmp_path / "another store", undisturbed, Squares())
    assert output.read_bytes() == undisturbed.read_bytes()
    assert table.read(output, SQUARES).equals(RESULT)


def test_job_stopped_after_its_last_part_loads_nothing_again(tmp_path, root):
    def compute_and_stop(parts):
        Squares()(parts)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        publish(root, tmp_path / "out.parquet", compute_and_stop)
    compute = Squares()
    publish(root, tmp_path / "out.parquet", compute)
    assert compute.prepared == 0
    assert table.read(tmp_path / "out.parquet", SQUARES).equals(RESULT)


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


def foreign(path):
    ROWS.write_parquet(path)


@pytest.mark.parametrize("damage", [cut, foreign, lambda path: path.write_bytes(b"")])
def test_damaged_part_is_computed_again(tmp_path, root, messages, damage):
    output = tmp_path / "out.parquet"
    with pytest.raises(InterruptedError):
        publish(root, output, Squares(stop_after=3))
    part = entry_of(root).with_suffix(".parts") / "rows_000000003_000000006.parquet"
    damage(part)
    compute = Squares()
    publish(root, output, compute)
    assert compute.computed == [3, 9]
    assert table.read(output, SQUARES).equals(RESULT)
    assert messages()[0].startswith(f"a part is computed again: {part}: ")
    assert messages()[1] == "resumed: 2 of 4 parts were there"


def test_part_of_another_identity_is_computed_again(tmp_path, root):
    output, store, compute = tmp_path / "out.parquet", Store(root), Squares()
    with pytest.raises(InterruptedError):
        store.publish(TableOutput(SQUARES, output, {}, {}, Squares(stop_after=3), {"tokens": "1"}))
    store.publish(TableOutput(SQUARES, output, {}, {}, compute, {"tokens": "2"}))
    assert compute.computed == [0, 3, 6, 9]


@pytest.mark.parametrize("refresh", [False, True])
def test_parts_left_beside_a_whole_entry_go(tmp_path, root, refresh):
    output = tmp_path / "out.parquet"
    publish(root, output, Squares())
    left = entry_of(root).with_suffix(".parts")
    left.mkdir()
    (left / "rows_000000000_000000003.parquet").write_bytes(b"")
    publish(root, output, Squares(), refresh=refresh)
    assert not left.exists()


@pytest.mark.parametrize(
    ("rows_per_part", "computed"),
    [
        (4, [0, 4, 8]),  # no slice in common
        (6, [0, 6]),
        (1, list(range(10))),
        (3, [9]),
        (9, [0, 9]),
    ],
)
def test_parts_are_reused_only_for_the_same_slice(tmp_path, root, rows_per_part, computed):
    output = tmp_path / "out.parquet"
    with pytest.raises(InterruptedError):
        publish(root, output, Squares(rows_per_part=3, stop_after=3))
    compute = Squares(rows_per_part=rows_per_part)
    publish(root, output, compute)
    assert compute.computed == computed
    assert table.read(output, SQUARES).equals(RESULT)


def test_no_rows_are_one_empty_part(tmp_path, root):
    output, sizes = tmp_path / "out.parquet", []

    def work(rows):
        sizes.append(len(rows))
        return RESULT.clear()

    publish(root, output, lambda parts: parts.map(ROWS.clear(), 3, lambda: work))
    assert sizes == [0]
    assert table.read(output, SQUARES).equals(RESULT.clear())


class Streamed(Squares):
    """The same work, which computes a slice more before it gives the frame of one away."""

    def __call__(self, parts):
        self.written = lambda: sorted(path.name for path in parts.folder.glob("rows_*"))
        self.events = []
        parts.stream(ROWS, self.rows_per_part, self.prepare)

    def work(self, slices):
        before = None
        try:
            for rows in slices:
                frame = super().work(rows)
                if before is not None:
                    yield before
                    self.events.append(len(self.written()))
                before = frame
            yield before
        finally:
            self.events.append("closed")


def test_what_is_streamed_is_written_while_the_work_goes_on(tmp_path, root):
    output, compute = tmp_path / "out.parquet", Streamed()
    publish(root, output, compute)
    assert (compute.prepared, compute.computed) == (1, [0, 3, 6, 9])
    assert compute.events == [1, 2, 3, "closed"]
    mapped = tmp_path / "mapped.parquet"
    publish(tmp_path / "another store", mapped, Squares())
    assert output.read_bytes() == mapped.read_bytes()


def test_streaming_resumes_behind_the_parts_that_were_written(tmp_path, root, messages):
    output = tmp_path / "out.parquet"
    stopped = Streamed(stop_after=3)
    with pytest.raises(InterruptedError):
        publish(root, output, stopped)
    # The third slice was computed, and lost with the job.
    assert (stopped.computed, stopped.events) == ([0, 3, 6], [1, 2, "closed"])
    compute = Streamed()
    publish(root, output, compute)
    assert compute.computed == [6, 9]
    assert messages()[0] == "resumed: 2 of 4 parts were there"
    assert table.read(output, SQUARES).equals(RESULT)


def test_work_that_is_streamed_is_closed_where_writing_fails(tmp_path, root):
    compute = Streamed()
    compute.prepare = lambda: (
        lambda slices: (frame.drop("square") for frame in compute.work(slices))
    )
    with pytest.raises(ValueError, match="expected the columns"):
        publish(root, tmp_path / "out.parquet", compute)
    assert compute.computed == [0, 3]


def test_work_that_yields_too_few_frames_is_an_error(tmp_path, root):
    compute = Streamed()
    compute.prepare = lambda: lambda slices: (frame for frame in [*compute.work(slices)][1:])
    with pytest.raises(AssertionError, match="4 parts are missing; too few came"):
        publish(root, tmp_path / "out.parquet", compute)


def parts_of(root):
    parts = entry_of(root).with_suffix(".parts")
    return {
        path.name: table.read(path, SQUARES)["number"].to_list() for path in parts.glob("*.parquet")
    }


def test_gathered_rows_stand_in_their_order(tmp_path, root, messages):
    output, compute = tmp_path / "out.parquet", Gathered()
    publish(root, output, compute)
    assert compute.given == list(range(10))
    assert (compute.remaining, compute.computed) == (10, [9, 6, 3, 0])
    assert table.read(output, SQUARES).equals(RESULT)
    assert messages() == [f"computed squares {entry_of(root).stem[:12]}"]
    mapped = tmp_path / "mapped.parquet"
    publish(tmp_path / "another store", mapped, Squares(rows_per_part=10))
    assert output.read_bytes() == mapped.read_bytes()


def test_a_killed_job_that_gathers_keeps_its_parts(tmp_path, root, messages):
    output = tmp_path / "out.parquet"
    assert child("gathering_that_dies", root, output, 2).wait(60) == -signal.SIGKILL
    assert parts_of(root) == {
        "some_000000000.parquet": [9, 8, 7],
        "some_000000001.parquet": [6, 5, 4],
    }
    assert not output.exists()
    # Parts of another size now: rows count, not parts.
    compute = Gathered(rows_per_part=2, stop_after=1)
    with pytest.raises(InterruptedError):
        publish(root, output, compute)
    assert (compute.given, compute.remaining) == ([0, 1, 2, 3], 4)
    assert parts_of(root)["some_000000002.parquet"] == [3, 2]
    compute = Gathered()
    publish(root, output, compute)
    assert (compute.given, compute.remaining) == ([0, 1], 2)
    assert messages()[:2] == [f"resumed: {number} of 10 rows were there" for number in (6, 8)]
    assert not entry_of(root).with_suffix(".parts").exists()
    undisturbed = tmp_path / "undisturbed.parquet"
    publish(tmp_path / "another store", undisturbed, Gathered())
    assert output.read_bytes() == undisturbed.read_bytes()


def test_gathering_that_stopped_after_its_last_part_computes_nothing_again(tmp_path, root):
    def compute_and_stop(parts):
        Gathered()(parts)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        publish(root, tmp_path / "out.parquet", compute_and_stop)
    compute = Gathered()
    publish(root, tmp_path / "out.parquet", compute)
    assert compute.prepared == 0
    assert table.read(tmp_path / "out.parquet", SQUARES).equals(RESULT)


@pytest.mark.parametrize("damage", [cut, foreign, lambda path: path.write_bytes(b"")])
def test_a_damaged_part_that_was_gathered_is_computed_again(tmp_path, root, messages, damage):
    output = tmp_path / "out.parquet"
    with pytest.raises(InterruptedError):
        publish(root, output, Gathered(stop_after=3))
    part = entry_of(root).with_suffix(".parts") / "some_000000001.parquet"
    damage(part)
    compute = Gathered()
    publish(root, output, compute)
    assert compute.given == [0, 4, 5, 6]
    assert table.read(output, SQUARES).equals(RESULT)
    assert messages()[0].startswith(f"a part is computed again: {part}: ")
    assert messages()[1] == "resumed: 6 of 10 rows were there"


def test_a_gathered_part_of_another_identity_is_computed_again(tmp_path, root):
    output, store, compute = tmp_path / "out.parquet", Store(root), Gathered()
    with pytest.raises(InterruptedError):
        store.publish(TableOutput(SQUARES, output, {}, {}, Gathered(stop_after=3), {"tokens": "1"}))
    store.publish(TableOutput(SQUARES, output, {}, {}, compute, {"tokens": "2"}))
    assert compute.given == list(range(10))


ROOTS = Artifact(
    "roots",
    1,
    "numbers and the roots of each",
    ("number", "root"),
    (Column("number", "int64", "", ""), Column("root", "int64", "", "")),
)


def test_a_row_may_come_to_several_that_stay_together_in_their_order(tmp_path, root):
    rows = pl.DataFrame({"number": [4, 9, 0, 1], "other": ["a", "b", "c", "d"]})
    of = {4: [2, -2], 9: [3, -3], 0: [0], 1: [1, -1]}
    given = []

    def work(stop):
        def work(missing):
            given.append(missing["number"].to_list())
            for number in missing["number"].to_list()[::-1]:
                if number == stop:
                    raise InterruptedError
                made = {"number": [number] * len(of[number]), "root": of[number]}
                yield pl.DataFrame(made)

        return work

    def publish_roots(stop):
        Store(root).publish(
            TableOutput(
                ROOTS,
                tmp_path / "out.parquet",
                {},
                {},
                lambda parts: parts.gather(rows, work(stop)),
            )
        )

    with pytest.raises(InterruptedError):
        publish_roots(9)
    publish_roots(None)
    assert given == [[4, 9, 0, 1], [4, 9]]
    assert table.read(tmp_path / "out.parquet", ROOTS).rows() == [
        (4, 2), (4, -2), (9, 3), (9, -3), (0, 0), (1, 1), (1, -1),
    ]  # fmt: skip


def test_no_rows_gather_to_an_empty_table(tmp_path, root):
    output = tmp_path / "out.parquet"
    publish(root, output, lambda parts: parts.gather(ROWS.clear(), never))
    assert table.read(output, SQUARES).equals(RESULT.clear())


def test_a_row_that_nothing_came_of_is_no_table(tmp_path, root):
    def work(rows):
        yield rows[1:].with_columns(square=pl.col("number") ** 2)

    with pytest.raises(AssertionError, match="1 rows were not computed"):
        publish(root, tmp_path / "out.parquet", lambda parts: parts.gather(ROWS, work))
    assert not (tmp_path / "out.parquet").exists()


def test_refresh_with_the_same_result(tmp_path, root, messages):
    output = tmp_path / "out.parquet"
    publish(root, output, Squares())
    inode = output.stat().st_ino
    compute = Squares()
    publish(root, output, compute, refresh=True)
    assert compute.computed == [0, 3, 6, 9]
    assert messages()[1:] == [f"refreshed squares {entry_of(root).stem[:12]}: the bytes agree"]
    assert output.stat().st_ino == inode
    assert not list((root / "squares").glob("*.parts"))


def test_refresh_with_another_result_replaces_it(tmp_path, root, messages):
    output = tmp_path / "out.parquet"
    publish(root, output, Squares())
    publish(root, output, Squares(add=100), refresh=True)
    assert messages()[1:] == [f"refreshed squares {entry_of(root).stem[:12]}: the bytes DIFFER"]
    assert table.read(output, SQUARES).equals(RESULT.with_columns(pl.col("square") + 100))
    assert output.stat().st_ino == entry_of(root).stat().st_ino

    compute = Squares()
    publish(root, tmp_path / "later.parquet", compute)  # the note describes the new file
    assert compute.prepared == 0
    assert (tmp_path / "later.parquet").stat().st_ino == output.stat().st_ino


def test_refresh_that_differs_counts_the_outputs_left_behind(tmp_path, root, messages):
    outputs = [tmp_path / name / "out.parquet" for name in ("one", "two", "three")]
    for output in outputs:
        publish(root, output, Squares())
    key = entry_of(root).stem[:12]
    publish(root, outputs[0], Squares(add=100), refresh=True)
    publish(root, outputs[1], Squares(add=200), refresh=True)
    outputs[1].unlink()  # as Snakemake does before a job
    publish(root, outputs[1], Squares(add=300), refresh=True)
    left = "other outputs that still link to the old bytes"
    differ = f"refreshed squares {key}: the bytes DIFFER"
    assert messages()[3:] == [f"{differ}; {left}: 2", f"{differ}; {left}: 1", differ]


def test_refresh_of_what_is_not_there_computes(tmp_path, root, messages):
    publish(root, tmp_path / "out.parquet", Squares(), refresh=True)
    assert messages() == [f"computed squares {entry_of(root).stem[:12]}"]


def set_aside_of(entry, number=""):
    return entry.with_name(f"{entry.stem}-changed{number}{entry.suffix}")


def write_in_place(path, content=b"edited"):
    """Change the first bytes of a file, as an editor or a script may; its size stays."""
    with path.open("r+b") as file:
        file.write(content)


@pytest.mark.parametrize("edit", [cut, write_in_place, lambda path: path.write_bytes(b"")])
def test_what_was_changed_through_an_output_is_kept_aside_and_computed_again(
    tmp_path, root, messages, edit
):
    output, entry = tmp_path / "out.parquet", entry_of(root)
    publish(root, output, Squares())
    whole, note = output.read_bytes(), entry.with_suffix(".json").read_bytes()
    edit(output)
    edited = output.read_bytes()
    assert entry.read_bytes() == edited != whole
    compute = Squares()
    publish(root, output, compute)
    assert compute.computed == [0, 3, 6, 9]
    assert output.read_bytes() == entry.read_bytes() == whole
    aside = set_aside_of(entry)
    assert aside.read_bytes() == edited
    assert aside.with_suffix(".json").read_bytes() == note
    message = f"{entry} was changed after it was made: kept as {aside} until it is pruned, "
    assert messages()[1] == f"{message}and computed again"
    publish(root, tmp_path / "later.parquet", never)


def test_each_changed_entry_is_kept_and_the_other_outputs_are_counted(tmp_path, root, messages):
    outputs = [tmp_path / name for name in ("one.parquet", "two.parquet", "three.parquet")]
    for output in outputs:
        publish(root, output, Squares())
    whole, entry = outputs[0].read_bytes(), entry_of(root)
    for content in (b"first", b"again"):
        write_in_place(entry, content)
        publish(root, outputs[0], Squares())
    assert [path.read_bytes()[:5] for path in (set_aside_of(entry), set_aside_of(entry, 2))] == [
        b"first",
        b"again",
    ]
    assert outputs[0].read_bytes() == whole
    assert outputs[1].read_bytes()[:5] == b"first"
    ends = [
        message.partition("and computed again")[2] for message in messages() if "kept" in message
    ]
    assert ends == ["; other outputs that link to what was changed: 2", ""]


def test_a_change_in_the_same_tick_of_the_clock_is_seen(tmp_path, root):
    """The time of a link is one that the kernel, whose clock ticks in milliseconds, never gives."""
    output, compute = tmp_path / "out.parquet", Squares()
    publish(root, output, Squares())
    tick = output.stat().st_mtime_ns - 1
    write_in_place(output)
    os.utime(output, ns=(tick, tick))
    publish(root, output, compute)
    assert compute.computed == [0, 3, 6, 9]


def test_bytes_are_read_again_only_where_size_time_or_inode_moved(tmp_path, root, monkeypatch):
    output, entry, read = tmp_path / "out.parquet", entry_of(root), []
    publish(root, output, Squares())

    def file_digest(path):
        read.append(path)
        return sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(entries, "file_digest", file_digest)
    publish(root, output, never)
    output.unlink()  # as Snakemake does before a job
    publish(root, output, never)
    assert read == []
    os.utime(output, (LONG_AGO, LONG_AGO))  # as `snakemake --touch` does
    publish(root, output, never)
    publish(root, output, never)
    assert read == [entry]
    shutil.copy2(entry, tmp_path / "copy")  # as a backup that is put back
    (tmp_path / "copy").rename(entry)
    publish(root, output, never)
    publish(root, output, never)
    assert read == [entry] * 2


def test_an_edited_note_vouches_for_nothing(tmp_path, root):
    output, compute = tmp_path / "out.parquet", Squares()
    publish(root, output, Squares())
    note = entry_of(root).with_suffix(".json")
    content = json.loads(note.read_text())
    note.write_text(json.dumps({**content, "digests": {"": "0" * 64}}))
    os.utime(output, (LONG_AGO, LONG_AGO))
    publish(root, output, compute)
    assert compute.computed == [0, 3, 6, 9]


def make_old(entry):
    """What an entry was once: read-only, with no digests in its note."""
    note = entry.with_name(f"{entry.stem}.json")
    content = json.loads(note.read_text())
    del content["digests"], content["checksum"]
    note.write_text(json.dumps(content, indent=1, sort_keys=True))
    note.with_suffix(".seen").unlink()
    for path in [entry] if entry.is_file() else [*entry.rglob("*")]:
        path.chmod(0o444 if path.is_file() else 0o755)


def test_an_entry_of_before_is_put_right_without_computing(tmp_path, root, messages):
    output, entry = tmp_path / "out.parquet", entry_of(root)
    publish(root, output, Squares())
    whole, note = output.read_bytes(), entry.with_suffix(".json").read_bytes()
    make_old(entry)
    publish(root, output, never)
    assert oct(output.stat().st_mode & 0o777) == "0o644"
    assert entry.with_suffix(".json").read_bytes() == note
    assert output.with_suffix(".json").read_bytes() == note
    assert messages()[1:] == [f"reused squares {entry.stem[:12]}"]
    write_in_place(output)
    publish(root, output, Squares())
    assert output.read_bytes() == whole


def test_a_folder_of_before_is_put_right_without_computing(tmp_path, root):
    output, store = tmp_path / "out", Store(root)
    files = {"weights": "1", "deep/config": "2"}
    store.publish(FolderOutput("model", 1, output, {}, {}, fill_with(files)))
    make_old(root / "model" / fingerprint("model", 1, {}, {}))
    store.publish(FolderOutput("model", 1, output, {}, {}, never))
    assert contents(output) == files
    assert {oct((output / name).stat().st_mode & 0o777) for name in files} == {"0o644"}
    assert set(json.loads((output / "provenance.json").read_text())["digests"]) == set(files)


def test_an_old_entry_that_contradicts_its_footer_is_not_handed_out(tmp_path, root):
    """It became writable before its digest was noted."""
    output, compute = tmp_path / "out.parquet", Squares()
    publish(root, output, Squares())
    make_old(entry_of(root))
    entry_of(root).chmod(0o644)
    whole = output.read_bytes()
    place = whole.index(b"\x28\xb5\x2f\xfd")  # where the first compressed page begins
    with output.open("r+b") as file:
        file.seek(place + 8)
        file.write(bytes([whole[place + 8] ^ 1]))
    publish(root, output, compute)
    assert compute.computed == [0, 3, 6, 9]
    assert output.read_bytes() == whole


def test_an_old_entry_of_another_size_is_not_handed_out(tmp_path, root):
    output, compute = tmp_path / "out.parquet", Squares()
    publish(root, output, Squares())
    make_old(entry_of(root))
    entry_of(root).chmod(0o644)
    cut(entry_of(root))
    publish(root, output, compute)
    assert compute.computed == [0, 3, 6, 9]


def test_an_input_that_was_changed_is_refused(tmp_path, root):
    output, store = tmp_path / "out.parquet", Store(root)
    publish(root, output, Squares())
    store.require_unchanged(output)
    os.utime(output, (LONG_AGO, LONG_AGO))
    store.require_unchanged(output)
    expected = sha256(output.read_bytes()).hexdigest()[:12]
    write_in_place(output)
    sentence = (
        f"{output} was changed after it was made, so nothing is computed from it (expected SHA-256 "
        f"{expected} by out.json, found {sha256(output.read_bytes()).hexdigest()[:12]}); run again "
        f"with --forcerun {output}, which puts what was made in its place"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        store.require_unchanged(output)
    publish(root, output, Squares())
    store.require_unchanged(output)


@pytest.mark.parametrize("brings_its_note", [True, False])
def test_an_input_is_refused_where_another_output_took_its_place(tmp_path, root, brings_its_note):
    store, place, other = Store(root), tmp_path / "out.parquet", tmp_path / "other.parquet"
    publish(root, place, Squares())
    publish(root, other, Squares(add=1), settings={"add": 1})
    expected, found = (sha256(path.read_bytes()).hexdigest()[:12] for path in (place, other))
    for path in (place, place.with_suffix(".json")):
        path.unlink()
    other.rename(place)
    if brings_its_note:
        other.with_suffix(".json").rename(place.with_suffix(".json"))
    sentence = f"expected SHA-256 {expected} by .out.receipt, found {found}"
    with pytest.raises(ValueError, match=re.escape(f"{place} was changed") + f".*{sentence}"):
        store.require_unchanged(place)
    publish(root, place, Squares())
    store.require_unchanged(place)


def test_a_receipt_says_what_the_note_says_but_what_computing_took(tmp_path, root):
    output = tmp_path / "out.parquet"
    publish(root, output, Squares())
    note = json.loads(output.with_suffix(".json").read_text())
    receipt = json.loads((tmp_path / ".out.receipt").read_text())
    assert {*note} - {*receipt} == {"spent"}
    assert receipt == checksummed({key: note[key] for key in receipt})


@pytest.mark.parametrize("text", ["", "[1]", '{"kind": "squares"}'])
def test_a_damaged_receipt_is_a_sentence(tmp_path, root, text):
    output = tmp_path / "out.parquet"
    publish(root, output, Squares())
    (tmp_path / ".out.receipt").write_text(text)
    with pytest.raises(ValueError, match=r"^\S*/\.out\.receipt: .*--forcerun"):
        Store(root).require_unchanged(output)
    publish(root, output, Squares())
    Store(root).require_unchanged(output)


def test_an_input_is_refused_where_another_file_of_its_folder_was_changed(tmp_path, root):
    output, store = tmp_path / "model", Store(root)
    store.publish(
        FolderOutput("model", 1, output, {}, {}, fill_with({"manifest.json": "1", "weights": "2"}))
    )
    store.require_unchanged(output / "manifest.json")
    write_in_place(output / "weights", b"3")
    with pytest.raises(ValueError, match=f"^{output}/weights was changed after it was made"):
        store.require_unchanged(output / "manifest.json")


@pytest.mark.parametrize("text", ["{}", "[1]", '{"kind": "mine"}', ""])
def test_what_no_note_speaks_of_is_the_users_own(tmp_path, root, text):
    (tmp_path / "mine.parquet").write_text("rows")
    (tmp_path / "mine.json").write_text(text)
    Store(root).require_unchanged(tmp_path / "mine.parquet")
    Store(root).require_unchanged(tmp_path / "nowhere.parquet")


def test_to_look_for_an_output_sees_a_change_and_leaves_it(tmp_path, root):
    output, entry = tmp_path / "out.parquet", entry_of(root)
    publish(root, output, Squares())
    write_in_place(output)
    before = sorted(path.name for path in (root / "squares").iterdir())
    assert Store(root).find(TableOutput(SQUARES, output, {}, {}, never)) is None
    assert sorted(path.name for path in (root / "squares").iterdir()) == before
    assert entry.read_bytes()[:6] == b"edited"


def test_entry_with_a_torn_note_is_computed_again(tmp_path, root):
    output, compute = tmp_path / "out.parquet", Squares()
    publish(root, output, Squares())
    entry_of(root).with_suffix(".json").write_text('{"inputs": {}, "ki')
    publish(root, output, compute)
    assert compute.computed == [0, 3, 6, 9]
    publish(root, output, never)


@pytest.mark.parametrize("lost", [".parquet", ".json"])
def test_entry_without_its_note_or_note_without_its_entry_is_not_whole(tmp_path, root, lost):
    output = tmp_path / "out.parquet"
    publish(root, output, Squares())
    entry_of(root).with_suffix(lost).unlink()
    compute = Squares()
    publish(root, output, compute)
    assert compute.computed == [0, 3, 6, 9]
    assert table.read(output, SQUARES).equals(RESULT)
    assert output.stat().st_ino == entry_of(root).stat().st_ino


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("provenance.json", ".provenance.receipt")
    }


def fill_with(files):
    def compute(folder, scratch):
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    return compute


def never(*_):
    raise AssertionError("nothing was to be computed")


def test_folder_replaces_what_is_stale_in_the_output(tmp_path, root):
    output = tmp_path / "out"
    shape = {"weights": "1", "deep/config": "2"}
    store = Store(root)
    store.publish(FolderOutput("model", 1, output, {"a": 1}, {}, fill_with({**shape, "old": "3"})))
    assert contents(output) == {**shape, "old": "3"}
    (output / "deep" / "stranger").write_text("")

    store.publish(
        FolderOutput("model", 1, output, {"a": 2}, {}, fill_with({**shape, "weights": "4"}))
    )
    assert contents(output) == {**shape, "weights": "4", "deep/stranger": ""}
    (output / "deep" / "stranger").unlink()
    provenance = json.loads((output / "provenance.json").read_text())
    assert provenance.pop("spent")["device"] == "cpu"
    assert len(provenance.pop("checksum")) == 64
    assert provenance == {
        "kind": "model",
        "version": 1,
        "settings": {"a": 2},
        "inputs": {},
        "sizes": {"weights": 1, "deep/config": 1},
        "digests": {
            "weights": "4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a",
            "deep/config": "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35",
        },
    }

    store.publish(FolderOutput("model", 1, output, {"a": 1}, {}, never))
    assert contents(output) == {**shape, "old": "3"}
    assert json.loads((output / "provenance.json").read_text())["settings"] == {"a": 1}
    names = [*shape, "provenance.json"]
    assert {(output / name).stat().st_nlink for name in names} == {2}


def test_stopped_folder_keeps_its_scratch_and_not_its_files(tmp_path, root):
    def stopped(folder, scratch):
        (folder / "half").write_text("")
        (scratch / "checkpoint").write_text("step 5")
        raise InterruptedError

    def resumed(folder, scratch):
        assert list(folder.iterdir()) == []
        (folder / "whole").write_text((scratch / "checkpoint").read_text())

    output = tmp_path / "out"
    with pytest.raises(InterruptedError):
        Store(root).publish(FolderOutput("model", 1, output, {}, {}, stopped))
    Store(root).publish(FolderOutput("model", 1, output, {}, {}, resumed))
    assert contents(output) == {"whole": "step 5"}


def test_a_folder_of_which_a_file_changed_is_kept_aside_and_computed_again(
    tmp_path, root, messages
):
    output, store = tmp_path / "out", Store(root)
    files = {"a": "123", "b": "4", "deep/c": "5"}
    store.publish(FolderOutput("model", 1, output, {}, {}, fill_with(files)))
    write_in_place(output / "a", b"9")
    write_in_place(output / "deep" / "c", b"6")
    store.publish(FolderOutput("model", 1, output, {}, {}, fill_with(files)))
    assert contents(output) == files
    entry = root / "model" / fingerprint("model", 1, {}, {})
    aside = set_aside_of(entry)
    assert contents(aside) == {"a": "923", "b": "4", "deep/c": "6"}
    assert messages()[1] == (
        f"{entry} was changed after it was made (a, deep/c): kept as {aside} until it is pruned, "
        "and computed again"
    )


@pytest.mark.parametrize(
    ("files", "verdict"),
    [
        ({"a": "1", "b": "2"}, "the bytes agree"),
        ({"a": "1", "b": "3"}, "the bytes DIFFER"),
        ({"a": "1"}, "the bytes DIFFER"),
    ],
)
def test_refreshed_folder(tmp_path, root, messages, files, verdict):
    output = tmp_path / "out"
    Store(root).publish(FolderOutput("model", 1, output, {}, {}, fill_with({"a": "1", "b": "2"})))
    Store(root, refresh=True).publish(FolderOutput("model", 1, output, {}, {}, fill_with(files)))
    assert contents(output) == files
    assert messages()[1].endswith(verdict)


def test_file_is_stored_under_its_suffix(tmp_path, root):
    output, again = tmp_path / "a" / "report.html", tmp_path / "b" / "report.html"
    Store(root).publish(
        FileOutput("report", 1, output, {}, {}, lambda path: path.write_text("page"))
    )
    Store(root).publish(FileOutput("report", 1, again, {}, {}, never))
    assert output.read_text() == again.read_text() == "page"
    entry = root / "report" / f"{fingerprint('report', 1, {}, {})}.html"
    assert output.stat().st_ino == again.stat().st_ino == entry.stat().st_ino
    assert json.loads((tmp_path / "a" / "report.json").read_text())["sizes"] == {"": 4}


def test_file_does_not_meet_the_file_of_a_killed_run(tmp_path, root):
    """That one may be another user's, and then could not be written to."""

    def compute(path):
        assert not path.exists()
        path.write_text("whole")

    key = fingerprint("report", 1, {}, {})
    left = root / "report" / f"{key}.parts" / "complete.html"
    left.parent.mkdir(parents=True)
    left.write_text("left")
    left.chmod(0o444)
    Store(root).publish(FileOutput("report", 1, tmp_path / "report.html", {}, {}, compute))
    assert (tmp_path / "report.html").read_text() == "whole"


@pytest.fixture
def another_file_system(monkeypatch):
    def link(source, target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))

    monkeypatch.setattr(os, "link", link)


def test_a_table_has_one_entry_whatever_its_output_is_called(tmp_path, root):
    publish(root, tmp_path / "a.parquet", Squares())
    again = Squares()
    publish(root, tmp_path / "b.pq", again)
    assert (again.prepared, (tmp_path / "b.pq").stat().st_ino) == (0, entry_of(root).stat().st_ino)


def test_table_is_copied_to_another_file_system(tmp_path, root, another_file_system):
    output = tmp_path / "out" / "rows.parquet"
    publish(root, output, Squares())
    publish(root, output, never)
    assert output.read_bytes() == entry_of(root).read_bytes()
    assert output.stat().st_nlink == 1
    assert output.stat().st_ino != entry_of(root).stat().st_ino
    beside = {"rows.parquet", "rows.json", ".rows.receipt"}
    assert {path.name for path in output.parent.iterdir()} == beside


def test_folder_is_copied_to_another_file_system(tmp_path, root, another_file_system):
    output = tmp_path / "out"
    store = Store(root)
    store.publish(FolderOutput("model", 1, output, {"a": 1}, {}, fill_with({"a": "1", "b/c": "2"})))
    store.publish(FolderOutput("model", 1, output, {"a": 2}, {}, fill_with({"b/c": "3"})))
    assert contents(output) == {"b/c": "3"}
    assert json.loads((output / "provenance.json").read_text())["settings"] == {"a": 2}


def test_copy_does_not_meet_the_draft_of_a_killed_copy(tmp_path, root, another_file_system):
    """That one may be another user's, and then could not be written to."""
    draft = tmp_path / ".out.parquet.draft"
    draft.write_bytes(b"left")
    with draft.open("rb") as left:
        publish(root, tmp_path / "out.parquet", Squares())
        assert left.read() == b"left"  # not written to: another file took its name
    assert table.read(tmp_path / "out.parquet", SQUARES).equals(RESULT)


def test_two_processes_compute_once(tmp_path, root):
    other = child("job_beside_another", root, tmp_path, "one", "two")
    job_beside_another(root, tmp_path, "two", "one")
    assert other.wait(60) == 0
    assert len(list(tmp_path.glob("computed_by_*"))) == 1
    outputs = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    assert {path.stat().st_ino for path in outputs} == {entry_of(root).stat().st_ino}
    assert table.read(outputs[0], SQUARES).equals(RESULT)


def test_waiting_for_another_process_is_said(tmp_path, root, messages):
    output, key = tmp_path / "out.parquet", entry_of(root).stem
    (root / "squares").mkdir(parents=True)
    lock = FileLock(root / "squares" / f"{key}.lock")
    waiting = f"waiting for the process that makes squares {key[:12]}"
    with ThreadPoolExecutor() as pool:
        with lock:
            job = pool.submit(publish, root, output, Squares())
            deadline = time.monotonic() + 60
            while messages() != [waiting]:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        job.result(60)
    assert messages() == [waiting, f"computed squares {key[:12]}"]


@pytest.fixture
def pruned(tmp_path, root):
    """A store: a used file, an unused one and an unused folder, and what killed jobs left."""
    store, megabyte = Store(root), "x" * 1_000_000
    for name in ("used", "unused"):
        output = tmp_path / f"{name}.html"
        store.publish(
            FileOutput(
                "report", 1, output, {"name": name}, {}, lambda path: path.write_text(megabyte)
            )
        )
    (tmp_path / "unused.html").unlink()
    (tmp_path / "unused.json").unlink()
    store.publish(
        FolderOutput(
            "model", 1, tmp_path / "model", {}, {}, fill_with({"a": megabyte, "b": megabyte})
        )
    )
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(InterruptedError):
        publish(root, tmp_path / "out.parquet", Squares(stop_after=1))
    parts = entry_of(root).with_suffix(".parts")
    (parts / "rows_000000000_000000003.parquet").write_text(megabyte)
    refresh = root / "report" / f"{fingerprint('report', 1, {'name': 'used'}, {})}.refresh.parts"
    refresh.mkdir()
    return {
        "used": root / "report" / f"{fingerprint('report', 1, {'name': 'used'}, {})}.html",
        "file": root / "report" / f"{fingerprint('report', 1, {'name': 'unused'}, {})}.html",
        "folder": root / "model" / fingerprint("model", 1, {}, {}),
        "parts": parts,
        "refresh": refresh,
    }


def test_prune_lists_what_nothing_links_to(root, pruned, capsys):
    prune.main(["--store", str(root)])
    assert capsys.readouterr().out.splitlines() == [
        f"      2.00 MB  {pruned['folder']}",
        f"      0.00 MB  {pruned['refresh']}",
        f"      1.00 MB  {pruned['file']}",
        f"      1.00 MB  {pruned['parts']}",
        "      4.00 MB  unused; delete with: make prune DELETE=1",
    ]
    assert all(path.exists() for path in pruned.values())


def test_prune_lists_what_was_kept_aside_once_nothing_links_to_it(tmp_path, root, capsys):
    output, again, entry = tmp_path / "out.parquet", tmp_path / "two.parquet", entry_of(root)
    publish(root, output, Squares())
    publish(root, again, Squares())
    write_in_place(output)
    publish(root, output, Squares())
    assert list(prune.unused(root)) == []
    publish(root, again, never)
    aside = set_aside_of(entry)
    assert list(prune.unused(root)) == [aside]
    prune.main(["--store", str(root), "--delete"])
    left = {path.name for path in (root / "squares").iterdir() if path.suffix != ".lock"}
    assert left == {f"{entry.stem}{suffix}" for suffix in (".parquet", ".json", ".seen")}


def test_prune_deletes_on_request(tmp_path, root, pruned):
    done = subprocess.run(
        [sys.executable, "-m", "mpd.prune", "--store", str(root), "--delete"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"      2.00 MB  {pruned['folder']}",
        f"      0.00 MB  {pruned['refresh']}",
        f"      1.00 MB  {pruned['file']}",
        f"      1.00 MB  {pruned['parts']}",
        "      4.00 MB  deleted",
    ]
    assert {name: path.exists() for name, path in pruned.items()} == {
        "used": True,
        "file": False,
        "folder": False,
        "parts": False,
        "refresh": False,
    }
    assert not pruned["file"].with_suffix(".json").exists()
    assert not pruned["folder"].with_suffix(".json").exists()
    assert pruned["used"].with_suffix(".json").exists()
    assert (tmp_path / "used.html").stat().st_nlink == 2

    publish(root, tmp_path / "out.parquet", Squares())
    prune.main(["--store", str(root), "--delete"])
    assert entry_of(root).exists()


def test_prune_keeps_what_a_running_job_holds(root, pruned, capsys):
    held = (pruned[name].with_suffix(".lock") for name in ("folder", "parts", "used"))
    with ExitStack() as locks:
        for path in held:
            locks.enter_context(FileLock(path))
        prune.main(["--store", str(root), "--delete"])
    assert capsys.readouterr().out.splitlines() == [
        f"      1.00 MB  {pruned['file']}",
        "      1.00 MB  deleted",
    ]
    assert [name for name, path in pruned.items() if not path.exists()] == ["file"]
    assert pruned["folder"].with_suffix(".json").exists()


def test_prune_of_no_store(tmp_path, capsys):
    prune.main(["--store", str(tmp_path / "none")])
    assert capsys.readouterr().out == "      0.00 MB  unused; delete with: make prune DELETE=1\n"


def test_to_look_for_an_output_computes_nothing_and_leaves_no_trace(tmp_path):
    root, path = tmp_path / "store", tmp_path / "out.parquet"
    work = Squares()
    output = TableOutput(SQUARES, path, {"power": 2}, {"rows": "abc"}, work)
    meaning = {"kind": "squares", "version": 1, "settings": {"power": 2}, "inputs": {"rows": "abc"}}
    assert output.meaning == meaning
    assert Store(root).find(output) is None
    assert (work.prepared, list(tmp_path.iterdir())) == (0, [])
    Store(root).publish(output)
    assert Store(root).find(output) == root / "squares" / f"{fingerprint(**meaning)}.parquet"
    note = json.loads(path.with_suffix(".json").read_text())
    assert {key: note[key] for key in meaning} == meaning


def test_a_stage_is_sent_where_each_of_its_outputs_can_be_read(tmp_path):
    root, sent = tmp_path / "store", []

    def outputs():
        for name in ("first", "second"):
            path = tmp_path / f"{name}.txt"
            sent.append(
                (yield FileOutput(name, 1, path, {}, {}, lambda path: path.write_text("x")))
            )

    take_each(outputs(), Store(root).find)
    assert sent == [None, None]
    take_each(outputs(), Store(root).publish)
    assert sent[2:] == [tmp_path / "first.txt", tmp_path / "second.txt"]
    take_each(outputs(), Store(root).find)
    assert sent[4:] == [next(root.glob(f"{name}/*.txt")) for name in ("first", "second")]


def test_a_stage_is_closed_where_its_output_cannot_be_computed(tmp_path):
    """It may own processes, which would outlive the error."""
    closed = []

    def failing(path):
        raise InterruptedError

    def outputs():
        try:
            yield FileOutput("page", 1, tmp_path / "page.txt", {}, {}, failing)
        finally:
            closed.append(True)

    stage = outputs()  # a reference that outlives the error, as a traceback has
    with pytest.raises(InterruptedError):
        take_each(stage, Store(tmp_path / "store").publish)
    assert closed == [True]


def test_an_iterator_that_ends_while_an_output_is_computed_is_an_error(tmp_path):
    def outputs():
        yield FileOutput("page", 1, tmp_path / "page.txt", {}, {}, lambda path: next(iter([])))

    with pytest.raises(StopIteration):
        take_each(outputs(), Store(tmp_path / "store").publish)


def test_a_file_in_a_folder_of_a_folder_is_an_unchanged_input(tmp_path, root):
    output, store = tmp_path / "out", Store(root)
    files = {"manifest.json": "{}", "deep/config": "5"}
    store.publish(FolderOutput("model", 1, output, {}, {}, fill_with(files)))
    store.require_unchanged(output / "manifest.json")
    write_in_place(output / "deep" / "config", b"6")
    with pytest.raises(ValueError, match="deep/config was changed after it was made"):
        store.require_unchanged(output / "manifest.json")


def test_prune_keeps_what_is_copied_to_a_path_with_dots(
    tmp_path, root, another_file_system, monkeypatch, capsys
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    publish(root, Path("../out.parquet"), Squares())
    prune.main(["--store", str(root), "--delete"])
    assert entry_of(root).exists()


def test_a_json_file_is_not_its_own_note(tmp_path):
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"digest": "abc"}')
    assert note_beside(manifest) == {}
    write_note(tmp_path / "provenance.json", kind="models")
    assert note_beside(manifest)["kind"] == "models"
