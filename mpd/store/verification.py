"""Whether stored files and outputs are what their notes, footers and manifests say.

Everything is read, each inode once; nothing is written.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpd.store.content import contradicted
from mpd.store.digests import file_digest
from mpd.store.files import inode_of, json_object
from mpd.store.manifest import MANIFEST, WEIGHTS, parse_manifest
from mpd.store.notes import fault_of, is_of_folder, note_key, receipt_of
from mpd.store.seal import sealed_metadata
from mpd.store.units import Unit, files_of_unit


@dataclass
class Fault:
    """A file that is not what it should be, `message` says how; `units` are where it is.

    Where several paths are one file, `links` are the others. `sources` are what was to be read for
    it: one of them may be in the wrong place.
    """

    path: Path
    message: str
    units: list[Unit]
    links: list[Path] = field(default_factory=list)
    sources: list[Unit] = field(default_factory=list)


class Verifier:
    """Checks units, and keeps what it has read: digests, and the faults by inode."""

    def __init__(self, units: list[Unit]) -> None:
        """Hash all files of the units. Raises PermissionError where one may not be read."""
        self.units = units
        self.faults: dict[Any, Fault] = {}
        self.contents: dict[Path, str] = {}  # of tables and manifests that are whole
        self.identities: dict[Path, Mapping[str, str]] = {}  # of tables that are whole
        self.notes: dict[Path, Mapping[str, Any]] = {}  # by the place of the unit
        self.places: dict[Any, list[tuple[Unit, Path]]] = defaultdict(list)  # by inode
        for unit in units:
            for path in files_of_unit(unit):
                self.places[inode_of(path)].append((unit, path))
        files = {inode: places[0][1] for inode, places in self.places.items()}
        with ThreadPoolExecutor() as pool:
            self.digests = dict(zip(files, pool.map(file_digest, files.values()), strict=True))
        self.rows: dict[Any, str] = {}  # what is wrong with the rows of a table, by inode

    def check_all(self) -> None:
        """Check every unit; a fault of a file is one of all units that it is in."""
        for unit in self.units:
            self._check(unit)
        for inode, fault in self.faults.items():
            if inode in self.places:
                fault.units = [unit for unit, _ in self.places[inode]]
                fault.path, *fault.links = (path for _, path in self.places[inode])

    def add(self, unit: Unit, path: Path, message: str) -> None:
        """Note a fault of a place: of what is there or not, or should not be there."""
        self._add(path, unit, path, message)

    def _add_of_file(self, unit: Unit, path: Path, message: str) -> None:
        """Note a fault of a file; where several paths lead to it, it is one."""
        self._add(inode_of(path), unit, path, message)

    def _add(self, key: Any, unit: Unit, path: Path, message: str) -> None:
        self.faults.setdefault(key, Fault(path, message, [unit]))

    def _check(self, unit: Unit) -> None:
        note = self._note(unit)
        self.notes[unit.place] = note
        if unit.is_entry and not unit.place.exists():
            self.add(unit, unit.place, "expected what its note describes, found no file")
            return
        self._compare(unit, note)
        self._compare_receipt(unit, note)
        files = [path for path in files_of_unit(unit) if path != unit.note]
        named = {name or "." for name in note.get("sizes", {})}
        if unit.place / MANIFEST in files:
            self._check_model(unit, unit.place / MANIFEST)
        for path in files:
            if self._is_faulty(path):
                continue
            if path.suffix == ".parquet":
                self._check_table(unit, path, is_ours=str(path.relative_to(unit.place)) in named)
            elif path.suffix == WEIGHTS and path == unit.place:  # a head; models have manifests
                self._try(unit, path, lambda path=path: sealed_metadata(path, remembers=False))

    def _note(self, unit: Unit) -> Mapping[str, Any]:
        """The content of a note; empty where there is none, or it is damaged."""
        if unit.note is None:
            return {}
        if not unit.note.is_file():
            self.add(unit, unit.note, "expected a note, found no file")
            return {}
        content = self._read(unit, unit.note)
        if content and unit.is_entry and (key := note_key(content)) != unit.note.stem:
            fault = f"expected the note of {unit.note.stem[:12]}, found that of {key[:12]}"
            self._add_of_file(unit, unit.note, fault)
            return {}
        return content

    def _compare_receipt(self, unit: Unit, note: Mapping[str, Any]) -> None:
        """Compare an output whose note says nothing, or something else, with its receipt.

        A difference is a fault of the place: the file belongs elsewhere, and may be whole.
        """
        receipt = None if unit.is_entry else receipt_of(unit.place)
        if receipt is None:
            return
        digests = self._read(unit, receipt).get("digests", {})
        if note.get("digests") == digests:
            return
        # The receipt of a folder also speaks of a file in it that lost the note of the folder.
        folder = receipt.parent if is_of_folder(receipt) else unit.place
        files = files_of_unit(unit)
        for name, digest in digests.items():
            path = folder / name if name else unit.place
            if path in files and (found := self.digests[inode_of(path)]) != digest:
                message = f"expected SHA-256 {digest[:12]} by {receipt.name}, found {found[:12]}"
                self.add(unit, path, message)

    def _read(self, unit: Unit, note: Path) -> Mapping[str, Any]:
        """The content of a note or receipt that is there; empty where it is damaged."""
        try:
            content = json_object(note)
            fault = fault_of(content)
        except (ValueError, OSError) as error:
            content, fault = {}, f"expected a note, found {short(error, note)}"
        if fault:
            self._add_of_file(unit, note, fault)
            return {}
        return content

    def _compare(self, unit: Unit, note: Mapping[str, Any]) -> None:
        """Compare the files of a unit with its note."""
        for name, size in note.get("sizes", {}).items():
            path = unit.place / name if name else unit.place
            digest = note.get("digests", {}).get(name)
            if not path.is_file():
                self.add(unit, path, f"expected {size} bytes, found no file")
            elif path.stat().st_size != size:
                self._add_of_file(unit, path, f"expected {size} bytes, found {path.stat().st_size}")
            elif digest:
                self._compare_digest(unit, path, digest)

    def _compare_digest(self, unit: Unit, path: Path, digest: str) -> None:
        found = self.digests[inode_of(path)]
        if found != digest:
            self._add_of_file(unit, path, f"expected SHA-256 {digest[:12]}, found {found[:12]}")

    def _check_model(self, unit: Unit, path: Path) -> None:
        if self._is_faulty(path):
            return
        manifest = self._try(unit, path, lambda: parse_manifest(path))
        for name, size in manifest["files"].items() if manifest else ():
            file = path.parent / name
            if not file.is_file():
                self.add(unit, file, f"expected {size} bytes, found no file")
            elif file.stat().st_size != size:
                self._add_of_file(unit, file, f"expected {size} bytes, found {file.stat().st_size}")
            elif "digests" in manifest:
                self._compare_digest(unit, file, manifest["digests"][name])
        if manifest:
            self.contents[path] = manifest["digest"]

    def _check_table(self, unit: Unit, path: Path, is_ours: bool) -> None:
        footer = self._try(unit, path, lambda: _footer_of(path, is_ours))
        if not footer:
            return
        inode = inode_of(path)
        if inode not in self.rows:
            self.rows[inode] = "".join(contradicted(path, [""]) and ["other rows"])
        if self.rows[inode]:
            digest = footer["content"][:12]
            self._add_of_file(
                unit, path, f"expected the rows with the digest {digest}, found other rows"
            )
        else:
            self.contents[path], self.identities[path] = footer["content"], footer["identity"]

    def _try(self, unit: Unit, path: Path, check: Any) -> Any:
        """What a check returns; None, and a fault, where it raises ValueError or OSError."""
        try:
            return check()
        except (ValueError, OSError) as error:
            self._add_of_file(unit, path, short(error, path))
            return None

    def _is_faulty(self, path: Path) -> bool:
        return path in self.faults or inode_of(path) in self.faults


def _footer_of(path: Path, is_ours: bool) -> dict[str, Any]:
    """The footer of a table; raises ValueError where there is none that can be read.

    It is empty for a whole Parquet file of somebody else, unless it `is_ours`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path).metadata or {}
        if not is_ours and b"mpd" not in metadata:
            return {}
        footer = json.loads(metadata[b"mpd"])
        return {"content": footer["content"], "identity": dict(footer["identity"])}
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: expected a table of ours, found none ({cause:.80})") from None


def short(error: Exception, path: Path) -> str:
    """A sentence without the path at its beginning and the advice at its end."""
    return str(error).removeprefix(f"{path}: ").partition("; run again")[0].partition("; copy")[0]
