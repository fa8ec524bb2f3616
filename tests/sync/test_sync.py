"""sync: what is copied to an address and back, and what is refused."""

import logging
import shutil
import subprocess
import sys

import pytest

from mpd.job.runs import run_lock
from mpd.store import schema, table
from mpd.store.outputs import FolderOutput, TableOutput
from mpd.store.publishing import Store
from mpd.store.units import units_in
from mpd.store.verification import Verifier
from mpd.sync.remote import Remote
from mpd.text.questions import problem_id
from tests.sync.conftest import MODEL, PARTS, REPORT, is_link, write_model, write_page

UNFINISHED = ("complete.parquet", ".rows_1.parquet.draft")


@pytest.fixture(autouse=True)
def logged(caplog):
    caplog.set_level(logging.INFO, "mpd")
    return caplog


def pulled(address, make_place, *words):
    there = make_place("there")
    there.sync("pull", address, *words)
    return there


def test_a_pull_gives_what_was_pushed_with_times_and_links(place, address, make_place):
    place.sync("push", address)
    there = pulled(address, make_place)
    expected = place.files()
    for name in UNFINISHED:
        del expected[f"{PARTS}/{name}"]
    assert there.files() == expected
    assert is_link(there.folder, REPORT, "report")
    assert is_link(there.folder, f"{MODEL}/model.safetensors", "models")
    assert is_link(there.folder, f"{MODEL}/provenance.json", "models")
    units = units_in(there.folder / "results", there.folder / "results/store")
    verifier = Verifier(units)
    verifier.check_all()
    assert [
        fault.message for fault in verifier.faults.values() if fault.path.suffix != ".json"
    ] == []


def test_what_is_there_is_not_copied_again(place, address, make_place, logged):
    place.sync("push", address)
    place.sync("push", address)
    there = pulled(address, make_place)
    there.sync("pull", address)
    lines = [line for line in logged.messages if "files copied" in line]
    assert ": 0 files copied" in lines[1] and ": 0 files copied" in lines[3]
    assert ": 0 files copied" not in lines[0] and ": 0 files copied" not in lines[2]


def test_parts_of_work_that_has_finished_go(place, address, make_place, objects):
    place.sync("push", address)
    assert any(name.startswith("unfinished/tiny/") for name in objects(address)[1])
    shutil.rmtree(place.folder / PARTS)
    place.sync("push", address)
    assert not any(name.startswith("unfinished/tiny/") for name in objects(address)[1])
    assert not (pulled(address, make_place).folder / PARTS).exists()


def test_parts_that_another_push_deleted_are_not_needed(place, address, make_place, objects):
    place.sync("push", address)
    system, files = objects(address)
    for name, path in files.items():
        if name.startswith("unfinished/"):
            system.rm_file(path)
    there = pulled(address, make_place)
    assert (there.folder / REPORT).read_text() == "report" and not (there.folder / PARTS).exists()


def test_parts_that_were_computed_here_stay(place, address, make_place, logged):
    place.sync("push", address)
    there = make_place("there")
    other = there.folder / PARTS / "rows_5.parquet"
    other.parent.mkdir(parents=True)
    other.write_text("other")
    for more in ([], ["--overwrite"]):
        there.sync("pull", address, *more)
        assert [path.name for path in other.parent.iterdir()] == [other.name]
        assert "has other parts, which stay" in logged.text


def test_half_of_a_state_of_a_training_replaces_no_whole_one(
    place, address, make_place, monkeypatch
):
    place.sync("push", address)
    state, newer = (place.folder / PARTS / f"trained_{number}" for number in (1, 2))
    state.rename(newer)
    for name in ("part_0.pt", "part_1.pt"):
        (newer / name).write_text(f"step 2 {name}")
    put = Remote.put

    def put_and_lose(remote, path, folder):
        (place.folder / PARTS / "trained_2/part_1.pt").unlink(missing_ok=True)
        return put(remote, path, folder)

    monkeypatch.setattr(Remote, "put", put_and_lose)
    place.sync("push", address)
    folder = pulled(address, make_place).folder / PARTS
    assert {path.name for path in folder.iterdir()} == {"rows_0.parquet", "trained_1"}
    assert (folder / "trained_1/part_0.pt").read_text() == "trained_1/part_0.pt"


def test_what_another_machine_pushes_meanwhile_stays(place, address, make_place, monkeypatch):
    other = make_place("other")
    monkeypatch.chdir(other.folder)
    model = "results/tiny/models/other"
    Store(other.folder / "results/store").publish(write_model(other.folder / model))
    other.sync("push", address)
    index, reads = Remote.index, []

    def index_before_the_other(remote, experiment):
        reads.append(experiment)
        content, place = index(remote, experiment)
        return (None if len(reads) == 1 else content), place

    monkeypatch.setattr(Remote, "index", index_before_the_other)
    place.sync("push", address)
    monkeypatch.undo()
    files = pulled(address, make_place).files()
    assert f"{model}/manifest.json" in files and REPORT in files


