"""Setting aside what is damaged, so that the next run makes it again. Nothing is lost."""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from mpd.store.entries import rename_aside
from mpd.store.manifest import MANIFEST
from mpd.store.notes import PROVENANCE
from mpd.store.units import Unit, files_of_unit
from mpd.store.verification import Fault, Verifier


def set_aside(fault: Fault) -> Iterator[str]:
    """Rename what a fault is in, outputs first; one line for each.

    Raises ValueError where a job holds an entry.
    """
    for unit in sorted([*fault.units, *fault.sources], key=lambda unit: unit.is_entry):
        if unit.is_entry:
            yield from _set_aside_entry(unit)
            continue
        for path in (unit.place, unit.note):
            if path and path.exists():
                names = (f"{path.name}.damaged{'' if n == 1 else n}" for n in count(1))
                free = (path.with_name(name) for name in names)
                aside = path.rename(next(other for other in free if not other.exists()))
                yield f"set aside {path} as {aside.name}"


def _set_aside_entry(unit: Unit) -> Iterator[str]:
    note = unit.place.with_suffix(".json")
    if not (unit.place.exists() or note.exists()):
        return
    try:
        with FileLock(note.with_suffix(".lock")).acquire(timeout=0):
            aside = rename_aside(unit.place, note)
    except Timeout:
        raise ValueError(
            f"{unit.place}: a job is at work on it; repair when nothing runs"
        ) from None
    yield f"set aside {unit.place} as {aside.name}"


def set_aside_outputs(faults: Sequence[Fault]) -> list[Path]:
    """The outputs of rules that were set aside: of a folder one file, for a model its manifest."""
    outputs: dict[Path, None] = {}
    for fault in faults:
        for unit in (*fault.units, *fault.sources):
            if not unit.is_entry:
                is_in_folder = fault.path.parent == unit.place and fault.path.suffix == ".parquet"
                in_folder = fault.path if is_in_folder else unit.place / MANIFEST
                outputs[unit.place if unit.place.suffix else in_folder] = None
    return list(outputs)


def unlinked(verifier: Verifier, paths: Sequence[Path]) -> list[Path]:
    """Take away the outputs at `paths` that are links to whole entries; returns the others.

    Snakemake does not miss a file as long as what was made from it is there.
    """
    units = {unit.place: unit for unit in verifier.units}
    kept = []
    for path in dict.fromkeys(paths):
        unit = units.get(path) or units.get(path.parent)
        if unit is None or not path.exists():  # it was set aside itself
            continue
        files = [file for file in files_of_unit(unit) if _is_stored(verifier, file)]
        if path not in files or (unit.note and unit.note not in files):
            kept.append(path)
            continue
        # Without a manifest, what a kill leaves of a folder is no model.
        for file in sorted(files, key=lambda file: file.name not in (MANIFEST, PROVENANCE)):
            file.unlink()
    return kept


def _is_stored(verifier: Verifier, file: Path) -> bool:
    """Whether a file is a link to an entry that is whole."""
    damaged = {unit for fault in verifier.faults.values() for unit in fault.units}
    status = file.stat()
    places = verifier.places[status.st_dev, status.st_ino]
    return any(unit.is_entry and unit not in damaged for unit, _ in places)
