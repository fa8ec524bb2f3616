"""Copying an experiment from an address into this folder.

The store comes first, each entry before its note; outputs link to it, with their receipts and notes
before them and the manifests of models after their files. So whatever a kill leaves, nothing looks
whole that is not.
"""

import json
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mpd.job.layout import STORE
from mpd.job.runs import run_lock
from mpd.store.digests import digest_of
from mpd.store.files import files_of, replacing
from mpd.store.known_digests import fresh_digest
from mpd.store.locks import locked
from mpd.store.manifest import MANIFEST
from mpd.store.notes import RECEIPT, fault_of, receipt_beside
from mpd.store.rights import STATE
from mpd.sync.copying import Lines, for_each
from mpd.sync.index import METADATA, PARTS, Item, parsed
from mpd.sync.remote import OBJECTS, UNFINISHED, Remote
from mpd.sync.scan import output_of

log = logging.getLogger("mpd")

INCOMPLETE = STATE / "incomplete"  # Snakemake's marks of outputs of jobs that did not end


def pull(remote: Remote, experiment: str, overwrite: bool = False) -> None:
    """Copy what is not here yet. Files here that differ are replaced only with `overwrite`.

    Raises ValueError where there is no such experiment, something there is damaged, an artifact
    here differs, or a run of the experiment is at work in this folder.
    """
    content, place = remote.index(experiment)
    if not content:
        names = ", ".join(remote.indices()) or "none"
        raise ValueError(f"{place}: no such experiment; at {remote.address} there are: {names}")
    items = parsed(content, place)
    _require_as_noted(remote, items)
    for folder in (STATE, METADATA, INCOMPLETE):  # as Snakemake makes them
        folder.mkdir(exist_ok=True)
    with run_lock(experiment):
        _Pull(remote, experiment, items, overwrite).copy()


def _require_as_noted(remote: Remote, items: Mapping[str, Item]) -> None:
    """Raise ValueError where a file is not what its note, as it is at the address, says."""
    digests = sorted({items[item.note].digest for item in items.values() if item.note in items})
    contents = for_each(lambda digest: json.loads(remote.read(digest)), digests)
    notes = dict(zip(digests, contents, strict=True))
    for item in items.values():
        if not item.note:
            continue
        note = notes[items[item.note].digest] if item.note in items else {}
        if fault_of(note) or note.get("digests", {}).get(item.name) != item.digest:
            raise ValueError(
                f"{remote.address}: {item.path} is not what {item.note} says; push again from "
                "where the results are whole"
            )