def test_a_folder_that_lost_a_file_is_pulled_as_it_is_now(place, address, make_place):
    place.sync("push", address)
    store = Store(place.folder / "results/store", refresh=True)

    def compute(target, scratch):
        for name in ("config.json", "model-1.safetensors", "manifest.json"):
            (target / name).write_text(name)

    store.publish(FolderOutput("models", 1, place.folder / MODEL, {}, {}, compute))
    place.sync("push", address)
    there = pulled(address, make_place)
    names = {path.name for path in (there.folder / MODEL).iterdir() if path.name[0] != "."}
    assert names == {"config.json", "model-1.safetensors", "manifest.json", "provenance.json"}


def test_unfinished_work_goes_on_elsewhere(place, address, make_place, logged):
    questions = [f"What is {number} + 1?" for number in range(4)]
    rows = [
        {"problem_id": problem_id(text), "question": text, "gold": "1", "source_row": row}
        for row, text in enumerate(questions)
    ]
    frame = table.frame_of(rows, schema.PROBLEMS)

    def outputs(folder, work):
        def compute(parts):
            parts.map(frame, 1, lambda: work)

        path = folder / "results/tiny/problems/eval/dev.parquet"
        return TableOutput(schema.PROBLEMS, path, {}, {}, compute)

    def half(part):
        if part["source_row"][0] == 2:
            raise RuntimeError("preempted")
        return part

    with pytest.raises(RuntimeError, match="preempted"):
        Store(place.folder / "results/store").publish(outputs(place.folder, half))
    place.sync("push", address)
    there = pulled(address, make_place)
    output = outputs(there.folder, lambda part: part)
    Store(there.folder / "results/store").publish(output)
    assert "resumed: 2 of 4 parts were there" in logged.messages
    assert table.read(output.path, schema.PROBLEMS)["source_row"].to_list() == [0, 1, 2, 3]


def test_a_damaged_file_at_the_address_is_refused(place, address, make_place, objects):
    place.sync("push", address)
    system, files = objects(address)
    for name, path in files.items():
        if name.startswith("objects/") and system.cat_file(path) == b"report":
            system.pipe_file(path, b"repost")
    with pytest.raises(ValueError, match=r"objects/\w+: damaged \(expected SHA-256 .* found"):
        pulled(address, make_place)
    assert not list((make_place("none").folder.parent / "there").rglob("*.html"))


def test_a_damaged_index_is_refused(place, address, make_place, objects):
    place.sync("push", address)
    system, files = objects(address)
    index = system.cat_file(files["experiments/tiny.json"])
    system.pipe_file(files["experiments/tiny.json"], index.replace(b"report.html", b"repost.html"))
    with pytest.raises(ValueError, match=r"tiny.json: expected the checksum of its other keys"):
        pulled(address, make_place)


def test_an_object_of_another_size_is_copied_again(place, address, make_place, objects):
    place.sync("push", address)
    system, files = objects(address)
    cut = next(path for name, path in files.items() if name.startswith("objects/"))
    system.pipe_file(cut, b"")
    place.sync("push", address)
    assert REPORT in pulled(address, make_place).files()


def test_a_file_here_that_differs_is_replaced_only_on_demand(place, address, make_place):
    place.sync("push", address)
    there = make_place("there")
    path = there.folder / REPORT
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"^results/tiny/report.html: expected what is at .*over"):
        there.sync("pull", address)
    assert [*there.folder.rglob("*.html")] == [path] and path.read_text() == "mine"
    there.sync("pull", address, "--overwrite")
    assert path.read_text() == "report" and is_link(there.folder, REPORT, "report")


def test_a_note_without_its_output_is_replaced(place, address, make_place):
    place.sync("push", address)
    there = pulled(address, make_place)
    expected = there.files()
    (there.folder / REPORT).unlink()
    for name in ("report.json", ".report.receipt"):
        (there.folder / REPORT).with_name(name).unlink()
        (there.folder / REPORT).with_name(name).write_text("{}")
    there.sync("pull", address)
    assert {name: data for name, (data, _) in there.files().items()} == {
        name: data for name, (data, _) in expected.items()
    }


def test_copies_become_links_again(place, address, make_place):
    place.sync("push", address)
    there = pulled(address, make_place)
    path = there.folder / REPORT
    path.unlink()
    path.write_text("report")
    assert not is_link(there.folder, REPORT, "report")
    there.sync("pull", address)
    assert is_link(there.folder, REPORT, "report")


