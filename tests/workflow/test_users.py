"""Several users of one group, with a results folder and a store that they share.

Where the suite is root, Anna and Ben are users of their own, with their own files.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ordinary import ANNA, BEN, GROUP, NEEDS_ROOT, as_user
from tests.store.test_store import Gathered, GatheredAndKilled, Killed, Squares, entry_of, publish
from tests.workflow.project import ENVIRONMENT, REPOSITORY, Project, computed

pytestmark = NEEDS_ROOT


def give_to_anna(folder):
    """A folder with all in it is Anna's then, and her group may write it."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, ANNA, GROUP)
        path.chmod(0o2775 if path.is_dir() else 0o664)


@contextmanager
def open_folder():
    """A folder that users may enter: those that pytest makes are for nobody but its own."""
    folder = Path(tempfile.mkdtemp(prefix="mpd_users_"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        os.chown(path, os.geteuid(), -1, follow_symlinks=False)
    shutil.rmtree(folder)


@pytest.fixture
def shared():
    with open_folder() as folder:
        give_to_anna(folder)
        yield folder


def run(user, folder, command, umask="002"):
    return subprocess.run(
        [*as_user(user, umask), *command],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


def job(user, folder, call, umask="002"):
    """Run a call of this file in a process of a user; its messages."""
    imports = "from mpd.job import command; from tests.workflow import test_users"
    code = f"{imports}; command.run(test_users.{call}, 'job')"
    return run(user, folder, [sys.executable, "-c", code], umask)


def square(output, work=Squares):
    compute = work()
    publish(Path("store"), Path(output), compute)
    print(len(compute.computed), "parts")


def anna():
    square("anna.parquet")


def ben():
    square("ben.parquet")


def anna_dies():
    square("anna.parquet", lambda: Killed(stop_after=2))


def anna_dies_gathering():
    square("anna.parquet", lambda: GatheredAndKilled(stop_after=2))


def ben_gathers():
    square("ben.parquet", Gathered)


def refresh():
    publish(Path("store"), Path("ben.parquet"), Squares(), refresh=True)


def owners(folder, *names):
    return [(folder / name).stat().st_uid for name in names]


def test_an_entry_of_another_user_is_linked(shared):
    assert job(ANNA, shared, "anna").stdout == "4 parts\n"
    assert job(BEN, shared, "ben").stdout == "0 parts\n"
    files = [shared / name for name in ("anna.parquet", "ben.parquet")]
    assert len({path.stat().st_ino for path in files}) == 1
    assert job(BEN, shared, "anna").stdout == "0 parts\n"  # Anna's output is replaced
    assert owners(shared, "anna.parquet") == [ANNA]


def test_an_entry_that_only_its_owner_may_write_is_copied(shared):
    """As links to it are forbidden (fs.protected_hardlinks), and could not be replaced."""
    job(ANNA, shared, "anna")
    entry = entry_of(shared / "store")
    entry.chmod(0o644)
    assert job(BEN, shared, "ben").stdout == "0 parts\n"
    assert owners(shared, "ben.parquet") == [BEN]
    assert (shared / "ben.parquet").read_bytes() == entry.read_bytes()
    assert oct((shared / "ben.parquet").stat().st_mode & 0o777) == "0o664"


def test_an_entry_of_which_another_user_has_a_copy_is_in_use(shared):
    job(ANNA, shared, "anna")
    entry = entry_of(Path("store"))
    (shared / entry).chmod(0o644)
    job(BEN, shared, "ben")
    prune = [sys.executable, "-m", "mpd.prune", "--store", "store", "--delete"]
    run(ANNA, shared, ["rm", "anna.parquet", "anna.json"])
    assert run(ANNA, shared, prune).stdout == "      0.00 MB  deleted\n"
    run(BEN, shared, ["rm", "ben.parquet", "ben.json"])
    assert f"  {entry}\n" in run(ANNA, shared, prune).stdout
    assert not (shared / entry).exists()


def test_a_read_only_entry_of_before_is_copied_until_its_owner_meets_it(shared):
    job(ANNA, shared, "anna")
    entry = entry_of(shared / "store")
    entry.chmod(0o444)
    assert job(BEN, shared, "ben").stdout == "0 parts\n"
    assert owners(shared, "ben.parquet") == [BEN]
    assert job(ANNA, shared, "anna").stdout == "0 parts\n"
    assert oct(entry.stat().st_mode & 0o777) == "0o664"
    assert job(BEN, shared, "ben").stdout == "0 parts\n"
    assert owners(shared, "ben.parquet") == [ANNA]


@pytest.mark.parametrize(
    ("dies", "resumes", "parts"),
    [("anna_dies", "ben", 2), ("anna_dies_gathering", "ben_gathers", 2)],
)
def test_what_a_killed_job_of_another_user_left_is_resumed(shared, dies, resumes, parts):
    assert job(ANNA, shared, dies).returncode == -signal.SIGKILL
    assert job(BEN, shared, resumes).stdout == "2 parts\n"
    assert owners(shared, "ben.parquet") == [BEN]
    assert not list(shared.glob("store/*/*.parts"))


def test_a_refresh_by_another_user(shared):
    job(ANNA, shared, "anna")
    key = entry_of(shared / "store").stem[:12]
    done = job(BEN, shared, "refresh")
    assert done.stderr == f"job: refreshed squares {key}: the bytes agree\n"


def test_what_another_user_changed_is_kept_aside(shared):
    job(ANNA, shared, "anna")
    job(BEN, shared, "ben")
    entry = entry_of(shared / "store")
    subprocess.run([*as_user(BEN), "sh", "-c", "echo edited > ben.parquet"], cwd=shared, check=True)
    assert job(ANNA, shared, "anna").stdout == "4 parts\n"
    assert entry.with_name(f"{entry.stem}-changed.parquet").read_text() == "edited\n"


def sentence(path, user):
    return (
        f"{path} cannot be written: it belongs to user {ANNA}, and you are user_{user}; to share "
        f"results in a group, let user {ANNA} run `chmod -R g+rwX results .snakemake` once, and "
        "all work with `umask 002`; to have results apart, run snakemake with --directory"
    )


def test_a_store_that_its_owner_does_not_share_is_refused_by_name(shared):
    job(ANNA, shared, "anna", umask="022")
    done = job(BEN, shared, "ben")
    key = entry_of(shared / "store").stem
    assert (done.returncode, done.stderr) == (
        1,
        f"job: error: {sentence(shared / f'store/squares/{key}.lock', BEN)}\n",
    )
    subprocess.run([*as_user(ANNA), "chmod", "-R", "g+rwX", "store"], cwd=shared, check=True)
    assert job(BEN, shared, "ben").stdout == "0 parts\n"


def test_prune_deletes_what_the_group_may_and_names_the_rest(shared):
    job(ANNA, shared, "anna")
    run(ANNA, shared, ["rm", "anna.parquet", "anna.json"])
    prune = [sys.executable, "-m", "mpd.prune", "--store", "store"]
    entry = entry_of(Path("store"))
    (shared / "store" / "squares").chmod(0o2755)
    listed = run(BEN, shared, prune)
    assert listed.stdout.splitlines()[0].endswith(f" MB  {entry}")
    refused = run(BEN, shared, [*prune, "--delete"])
    assert f"{entry}  not deleted: {sentence('store/squares', BEN)}\n" in refused.stdout
    assert refused.stdout.splitlines()[-1] == "      0.00 MB  deleted"
    assert (shared / entry).exists()
    (shared / "store" / "squares").chmod(0o2775)
    assert run(BEN, shared, [*prune, "--delete"]).returncode == 0
    assert not (shared / entry).exists()


@pytest.fixture(scope="module")
def project():
    """A project of Anna's."""
    with open_folder() as folder:
        project = Project(folder)
        overlay = folder / "overlay.yaml"
        overlay.touch()
        give_to_anna(folder)
        os.chown(overlay, os.geteuid(), GROUP)  # the tests write it
        yield project


def test_users_of_a_group_go_on_with_the_results_of_each_other(project):
    def by(user, *arguments, **changes):
        project.rights = as_user(user)
        return project.run(*arguments, rounds=1, **changes)

    assert "student" in computed(by(ANNA))
    assert computed(by(BEN)) == []
    edited = {"filter": {"max_ratio": 8.0}}
    assert computed(by(BEN, **edited)) == ["costs", "filter", "report", "speed"]
    assert computed(by(ANNA)) == []
    assert computed(by(ANNA, "--forcerun", "filter", **edited)) == []
    folder = project.folder
    files = [path for path in (folder / "results").rglob("*") if not path.name.endswith(".lock")]
    assert {path.stat().st_gid for path in files} == {GROUP}
    assert [path for path in files if path.stat().st_mode & 0o060 != 0o060] == []
    assert {path.stat().st_uid for path in files} == {ANNA, BEN}


def test_a_user_who_may_not_write_is_told_before_anything_runs(project):
    project.rights = as_user(ANNA)
    project.run("--dry-run")
    project.rights = as_user(BEN)
    state = project.folder / ".snakemake"
    state.chmod(0o755)
    done = run(BEN, project.folder, project.command("--dry-run")[len(project.rights) :])
    state.chmod(0o775)
    printed = done.stdout + done.stderr
    assert done.returncode == 1
    assert sentence(".snakemake", BEN) in printed
    assert "Traceback" not in printed
