"""The files of an experiment that are copied, each with the digest that a note says it has.

These are the files below its folder with notes and receipts, the entries of the store that the
notes name, the parts of unfinished work, and Snakemake's records of the outputs, without which it
would not see a changed setting. What is not as its note says is left out.
"""

import os
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mpd.job.layout import RESULTS, STORE
from mpd.store.files import files_of, marks, read_json
from mpd.store.known_digests import fresh_digest
from mpd.store.links import marks_of
from mpd.store.notes import RECEIPT, entry_note, fault_of, note_key, receipt_beside
from mpd.store.units import ASIDE, Unit, units_in
from mpd.sync.index import METADATA, PARTS

UNFINISHED = ("complete", "state.draft")  # beginnings of names in a folder of parts


@dataclass(frozen=True)
class Source:
    """A file to copy. Without a note, its digest is empty, and is known once it was read."""

    path: Path
    digest: str = ""
    link: Path | None = None
    note: Path | None = None
    name: str = ""


@dataclass(frozen=True)
class Scan:
    """What is to be copied, and the artifacts that are left out: damaged, or just being written."""

    sources: dict[Path, Source]
    left_out: list[Path]


def experiments_in(results: Path = RESULTS) -> list[str]:
    """The names of the experiments in the results of this folder."""
    folders = [path for path in sorted(results.glob("*/")) if path != STORE]
    return [
        path.name
        for path in folders
        if any((path / name).is_dir() for name in ("models", "problems"))
    ]


def scan(experiment: str) -> Scan:
    """What is to be copied of an experiment. Raises PermissionError where it may not be read."""
    folder = RESULTS / experiment
    sources: dict[Path, Source] = {}
    left_out: dict[Path, list[Path]] = {}
    for unit in units_in(folder, STORE):
        if unit.is_entry or unit.note is None:
            continue
        described = _noted(unit.place, unit.note, is_entry=False)
        if described is None:
            left_out[unit.place] = _all_of(unit)
            continue
        sources |= _linked(unit, described)
    excluded = {path for paths in left_out.values() for path in paths}
    records = [
        path
        for path in _records(experiment)
        if (output := Path(output_of(path))).is_file() and output not in excluded
    ]
    others = [*_plain(folder), *_parts(), *records]
    rest = {path: Source(path) for path in others if path not in excluded and path not in sources}
    return Scan({**sources, **rest}, sorted(left_out))


def _noted(place: Path, note: Path, is_entry: bool) -> dict[Path, Source] | None:
    """The files that a note describes; None where one of them, or the note, is not whole."""
    content = read_json(note)
    if fault_of(content) or (is_entry and note_key(content) != note.stem):
        return None
    seen = marks_of(entry_note(STORE, content))
    digests = content.get("digests", {})
    sources = {}
    for name, size in content["sizes"].items():
        path = place / name if name else place
        if not path.is_file() or path.stat().st_size != size:
            return None
        digest = digests.get(name) or fresh_digest(path)
        if seen.get(name) != marks(path) and fresh_digest(path) != digest:
            return None
        sources[path] = Source(path, digest, note=note if name in digests else None, name=name)
    return sources


def _linked(unit: Unit, described: Mapping[Path, Source]) -> dict[Path, Source]:
    """The files of an output, and those of the entry that they link to, if the store has it."""
    assert unit.note is not None
    stored_note = entry_note(STORE, read_json(unit.note))
    suffix = unit.place.suffix if unit.place in described else ""
    entry = stored_note.with_suffix(suffix)
    stored = _noted(entry, stored_note, is_entry=True) if stored_note.is_file() else None
    if stored is None:
        return dict(described)
    links = {source.name: source for source in stored.values()}
    outputs = {
        path: replace(source, link=links[source.name].path)
        if source.name in links and links[source.name].digest == source.digest
        else source
        for path, source in described.items()
    }
    same = stored_note.read_bytes() == unit.note.read_bytes()
    notes = {
        stored_note: Source(stored_note),
        unit.note: Source(unit.note, link=stored_note if same else None),
    }
    return {**stored, **outputs, **notes}


def _all_of(unit: Unit) -> list[Path]:
    assert unit.note is not None
    return [*files_of(unit.place), unit.note, receipt_beside(unit.note)]


def _plain(folder: Path) -> Iterator[Path]:
    """Every file below the folder of an experiment but drafts and what was set aside."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _is_aside(name)]
        yield from (Path(place, name) for name in sorted(names) if not _is_aside(name))


def _is_aside(name: str) -> bool:
    hidden = name.startswith(".") and not name.endswith(RECEIPT)
    return hidden or any(part in name for part in ASIDE)


def _parts() -> Iterator[Path]:
    """The parts of unfinished work of all experiments: nothing says whose they are."""
    for folder in sorted(STORE.glob(f"*/*{PARTS}")):
        for path in files_of(folder):
            names = path.relative_to(folder).parts
            if not any(name.startswith((".", *UNFINISHED)) for name in names):
                yield path


def output_of(record: Path) -> str:
    """The output that a record of Snakemake describes: its path in base 64 is the record's name.

    Empty where the name is another.
    """
    name = "".join(part.removeprefix("@") for part in record.relative_to(METADATA).parts)
    try:
        return urlsafe_b64decode(name).decode()
    except ValueError:
        return ""


def _records(experiment: str) -> Iterator[Path]:
    """Snakemake's records of the outputs of an experiment."""
    paths = files_of(METADATA) if METADATA.is_dir() else []
    prefix = f"{RESULTS}/{experiment}/"
    return (path for path in paths if output_of(path).startswith(prefix))