def test_a_pull_ends_what_a_killed_run_left_unfinished(place, address, make_place):
    place.sync("push", address)
    there = make_place("there")
    record = next((place.folder / ".snakemake/metadata").iterdir())
    for folder in ("metadata", "incomplete"):
        (there.folder / ".snakemake" / folder).mkdir(parents=True)
        (there.folder / ".snakemake" / folder / record.name).write_text('{"of": "the killed run"}')
    there.sync("pull", address)
    assert (there.folder / ".snakemake/metadata" / record.name).read_text() == "{}"
    assert not (there.folder / ".snakemake/incomplete" / record.name).exists()


def test_the_store_may_be_a_symbolic_link(place, address, make_place, tmp_path):
    place.sync("push", address)
    there = make_place("there")
    for folder in (tmp_path / "scratch", there.folder / "results"):
        folder.mkdir()
    (there.folder / "results/store").symlink_to(tmp_path / "scratch")
    there.sync("pull", address)
    stored = next((tmp_path / "scratch/report").glob("*.html"))
    assert stored.samefile(there.folder / REPORT)
    there.sync("push", f"{address}2")
    last = make_place("last")
    last.sync("pull", f"{address}2")
    assert (last.folder / REPORT).read_text() == "report"
    assert is_link(last.folder, REPORT, "report")


def test_a_long_copy_logs_its_progress(place, address, logged, monkeypatch):
    monkeypatch.setattr("mpd.sync.copying.LINE_SECONDS", 0)
    place.sync("push", address)
    lines = [line for line in logged.messages if line.startswith("push tiny: 1 of ")]
    assert len(lines) == 1 and lines[0].endswith(" left") and " MB/s, " in lines[0]


def test_what_is_not_as_its_note_says_is_left_out(place, address, make_place):
    place.sync("push", address)
    (place.folder / MODEL / "config.json").write_text("edited")  # the entry, too
    with pytest.raises(ValueError, match=r"^left out 1 artifacts .* mpd.verify"):
        place.sync("push", address)
    there = pulled(address, make_place)
    assert (there.folder / MODEL / "config.json").read_text() == "config.json" * 100


def test_a_push_of_another_machine_keeps_what_it_lacks(place, address, make_place, monkeypatch):
    place.sync("push", address)
    other = make_place("other")
    (other.folder / "results/tiny/models").mkdir(parents=True)
    monkeypatch.chdir(other.folder)
    Store(other.folder / "results/store").publish(
        write_page(other.folder / "results/tiny/other.html", "other")
    )
    other.sync("push", address)
    there = pulled(address, make_place)
    assert (there.folder / REPORT).read_text() == "report"
    assert (there.folder / "results/tiny/other.html").read_text() == "other"


def test_experiments_are_chosen_by_name(place, address, make_place):
    with pytest.raises(ValueError, match=r"tiny2: no such experiment; in results there are: tiny$"):
        place.sync("push", address, "--experiment", "tiny2")
    place.sync("push", address, "--experiment", "tiny")
    with pytest.raises(ValueError, match=r"tiny2.json: no such experiment; at .* are: tiny$"):
        pulled(address, make_place, "--experiment", "tiny2")


def test_an_address_without_experiments_is_one_sentence(address, make_place):
    with pytest.raises(ValueError, match=r"expected an experiment, found none|no such bucket"):
        pulled(address, make_place)


def test_a_pull_beside_a_run_is_refused(place, address, make_place, monkeypatch):
    place.sync("push", address)
    there = make_place("there")
    (there.folder / ".snakemake").mkdir()
    monkeypatch.chdir(there.folder)
    with run_lock("tiny"), pytest.raises(ValueError, match=r"a run of tiny is at work in this"):
        there.sync("pull", address)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["push", "nowhere://bucket"], r"nowhere://bucket: .* give an address such as s3://"),
        (["push", "file:///tmp/x", "--overwrite"], r"--overwrite is for pull"),
        (["fetch", "file:///tmp/x"], r"invalid choice: 'fetch'"),
    ],
)
def test_a_wrong_command_is_one_sentence(place, words, message):
    with pytest.raises(ValueError, match=message):
        place.sync(*words)


def test_a_missing_package_is_named(place):
    code = "import sys; sys.modules['s3fs'] = None; from mpd.sync.remote import Remote"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; Remote('s3://bucket')"], capture_output=True, text=True
    )
    assert "ValueError: s3://bucket: " in done.stderr
    assert done.stderr.endswith("; pip install -e '.[s3]'\n")


def test_a_missing_bucket_is_one_sentence(place, s3):
    with pytest.raises(ValueError, match=r"^s3://no-such-bucket/lab: no such bucket") as error:
        place.sync("push", "s3://no-such-bucket/lab")
    assert "\n" not in str(error.value)


def test_missing_credentials_are_one_sentence(place, s3, monkeypatch, tmp_path):
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ValueError, match=r"(?i)^s3://.*credentials") as error:
        place.sync("push", s3)
    assert "\n" not in str(error.value)
