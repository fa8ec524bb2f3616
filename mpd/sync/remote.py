"""An address that fsspec can reach: files by their digests, and the indices of experiments.

    objects/{digest}              the bytes of a file, whatever its path
    unfinished/{experiment}/...   the same of parts of unfinished work, until the next push
    experiments/{name}.json       the index of an experiment

A file is written under a draft's name and then moved, so what has its name is whole.
"""

import hashlib
import json
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec

log = logging.getLogger("mpd")

BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "memory"}  # without folders; puts are atomic
BLOCK = 8 << 20  # bytes that are read at once
DRAFT_AGE = timedelta(days=1)  # of a draft that nobody writes any more
S3_ADVICE = "pip install -e '.[s3]'"
OBJECTS, UNFINISHED, INDICES, DRAFTS = "objects", "unfinished", "experiments", "drafts"


class Missing(ValueError):
    """There is nothing of a name at an address."""


class Remote:
    """The files at an address, such as s3://bucket/folder."""

    def __init__(self, address: str) -> None:
        """Raises ValueError where there is no such protocol, or its package is missing."""
        self.address = address.rstrip("/")
        protocol = address.partition("://")[0]
        try:
            self.system, root = fsspec.url_to_fs(self.address)
        except ImportError as error:
            advice = f"; {S3_ADVICE}" if protocol in ("s3", "s3a") else ""
            raise ValueError(f"{address}: {error}{advice}") from None
        except ValueError as error:
            raise ValueError(
                f"{address}: {error}; give an address such as s3://bucket/folder or file:///folder"
            ) from None
        self.root = root.rstrip("/")
        protocols = self.system.protocol
        names = {protocols} if isinstance(protocols, str) else set(protocols)
        self.is_bucket = bool(names & BUCKETS)
        self._folders: set[str] = set()

    def objects(self, folder: str = OBJECTS) -> dict[str, int]:
        """The digests of the files that are there, with their sizes."""
        with self._reached():
            self.system.invalidate_cache()
            listed = self.system.find(f"{self.root}/{folder}", detail=True)
        return {path.rpartition("/")[2]: info["size"] for path, info in listed.items()}

    def put(self, path: Path, folder: str = OBJECTS) -> tuple[str, int]:
        """Copy a file to the name that is its digest; returns digest and size of what was read."""
        size = path.stat().st_size
        if self.is_bucket and size <= BLOCK:
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            with self._reached():
                self.system.pipe_file(f"{self.root}/{folder}/{digest}", data)
            return digest, len(data)
        sha, size = hashlib.sha256(), 0
        with self._draft() as draft:
            with path.open("rb") as source, self._reached(), self.system.open(draft, "wb") as copy:
                while block := source.read(BLOCK):
                    sha.update(block)
                    size += len(block)
                    copy.write(block)
            self._move(draft, f"{folder}/{sha.hexdigest()}")
        return sha.hexdigest(), size

    def get(self, digest: str, target: Path, folder: str = OBJECTS) -> None:
        """Copy the bytes with a digest to a file. Raises ValueError where they have another."""
        place, sha = f"{self.root}/{folder}/{digest}", hashlib.sha256()
        with target.open("wb") as copy:
            for block in self._blocks(place):
                sha.update(block)
                copy.write(block)
        self._require(place, digest, sha.hexdigest())

    def read(self, digest: str) -> bytes:
        """The bytes with a digest. Raises ValueError where they have another."""
        place = f"{self.root}/{OBJECTS}/{digest}"
        data = b"".join(self._blocks(place))
        self._require(place, digest, hashlib.sha256(data).hexdigest())
        return data

    def indices(self) -> list[str]:
        """The names of the experiments that are there."""
        names = self.objects(INDICES)
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def index(self, experiment: str) -> tuple[dict[str, Any], str]:
        """The content of an index, which is empty where there is none, and its place."""
        place = f"{self.address}/{INDICES}/{experiment}.json"
        try:
            with self._reached():
                data = self.system.cat_file(f"{self.root}/{INDICES}/{experiment}.json")
        except Missing:
            return {}, place
        try:
            content = json.loads(data)
        except ValueError as error:
            raise ValueError(f"{place}: not JSON ({error}); push again") from None
        return (content if isinstance(content, dict) else {"items": []}), place

    def write_index(self, experiment: str, content: dict[str, Any]) -> None:
        """Write an index, whole or not at all."""
        data, name = json.dumps(content).encode(), f"{INDICES}/{experiment}.json"
        with self._draft() as draft, self._reached():
            self.system.pipe_file(draft, data)
            self._move(draft, name)

    def clean(self, folder: str, kept: Collection[str]) -> None:
        """Delete the files of a folder but those that are kept, and drafts that nobody writes."""
        with self._reached():
            for name in self.objects(folder):
                if name not in kept:
                    self._delete(f"{self.root}/{folder}/{name}")
            for name in self.objects(DRAFTS):
                draft = f"{self.root}/{DRAFTS}/{name}"
                with suppress(NotImplementedError, FileNotFoundError):  # another push moved it
                    modified = self.system.modified(draft)
                    if datetime.now(UTC) - modified.astimezone(UTC) > DRAFT_AGE:
                        self._delete(draft)

    def _blocks(self, place: str) -> Iterator[bytes]:
        try:
            with self._reached(), self.system.open(place, "rb") as source:
                while block := source.read(BLOCK):
                    yield block
        except Missing:
            raise ValueError(f"{place}: expected a file, found none; push again") from None

    def _require(self, place: str, digest: str, found: str) -> None:
        if found != digest:
            raise ValueError(
                f"{place}: damaged (expected SHA-256 {digest[:12]}, found {found[:12]}); delete "
                "it there, and push again from where the results are whole"
            )

    @contextmanager
    def _draft(self) -> Iterator[str]:
        draft = f"{self.root}/{DRAFTS}/{uuid4().hex}"
        with self._reached():
            self._make_folder(DRAFTS)
        try:
            yield draft
        except BaseException:
            with suppress(Exception):
                self._delete(draft)
            raise

    def _move(self, draft: str, name: str) -> None:
        """Give a draft its name; a bucket copies it there whole."""
        with self._reached():
            self._make_folder(name.rpartition("/")[0])
            if self.is_bucket:
                self.system.cp_file(draft, f"{self.root}/{name}")
                self._delete(draft)
            else:
                self.system.mv(draft, f"{self.root}/{name}")

    def _delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self.system.rm_file(path)

    def _make_folder(self, folder: str) -> None:
        if not self.is_bucket and folder not in self._folders:
            self.system.makedirs(f"{self.root}/{folder}", exist_ok=True)
            self._folders.add(folder)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Raise ValueError, one sentence, where the address refuses or cannot be reached."""
        try:
            yield
        except ValueError:
            raise
        except FileNotFoundError as error:
            raise Missing(f"{self.address}: no such bucket or folder ({_short(error)})") from None
        except PermissionError as error:
            raise ValueError(f"{self.address}: no right to do this ({_short(error)})") from None
        except Exception as error:
            raise ValueError(f"{self.address}: {_short(error)}") from None


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text:.200}"
