"""prune: projects that were copied, so that their outputs are no links to what is stored."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mpd import prune
from mpd.store.outputs import FileOutput, FolderOutput
from mpd.store.publishing import Store

MEGABYTE = "x" * 1_000_000
UNUSED = "      0.00 MB  unused; delete with: make prune DELETE=1\n"


def page(path, name):
    def compute(target):
        target.write_text(MEGABYTE + name)

    return FileOutput("report", 1, path, {"name": name}, {}, compute)


def folder(path):
    def compute(target, scratch):
        for name in ("a.json", "b"):
            (target / name).write_text(MEGABYTE)

    return FolderOutput("models", 1, path, {}, {}, compute)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a page and a folder, and a stored page that no output needs any more."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    store = Store(prune.STORE)
    results = prune.RESULTS / "tiny"
    store.publish(page(results / "old.html", "old"))
    store.publish(page(results / "report.html", "new"))
    store.publish(folder(results / "models" / "teacher"))
    for name in ("old.html", "old.json"):
        (results / name).unlink()
    return project


def copied(project, monkeypatch, *command):
    copy = project.with_name("copy")
    subprocess.run([*command, str(project), str(copy)], check=True)
    monkeypatch.chdir(copy)
    return copy


def left(path):
    """The stored pages and folders."""
    return sorted(p.name for p in path.glob("results/store/*/*") if p.suffix in ("", ".html"))


@pytest.mark.parametrize("command", [["cp", "-r"], ["cp", "-rp"], ["cp", "-RL"]])
def test_a_copied_project_keeps_what_its_results_need(project, monkeypatch, capsys, command):
    copy = copied(project, monkeypatch, *command)
    (old,) = (
        p for p in prune.unused(prune.STORE) if p.suffix == ".html" and "old" in p.read_text()
    )
    prune.main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"      1.00 MB  {old}",
        "      3.00 MB  kept, but there twice: outputs in results are copies, as after cp -r; "
        "snakemake --forceall links them again and computes nothing",
        "      1.00 MB  unused; delete with: make prune DELETE=1",
    ]
    stored = left(copy)
    prune.main(["--delete"])
    assert left(copy) == sorted({*stored} - {old.name}) and len(stored) == 3


def test_a_copied_project_is_linked_again_when_its_jobs_are_visited(project, monkeypatch, capsys):
    copied(project, monkeypatch, "cp", "-r")
    results = prune.RESULTS / "tiny"

    def never(*_):
        raise AssertionError("computed again")

    teacher = results / "models" / "teacher"
    store = Store(prune.STORE)
    store.publish(FileOutput("report", 1, results / "report.html", {"name": "new"}, {}, never))
    store.publish(FolderOutput("models", 1, teacher, {}, {}, never))
    assert (results / "report.html").stat().st_nlink == (teacher / "b").stat().st_nlink == 2
    prune.main(["--delete"])
    assert "twice" not in capsys.readouterr().out
    prune.main([])
    assert capsys.readouterr().out == UNUSED


@pytest.mark.parametrize("move", ["cp -a", "mv"])
def test_links_that_are_kept_need_no_notes(project, monkeypatch, capsys, move):
    copied(project, monkeypatch, *move.split())
    prune.main(["--delete"])
    assert "twice" not in capsys.readouterr().out
    for note in prune.RESULTS.glob("tiny/**/*.json"):
        note.unlink()
    prune.main([])
    assert "unused; delete" in capsys.readouterr().out


def test_a_note_without_its_output_needs_nothing(project, monkeypatch, capsys):
    copied(project, monkeypatch, "cp", "-r")
    (prune.RESULTS / "tiny" / "report.html").unlink()
    for name in ("a.json", "b"):
        (prune.RESULTS / "tiny" / "models" / "teacher" / name).unlink()
    prune.main([])
    assert capsys.readouterr().out.endswith(
        "      4.00 MB  unused; delete with: make prune DELETE=1\n"
    )


def test_damaged_and_foreign_notes_do_not_matter(project, monkeypatch, capsys):
    copied(project, monkeypatch, "cp", "-r")
    (prune.RESULTS / "tiny" / "report.json").write_text('{"kind": "report", ')
    (prune.RESULTS / "tiny" / "x.json").write_text('["kind", "version", "settings", "inputs"]')
    (prune.RESULTS / "tiny" / "x.html").write_text("a page")
    prune.main([])
    assert "2.00 MB  kept, but there twice: outputs in results" in capsys.readouterr().out


@pytest.mark.parametrize("linked", ["results", "results/tiny", "results/tiny/models"])
def test_results_may_lie_behind_a_symbolic_link(project, monkeypatch, capsys, linked):
    copy = copied(project, monkeypatch, "cp", "-r")
    elsewhere = copy.with_name("elsewhere")
    shutil.move(copy / linked, elsewhere)
    (copy / linked).symlink_to(elsewhere)
    (copy / "results" / "tiny" / "circle").symlink_to(copy / "results")
    prune.main(["--delete"])
    out = capsys.readouterr().out
    assert "      3.00 MB  kept, but there twice: outputs" in out
    assert out.endswith("      1.00 MB  deleted\n")


def test_the_results_of_another_folder_are_named(project, monkeypatch, capsys, tmp_path):
    copied(project, monkeypatch, "cp", "-r")
    monkeypatch.chdir(tmp_path)
    arguments = ["--store", "copy/results/store", "--results", "copy/results"]
    prune.main(arguments)
    assert "3.00 MB  kept, but there twice: outputs in copy/results" in capsys.readouterr().out
    Path("copy/results/store").rename("store")
    prune.main(["--store", "store", "--results", "copy/results"])
    assert "3.00 MB  kept, but there twice: outputs in copy/results" in capsys.readouterr().out
