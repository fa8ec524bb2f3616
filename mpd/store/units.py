"""What there is to verify: outputs in results/ and entries of the store, each with its note."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mpd.store.files import inode_of, sizes
from mpd.store.manifest import MANIFEST
from mpd.store.notes import PROVENANCE, note_of

ASIDE = (".damaged", "-changed")  # parts of names of what was set aside
NO_ENTRIES = (".json", ".lock", ".seen", ".parts", ".draft")


@dataclass(frozen=True)
class Unit:
    """A file or folder with its note, if it has one: an output, or an entry of the store."""

    place: Path
    note: Path | None
    is_entry: bool = False


def units_in(results: Path, store: Path) -> list[Unit]:
    """What there is to check: the outputs below `results`, then the entries of `store`.

    Raises PermissionError where a folder may not be read.
    """
    entries = list(_entries(store))
    notes = {inode_of(unit.note) for unit in entries if unit.note and unit.note.is_file()}
    return [*_outputs(results, store, notes), *entries]


def _entries(store: Path) -> Iterator[Unit]:
    for folder in (store, *store.glob("*/")):
        if folder.is_dir():  # glob finds nothing where it may not look
            os.scandir(folder).close()
    paths = [path for path in sorted(store.glob("*/*")) if not _is_aside(path)]
    places = [path for path in paths if path.suffix not in NO_ENTRIES]
    stems = {place.with_suffix("") for place in places}
    for place in places:
        yield Unit(place, place.with_suffix(".json"), is_entry=True)
    for note in paths:
        if note.suffix == ".json" and note.with_suffix("") not in stems:
            yield Unit(note.with_suffix(""), note, is_entry=True)


def _outputs(results: Path, store: Path, notes: set[tuple[int, int]]) -> Iterator[Unit]:
    """The outputs; `notes` are the inodes of the notes of entries, however damaged."""
    seen = {store.resolve()}
    for name, folders, names in os.walk(results, onerror=_refuse, followlinks=True):
        folder = Path(name)
        if folder.resolve() in seen:  # the store, or where links lead in a circle
            folders.clear()
            continue
        seen.add(folder.resolve())
        folders[:] = sorted(each for each in folders if not _is_aside(Path(each)))
        if PROVENANCE in names or MANIFEST in names:
            note = folder / PROVENANCE
            yield Unit(folder, note if note.is_file() else None)
            folders.clear()
            continue
        for path in (folder / each for each in sorted(names) if not _is_aside(Path(each))):
            note_beside, note = note_of(path), path.with_suffix(".json")
            if note_beside is None and note.is_file() and inode_of(note) in notes:
                note_beside = note
            if path.suffix != ".json" and (note_beside or path.suffix == ".parquet"):
                yield Unit(path, note_beside)


def _refuse(error: OSError) -> NoReturn:
    raise error


def _is_aside(path: Path) -> bool:
    return path.name.startswith(".") or any(part in path.name for part in ASIDE)


def files_of_unit(unit: Unit) -> list[Path]:
    """The files of a unit and its note, as far as they are there."""
    paths = [unit.place / name if name else unit.place for name in sizes(unit.place)]
    if unit.note and unit.note not in paths:
        paths.append(unit.note)
    return [path for path in paths if path.is_file() and not _is_aside(path)]
