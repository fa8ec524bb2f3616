"""Projects to copy, and addresses to copy them to: a folder, memory, and a local S3 server."""

import importlib.util
import os
from uuid import uuid4

import fsspec
import pytest

from mpd.store.outputs import FileOutput, FolderOutput
from mpd.store.publishing import Store
from mpd.sync import __main__ as program

PARTS = "results/store/sample/0123456789abcdef0123456789abcdef.parts"
MODEL = "results/tiny/models/teacher"
REPORT = "results/tiny/report.html"
S3_PACKAGES = ("s3fs", "moto", "flask", "flask_cors")
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


def write_page(path, text="report"):
    return FileOutput("report", 1, path, {"text": text}, {}, lambda target: target.write_text(text))


def write_model(path):
    def compute(target, scratch):
        for name in ("config.json", "model.safetensors", "manifest.json"):
            (target / name).write_text(name * 100)

    return FolderOutput("models", 1, path, {}, {}, compute)


class Place:
    """A folder with a project, in which commands run."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        folder.mkdir()

    def sync(self, *words):
        self.monkeypatch.chdir(self.folder)
        program.main(list(map(str, words)))

    def files(self):
        """The bytes and times of all files but locks and what the store knows of its bytes."""
        paths = [*self.folder.rglob("results/**/*"), *self.folder.rglob(".snakemake/metadata/**/*")]
        return {
            str(path.relative_to(self.folder)): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in paths
            if path.is_file() and path.suffix not in (".lock", ".seen")
        }


@pytest.fixture
def make_place(tmp_path, monkeypatch):
    """A function that makes an empty project."""
    return lambda name: Place(tmp_path / name, monkeypatch)


@pytest.fixture
def place(make_place, monkeypatch):
    """A project with a page, a model, a log, a record of Snakemake and parts of other work."""
    place = make_place("here")
    monkeypatch.chdir(place.folder)
    store = Store(place.folder / "results/store")
    store.publish(write_page(place.folder / REPORT))
    store.publish(write_model(place.folder / MODEL))
    record = ".snakemake/metadata/cmVzdWx0cy90aW55L3JlcG9ydC5odG1s"  # results/tiny/report.html
    texts = {"results/tiny/logs/report.log": "computed", record: "{}"}
    texts |= {f"{PARTS}/{name}": name for name in ("rows_0.parquet", "trained_1/part_0.pt")}
    texts |= {f"{PARTS}/complete.parquet": "half", f"{PARTS}/.rows_1.parquet.draft": "half"}
    for name, text in texts.items():
        (place.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (place.folder / name).write_text(text)
    return place


@pytest.fixture(scope="session")
def s3_endpoint():
    """The address of a local S3 server."""
    missing = [name for name in S3_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        stop = pytest.fail if "CI" in os.environ else pytest.skip
        stop(f"needs {', '.join(missing)}: pip install -e '.[dev,s3]'")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3(s3_endpoint, monkeypatch):
    """An empty bucket of a local S3 server."""
    import s3fs

    for name, value in {**KEYS, "AWS_ENDPOINT_URL": s3_endpoint}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"bucket-{uuid4().hex}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}/lab"


@pytest.fixture(params=["file", "memory", "s3"])
def address(request, tmp_path):
    """An address where nothing is yet."""
    if request.param == "s3":
        return request.getfixturevalue("s3")
    if request.param == "file":
        return f"file://{tmp_path}/remote"
    return f"memory://{uuid4().hex}"


@pytest.fixture
def objects():
    """A function that lists the files of an address, with the file system."""

    def listed(address):
        system, root = fsspec.url_to_fs(address)
        system.invalidate_cache()
        return system, {path.removeprefix(root).lstrip("/"): path for path in system.find(root)}

    return listed


def is_link(folder, output, entry_kind):
    """Whether an output is a hard link to a file of the store."""
    inodes = {path.stat().st_ino for path in folder.glob(f"results/store/{entry_kind}/**/*")}
    return (folder / output).stat().st_ino in inodes
