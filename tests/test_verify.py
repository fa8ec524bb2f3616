"""verify: what is damaged, what depends on it, and what the next run makes again."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from mpd import verify
from mpd.job.layout import Experiment
from mpd.store import schema, table
from mpd.store.digests import file_digest
from mpd.store.model_folder import read_manifest
from mpd.store.notes import receipt_beside
from mpd.store.outputs import FileOutput, FolderOutput, TableOutput
from mpd.store.publishing import Store
from tests.ordinary import ORDINARY

RESULTS = Path("results")
EXPERIMENT = Experiment(RESULTS / "tiny")
ROUND = EXPERIMENT.round("mpd", 0, 1)
SAMPLE, COMPRESS, FILTER = (ROUND.shards(stage, 1)[0] for stage in ("sample", "compress", "filter"))
OTHER = EXPERIMENT.round("mpd", 0, 2).shards("sample", 1)[0]
STUDENT, TEACHER = EXPERIMENT.base_student(0), EXPERIMENT.teacher


class World:
    """A run as far as filter in the working folder, as its stages would publish it."""

    def __init__(self, shard, models):
        self.frames = {
            name: table.read(path, getattr(schema, name.upper())) for name, path in shard.items()
        }
        self.models = models

    def run(self):
        """Publish everything, as after a run of Snakemake."""
        store = Store(RESULTS / "store")
        for manifest, source in self.models.items():

            def copy(folder, scratch, source=source):
                shutil.copytree(source.parent, folder, dirs_exist_ok=True)

            settings = {"source": str(source)}
            store.publish(FolderOutput("models", 3, manifest.parent, settings, {}, copy))
        train = EXPERIMENT.train_shards(1)[0]

        def problems(folder, scratch):
            table.write(folder / train.name, self.frames["problems"], schema.PROBLEMS, {})

        store.publish(FolderOutput("problems", [1], train.parent, {}, {}, problems))
        made_from = {"problems": content(train, schema.PROBLEMS)}
        for path, drawn in ((SAMPLE, 8), (OTHER, 7)):
            student = {"student": read_manifest(STUDENT)["digest"]}
            self.table(store, path, schema.SAMPLE, {**made_from, **student}, drawn)
        made_from["sample"] = content(SAMPLE, schema.SAMPLE)
        self.table(store, COMPRESS, schema.COMPRESS, made_from)
        made_from["compress"] = content(COMPRESS, schema.COMPRESS)
        self.table(store, FILTER, schema.FILTER, made_from)
        store.publish(
            FileOutput("report", 1, EXPERIMENT.report, {}, {}, lambda path: path.write_text("page"))
        )

    def table(self, store, path, artifact, inputs, count=8):
        def compute(parts):
            parts.write(self.frames[artifact.name].head(count))

        settings = {"count": count}
        store.publish(TableOutput(artifact, path, settings, inputs, compute, identity=inputs))


def content(path, artifact):
    return table.content_digest(path, artifact)


@pytest.fixture
def world(shard, student, teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world = World(shard, {STUDENT: student, TEACHER: teacher})
    world.run()
    return world


@pytest.fixture
def check(capsys):
    """A function that runs the program; it returns its lines, and whether it ended with code 1."""

    def check(*arguments):
        code = 0
        try:
            verify.main(["results", *arguments])
        except SystemExit as end:
            code = end.code
        return capsys.readouterr().out.splitlines(), code

    return check


def flip(path):
    """Flip a bit in place: the entry of the store is the same file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(data)