class _Pull:
    """The copying of one experiment."""

    def __init__(
        self, remote: Remote, experiment: str, items: Mapping[str, Item], overwrite: bool
    ) -> None:
        self.remote, self.experiment, self.items = remote, experiment, items
        self.overwrite = overwrite
        self.parts_folder = f"{UNFINISHED}/{experiment}"
        self.whole: set[str] = set()  # paths whose bytes are known to be those of their items
        self.copied: list[int] = []

    def copy(self) -> None:
        """Copy files stage by stage."""
        # A push of another machine may have deleted parts; they are computed again.
        unfinished = self.remote.objects(self.parts_folder)
        parts = [i for i in self.items.values() if i.is_part and i.digest in unfinished]
        others = [item for item in self.items.values() if not item.is_part]
        states = dict(zip(others, for_each(_state, others), strict=True))
        differing = [item for item, state in states.items() if state == "differs"]
        artifacts = [item.path for item in differing if item.is_artifact]
        if artifacts and not self.overwrite:
            more = f" and {len(artifacts) - 1} more" if len(artifacts) > 1 else ""
            raise ValueError(
                f"{artifacts[0]}{more}: expected what is at {self.remote.address}, found something "
                "else; pull into another folder, or with --overwrite, which replaces it"
            )
        if not self.overwrite:  # logs stay, and what describes outputs that were here
            absent = [item for item, state in states.items() if state == "absent"]
            stale = {item.note for item in absent} | {item.path for item in absent}
            stale |= {str(receipt_beside(Path(item.note))) for item in absent if item.note}
            kept = {item for item in differing if not {item.path, _described_by(item)} & stale}
            others = [item for item in others if item not in kept]
        self.whole = {item.path for item, state in states.items() if state == "same"}
        missing = [item.size for item in (*others, *parts) if item.path not in self.whole]
        self.lines = Lines(f"pull {self.experiment}", missing)
        stages: dict[int, list[Item]] = defaultdict(list)
        for item in others:
            stages[_stage(item)].append(item)
        for_each(self._copy_entry, _by_entry(stages.pop(0, [])))
        for folder, items in _by_folder(parts).items():
            self._copy_parts(folder, items)
        for stage in sorted(stages):
            for_each(self._copy, stages[stage])
        log.info(
            "pull %s: %d files copied, %.1f MB; %d were here or are links",
            *(self.experiment, len(self.copied), sum(self.copied) / 1e6),
            len(self.items) - len(self.copied),
        )

    def _copy_entry(self, items: list[Item]) -> None:
        """Copy an entry of the store, its note last."""
        note = _entry_note(items[0])
        note.parent.mkdir(parents=True, exist_ok=True)
        items = sorted(items, key=lambda item: item.path == note.as_posix())
        if all(item.path in self.whole for item in items):
            for_each(self._copy, items, threads=1)
            return
        with locked(note.with_suffix(".lock"), f"{note.parent.name} {note.stem[:12]}"):
            for_each(self._copy, items, threads=1)

    def _copy_parts(self, folder: Path, items: list[Item]) -> None:
        """Copy the parts of unfinished work, unless this folder has the result or other parts."""
        if _entry_note(items[0]).is_file():
            return
        expected = {item.path: item.digest for item in items}
        here = {path.as_posix(): path for path in files_of(folder) if path.name[0] != "."}
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(_entry_note(items[0]).with_suffix(".lock"), fallback_to_soft=False)
            with lock.acquire(timeout=0):
                if any(expected.get(name) != fresh_digest(path) for name, path in here.items()):
                    log.info("%s has other parts, which stay", folder)
                    return
                self.whole |= set(here)
                for_each(self._copy, items)
        except Timeout:
            log.info("a job fills %s, so its parts stay", folder)

    def _copy(self, item: Item) -> None:
        """Make a file what its item says, with its time, as a link where it was one."""
        target, stored = Path(item.path), Path(item.link)
        is_link = item.link in self.whole
        is_record = METADATA in target.parents
        if is_record:  # what a killed run here left unfinished is finished now
            (INCOMPLETE / target.relative_to(METADATA)).unlink(missing_ok=True)
        if item.path in self.whole and not (is_link and _is_copy(target, stored)):
            _set_time(target, item)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        # The name of a record may have no room for that of a draft.
        place = STATE / digest_of(item.path)[:32] if is_record else target
        with replacing(place) as draft:
            if is_link:
                _link(stored, draft)
                _set_time(draft, item)
            else:
                folder = self.parts_folder if item.is_part else OBJECTS
                self.remote.get(item.digest, draft, folder)
                os.utime(draft, ns=(item.modified, item.modified))
                self.copied.append(item.size)
        if is_record:
            place.rename(target)
        self.whole.add(item.path)
        self.lines.advance(item.size)


def _state(item: Item) -> str:
    """Whether a file is here: "same", "differs" or "absent"."""
    path = Path(item.path)
    if not path.is_file():
        return "absent"
    same = path.stat().st_size == item.size and fresh_digest(path) == item.digest
    return "same" if same else "differs"


def _described_by(item: Item) -> str:
    """The output that an item is Snakemake's record of; empty for other files."""
    path = Path(item.path)
    return output_of(path) if METADATA in path.parents else ""


def _stage(item: Item) -> int:
    """When a file is copied: the lower number first."""
    path = Path(item.path)
    if STORE in path.parents:
        return 0
    if METADATA in path.parents:
        return 5
    if path.suffix == RECEIPT:
        return 1
    if not item.note:  # notes, and logs
        return 2
    return 4 if path.name == MANIFEST else 3


def _entry_note(item: Item) -> Path:
    """The note of the entry that a file of the store belongs to."""
    kind, name = Path(item.path).relative_to(STORE).parts[:2]
    return STORE / kind / f"{name.partition('.')[0]}.json"


def _by_entry(items: Iterable[Item]) -> list[list[Item]]:
    """The files of the store, by the entry that they belong to."""
    entries: dict[Path, list[Item]] = defaultdict(list)
    for item in items:
        entries[_entry_note(item)].append(item)
    return list(entries.values())


def _by_folder(items: Iterable[Item]) -> dict[Path, list[Item]]:
    """Parts by the folder of the work that they belong to."""
    folders: dict[Path, list[Item]] = defaultdict(list)
    for item in items:
        folder = next(path for path in Path(item.path).parents if path.suffix == PARTS)
        folders[folder].append(item)
    return folders


def _set_time(path: Path, item: Item) -> None:
    """Give a file its time, unless it has a later one: its links share it."""
    if path.stat().st_mtime_ns < item.modified:
        with suppress(PermissionError):
            os.utime(path, ns=(item.modified, item.modified))


def _link(stored: Path, target: Path) -> None:
    try:
        os.link(stored, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(stored, target)


def _is_copy(path: Path, stored: Path) -> bool:
    """Whether a file could be a link to a stored file, and is none."""
    return path.stat().st_dev == stored.stat().st_dev and not path.samefile(stored)
