"""sync and the workflow: a clone that pulls results goes on from them."""

import subprocess
import sys

import pytest

from mpd.store.units import units_in
from tests.workflow.project import ENVIRONMENT, Project

PLUGIN = "snakemake_storage_plugin_shelf"


def sync(project, *words):
    done = subprocess.run(
        [sys.executable, "-m", "mpd.sync", *words],
        cwd=project.folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def clone(finished_project, tmp_path_factory):
    """A fresh clone with the results of the finished run, pulled from a folder."""
    address = f"file://{tmp_path_factory.mktemp('remote')}/lab"
    assert "files copied" in sync(finished_project, "push", address)
    clone = Project(tmp_path_factory.mktemp("clones") / "clone")
    assert "files copied" in sync(clone, "pull", address)
    return clone


def test_a_clone_with_pulled_results_has_nothing_to_do(clone):
    assert "Nothing to be done" in clone.run("--dry-run", rounds=1)


def test_a_clone_with_pulled_results_sees_a_changed_setting(clone):
    visits = clone.visits(rounds=1, distill={"learning_rate": 2e-5})
    assert "distill mpd 1" in visits and not any(name.startswith("sample") for name in visits)


def test_a_clone_links_its_outputs_to_its_store(finished_project, clone):
    results = clone.folder / "results"
    inodes = {path.stat().st_ino for path in results.glob("store/**/*") if path.is_file()}
    units = [unit for unit in units_in(results, results / "store") if not unit.is_entry]
    assert len(units) > 10
    assert all(unit.note and unit.note.stat().st_ino in inodes for unit in units)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A storage plugin of Snakemake with the least that one has to have."""
    (tmp_path / PLUGIN).mkdir()
    (tmp_path / PLUGIN / "__init__.py").write_text(
        "from snakemake_interface_storage_plugins.storage_provider import StorageProviderBase\n"
        "from snakemake_interface_storage_plugins.storage_object import StorageObjectRead\n"
        "from snakemake_interface_storage_plugins.storage_object import StorageObjectWrite\n"
        "class StorageProvider(StorageProviderBase): pass\n"
        "StorageProvider.__abstractmethods__ = frozenset()\n"
        "class StorageObject(StorageObjectRead, StorageObjectWrite): pass\n"
    )
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", f"{tmp_path}:{ENVIRONMENT.get('PYTHONPATH')}")


def test_a_default_storage_provider_is_refused(plugin, tmp_path):
    project = Project(tmp_path / "project")
    command = project.command("--default-storage-provider", "shelf")
    done = subprocess.run(
        [*command, "--default-storage-prefix", "shelf://x"],
        cwd=project.folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "results cannot be kept by the storage provider shelf" in done.stdout + done.stderr
    assert "python -m mpd.sync" in done.stdout + done.stderr
    assert not (project.folder / "results").exists()