def edited(path):
    """Another row in a table whose footer is kept, in a file of its own beside a note that fits."""
    rows = pq.read_table(path)
    column = pa.array([0.25] * len(rows), pa.float64())
    rows = rows.set_column(rows.schema.get_field_index("overlap"), "overlap", column)
    footer = {b"mpd": pq.read_metadata(path).metadata[b"mpd"]}
    pq.write_table(rows.replace_schema_metadata(footer), path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    note = path.with_suffix(".json")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    text = json.loads(note.read_text()) | {"digests": {"": digest}}
    text["sizes"] = {"": path.stat().st_size}
    del text["checksum"]
    note.unlink()
    note.write_text(json.dumps(text))


def swap_in(path):
    """A sample of another round with its note, as after copying it."""
    for suffix in (".parquet", ".json"):
        path.with_suffix(suffix).unlink()
        shutil.copy(OTHER.with_suffix(suffix), path.with_suffix(suffix))


def forget_receipt(path):
    receipt_beside(path.with_suffix(".json")).unlink()


def entry_of(path):
    (found,) = (e for e in RESULTS.glob("store/*/*") if e.is_file() and e.samefile(path))
    return found


def folder_entry_of(path):
    (found,) = (e for e in RESULTS.glob("store/*/*/*") if e.samefile(path))
    return found


def digest(path):
    return file_digest(path)[:12]


def digest_in(text):
    return text.partition("expected SHA-256 ")[2][:12], text.partition("found ")[2][:12]


def times_below(folder):
    status = {path: path.stat() for path in folder.rglob("*")}
    return {path: (each.st_mtime_ns, each.st_ctime_ns) for path, each in status.items()}


def files_below(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


DOWNSTREAM = f"{COMPRESS}, {FILTER}, {EXPERIMENT.report}"


def test_a_whole_tree_is_whole_and_left_alone(world, check):
    before = times_below(RESULTS)
    assert check() == (["28 files in 16 outputs and entries: all whole"], 0)
    assert times_below(RESULTS) == before


def test_copies_of_rounds_are_no_rounds(world, check):
    shutil.copytree(ROUND.folder, ROUND.folder.with_name("round_1.bak"))
    ROUND.folder.with_name("round_2_old.tar").touch()
    lines, code = check()
    assert code == 0 and lines[-1].endswith(": all whole")


def test_a_flipped_byte_of_a_table(world, check):
    flip(SAMPLE)
    entry = entry_of(SAMPLE)
    (line, last), code = check()
    expected, found = digest_in(line)
    assert expected != found
    assert line == (
        f"{SAMPLE}: expected SHA-256 {expected}, found {found}; the same file: {entry}; "
        f"depends on it: {DOWNSTREAM}"
    )
    assert (last, code) == ("28 files in 16 outputs and entries: 1 damaged or out of place", 1)


def test_flipped_weights(world, check):
    weights = STUDENT.with_name("model.safetensors")
    flip(weights)
    (line, _), code = check()
    expected, found = digest_in(line)
    assert line == (
        f"{weights}: expected SHA-256 {expected}, found {found}; the same file: "
        f"{folder_entry_of(weights)}; depends on it: {SAMPLE}, {COMPRESS}, {FILTER}, 1 more"
    )
    assert code == 1


def test_a_cut_page(world, check):
    os.truncate(EXPERIMENT.report, 2)
    entry = entry_of(EXPERIMENT.report)
    assert check()[0][0] == (
        f"{EXPERIMENT.report}: expected 4 bytes, found 2; the same file: {entry}; "
        "depends on it: nothing"
    )


def test_a_damaged_note(world, check):
    note = SAMPLE.with_suffix(".json")
    entry = entry_of(note)
    os.truncate(note, 20)
    line = check()[0][0]
    assert line.startswith(f"{note}: expected a note, found not JSON (")
    assert line.endswith(f"; the same file: {entry}; depends on it: {DOWNSTREAM}")


def test_a_damaged_note_of_a_page(world, check):
    note = EXPERIMENT.report.with_suffix(".json")
    entry = entry_of(note)
    os.truncate(note, 0)
    line = check()[0][0]
    assert line.startswith(f"{note}: expected a note, found not JSON (")
    assert line.endswith(f"; the same file: {entry}; depends on it: nothing")


def test_an_edited_manifest_without_its_note(world, check):
    for name in ("provenance.json", ".provenance.receipt"):
        STUDENT.with_name(name).unlink()
    text = STUDENT.read_text().replace('"context_length": 256', '"context_length": 512')
    STUDENT.unlink()
    STUDENT.write_text(text)
    line = check()[0][0]
    assert line.startswith(f"{STUDENT}: expected the checksum of its other keys, found '")
    assert line.endswith(f"; depends on it: {SAMPLE}, {COMPRESS}, {FILTER}, 1 more")


def test_a_missing_file_of_a_model(world, check):
    path = TEACHER.with_name("config.json")
    size = path.stat().st_size
    path.unlink()
    assert check()[0][0] == (
        f"{path}: expected {size} bytes, found no file; depends on it: nothing"
    )


def test_a_lost_manifest_leaves_the_model_in_the_store_alone(world, check):
    size = TEACHER.stat().st_size
    TEACHER.unlink()
    (line, _), _ = check()
    assert line.startswith(f"{TEACHER}: expected {size} bytes, found no file; depends on it: ")
    check("--repair")
    world.run()
    assert not [*RESULTS.glob("store/*/*-changed*")]
    assert check()[1] == 0


def test_an_edited_row_with_its_footer_kept(world, check):
    edited(FILTER)
    forget_receipt(FILTER)
    digest = content(FILTER, schema.FILTER)[:12]
    assert check()[0][0] == (
        f"{FILTER}: expected the rows with the digest {digest}, found other rows; "
        f"depends on it: {EXPERIMENT.report}"
    )


@pytest.mark.parametrize("has_note", [True, False])
def test_a_receipt_tells_what_is_out_of_place(world, check, has_note):
    found, expected = digest(OTHER), digest(SAMPLE)
    swap_in(SAMPLE)
    if not has_note:
        SAMPLE.with_suffix(".json").unlink()
    (line, _), code = check()
    assert line == (
        f"{SAMPLE}: expected SHA-256 {expected} by .shard_0.receipt, found {found}; "
        f"depends on it: {DOWNSTREAM}"
    )
    assert code == 1


def test_a_damaged_receipt(world, check):
    receipt = receipt_beside(SAMPLE.with_suffix(".json"))
    receipt.write_text(receipt.read_text().replace('"sizes"', '"size"'))
    (line, _), _ = check()
    assert line.startswith(f"{receipt}: expected the keys of a note, found 'size'")
    check("--repair")
    world.run()
    assert check()[1] == 0


def test_a_sample_of_another_round(world, check):
    """By the digests that the footers name: there is no receipt."""
    forget_receipt(SAMPLE)
    before = content(SAMPLE, schema.SAMPLE)[:12]
    swap_in(SAMPLE)
    lines, code = check()
    now = content(SAMPLE, schema.SAMPLE)[:12]
    assert lines == [
        f"{path}: expected to be made from {SAMPLE} with the digest {now}, found that it was made "
        f"from sample {before}; depends on it: {following}"
        for path, following in (
            (COMPRESS, f"{FILTER}, {EXPERIMENT.report}"),
            (FILTER, EXPERIMENT.report),
        )
    ] + ["30 files in 16 outputs and entries: 2 damaged or out of place"]
    assert code == 1


def test_the_folder_of_one_experiment_is_checked_likewise(world, check, capsys):
    forget_receipt(SAMPLE)
    swap_in(SAMPLE)
    lines, _ = check()
    with pytest.raises(SystemExit):
        verify.main([str(EXPERIMENT.folder), "--store", str(RESULTS / "store")])
    assert capsys.readouterr().out.splitlines()[:-1] == lines[:-1]


def test_problems_of_another_benchmark(world, check):
    """Their rows may be the same: every digest fits."""
    store = Store(RESULTS / "store")
    one = EXPERIMENT.problems("one")
    for name in ("one", "two"):
        identity = {"benchmark": name}

        def compute(parts):
            parts.write(world.frames["problems"])

        path = EXPERIMENT.problems(name)
        store.publish(TableOutput(schema.PROBLEMS, path, identity, {}, compute, identity=identity))
    assert check()[1] == 0
    forget_receipt(one)
    for suffix in (".parquet", ".json"):
        one.with_suffix(suffix).unlink()
        EXPERIMENT.problems("two").with_suffix(suffix).rename(one.with_suffix(suffix))
    (line, _), code = check()
    assert line.startswith(
        f"{one}: benchmark one is expected there, but it holds that of benchmark two; "
    )
    assert code == 1
    check("--repair")
    assert not one.exists() and check()[1] == 0


def test_entries_of_the_store(world, check):
    alone = RESULTS / "store/sample" / f"{'0' * 32}.json"
    note = entry_of(OTHER).with_suffix(".json")
    OTHER.with_suffix(".json").unlink()
    OTHER.unlink()
    note.rename(alone)
    lines, _ = check()
    assert lines[:2] == [
        f"{note}: expected a note, found no file; depends on it: nothing",
        f"{alone}: expected the note of 000000000000, found that of {note.stem[:12]}; depends on "
        "it: nothing",
    ]


DAMAGE = {
    "flipped table": lambda: flip(SAMPLE),
    "flipped weights": lambda: flip(STUDENT.with_name("model.safetensors")),
    "flipped manifest": lambda: flip(TEACHER),
    "flipped problems": lambda: flip(EXPERIMENT.train_shards(1)[0]),
    "cut table": lambda: os.truncate(COMPRESS, 99),
    "empty page": lambda: os.truncate(EXPERIMENT.report, 0),
    "cut note": lambda: os.truncate(SAMPLE.with_suffix(".json"), 20),
    "cut note of a folder": lambda: os.truncate(STUDENT.with_name("provenance.json"), 20),
    "edited row": lambda: edited(FILTER),
    "another round": lambda: swap_in(SAMPLE),
    "missing file": lambda: TEACHER.with_name("config.json").unlink(),
    "missing in the store": lambda: entry_of(FILTER).unlink(),
    "note lost in the store": lambda: entry_of(FILTER).with_suffix(".json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_repaired_is_made_again(world, check, damage):
    whole = files_below(EXPERIMENT.folder)
    DAMAGE[damage]()
    before = set(files_below(RESULTS).values())
    assert check()[1] == 1
    lines, code = check("--repair")
    assert code == 0
    assert [line for line in lines if line.startswith("set aside ")]
    assert lines[-1] == (
        "run snakemake to make it again; then delete *.damaged, and `make prune DELETE=1`"
    )
    assert set(files_below(RESULTS).values()) == before  # links go, and no bytes
    again, code = check("--repair")
    assert (again[-1].partition(": ")[2], code) == ("all whole", 0)
    world.run()
    assert check()[1] == 0
    now = files_below(EXPERIMENT.folder)
    for path, data in whole.items():
        # The time that computing it took is another one.
        is_note = path.name == "provenance.json" or path.with_suffix(".parquet") in whole
        if path.suffix == ".parquet" or not (is_note or path == EXPERIMENT.folder / "report.json"):
            assert now[path] == data, path


def test_what_follows_is_linked_again_where_the_store_has_it(world, check):
    flip(SAMPLE)
    check("--repair")
    assert not any(path.exists() for path in (SAMPLE, COMPRESS, FILTER, EXPERIMENT.report))
    assert OTHER.exists() and STUDENT.exists()
    world.run()
    assert entry_of(FILTER) and entry_of(EXPERIMENT.report)


def test_what_follows_stays_where_the_store_does_not_have_it(world, check):
    shutil.rmtree(RESULTS / "store")
    flip(SAMPLE)
    lines, _ = check("--repair")
    assert lines[-1] == (
        f"run snakemake --forcerun {SAMPLE} to make it again; then delete *.damaged, and `make "
        "prune DELETE=1`"
    )
    assert FILTER.exists() and not SAMPLE.exists()


def test_a_job_at_work_is_left_alone(world, check):
    flip(SAMPLE)
    entry = entry_of(SAMPLE)
    with (
        FileLock(entry.with_suffix(".lock")),
        pytest.raises(ValueError, match=f"^{entry}: a job is at work on it; repair when nothing"),
    ):
        check("--repair")
    assert entry.exists()


def test_the_program_ends_with_its_code(world):
    flip(SAMPLE)
    repository = Path(verify.__file__).parents[1]
    for code in (1, 0):
        command = [sys.executable, "-m", "mpd.verify", "results/"]
        done = subprocess.run(
            [*command, *(["--repair"] if code == 0 else [])],
            env={**os.environ, "PYTHONPATH": str(repository)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr


def test_no_results_are_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="no such folder; give that of the results"):
        verify.main([str(tmp_path / "nowhere")])


@pytest.mark.parametrize("name", ["tiny", "store", "tiny/problems", "store/sample"])
def test_a_part_of_the_results_is_refused(world, name):
    before = files_below(RESULTS)
    with pytest.raises(ValueError, match="expected experiments and their store, found neither"):
        verify.main([str(RESULTS / name), "--repair"])
    assert files_below(RESULTS) == before


@pytest.mark.parametrize("place", [FILTER, FILTER.parent, RESULTS / "store/sample"])
def test_what_may_not_be_read_is_not_called_whole_or_damaged(world, place):
    before = files_below(RESULTS)
    mode = place.stat().st_mode
    place.chmod(0)
    repository = Path(verify.__file__).parents[1]
    try:
        done = subprocess.run(
            [*ORDINARY, sys.executable, "-m", "mpd.verify", "results/", "--repair"],
            env={**os.environ, "PYTHONPATH": str(repository)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        place.chmod(mode)
    assert done.returncode == 1 and not done.stdout
    assert re.fullmatch(
        r"verify: error: results/\S+ belongs to .* may not read it; .*\n", done.stderr
    )
    assert files_below(RESULTS) == before
