"""Notes: where an artifact came from, what computing it took, and the digests of its files.

A note is a JSON file beside a stored file or folder, and linked beside each output. It is read with
care: it may be damaged, or beside a file of the user have another content.

A receipt has what a note says about meaning and files. It lies hidden beside an output, and stays
there: it tells where another file was put in that place, with its own note or without any.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpd.store.files import CHECKSUM, checksummed, has_its_checksum, json_object, read_json
from mpd.store.manifest import MANIFEST
from mpd.store.outputs import MEANING, fingerprint

PROVENANCE = "provenance.json"  # the note in a folder
RECEIPT = ".receipt"  # the suffix of a receipt; that of a note, .json, is what models are read from
TYPES: Mapping[str, tuple[type, ...]] = {
    "kind": (str,),
    "version": (int, list),
    "settings": (dict,),
    "inputs": (dict,),
    "sizes": (dict,),
    "digests": (dict,),
    "spent": (dict,),
    CHECKSUM: (str,),
}
VALUES: Mapping[str, tuple[type, ...]] = {
    "inputs": (str,),
    "sizes": (int,),
    "digests": (str,),
    "spent": (int, float, str),
}
LATER = ("digests", "spent", CHECKSUM)  # notes of earlier versions lack them


def fault_of(content: Mapping[str, Any]) -> str:
    """What is wrong with the content of a note, as "expected …, found …"; empty where nothing is.

    It tells what a reader may rely on: the types of what it names, and that it is as it was
    written, which notes of earlier versions cannot tell.
    """
    unknown = sorted(set(content) - set(TYPES))
    if unknown and not has_its_checksum(content):  # a later release may write more
        return f"expected the keys of a note, found {unknown[0]!r:.40}"
    for key, kinds in TYPES.items():
        if key not in content and key in LATER:
            continue
        value = content.get(key)
        values = value.values() if key in VALUES and isinstance(value, dict) else ()
        if type(value) not in kinds or any(type(each) not in VALUES[key] for each in values):
            names = " or ".join(kind.__name__ for kind in kinds)
            expected = f"{names} of {VALUES[key][0].__name__}" if key in VALUES else names
            found = f"{value!r:.40}" if key in content else "nothing"
            return f"expected {key} to be {expected}, found {found}"
    if "digests" in content and set(content["digests"]) != set(content["sizes"]):
        return "expected digests of the files that it has sizes of, found others"
    if CHECKSUM in content and not has_its_checksum(content):
        return f"expected the checksum of its other keys, found {content[CHECKSUM]!r:.40}"
    return ""


def note_key(content: Mapping[str, Any]) -> str:
    """The fingerprint of what a note without a fault says."""
    return fingerprint(**{name: content[name] for name in MEANING})


def entry_note(root: Path, content: Mapping[str, Any]) -> Path:
    """The place in the store `root` of the note of the entry that a note without a fault names."""
    return root / content["kind"] / f"{note_key(content)}.json"


def note_of(path: Path) -> Path | None:
    """The note beside what the store linked to a path, or in its folder; None where there is none.

    A file in a folder that was linked as a whole has the folder's note. A JSON file beside a file
    of the user is no note; beside a table of ours it is one, however damaged.
    """
    if path.name != PROVENANCE:
        for note in (path / PROVENANCE, path.with_name(PROVENANCE)):
            if note.is_file():
                return note
    note = path.with_suffix(".json")
    # A manifest.json whose note has gone is not its own note.
    if note == path or not note.is_file():
        return None
    return note if set(MEANING) <= set(read_json(note)) or _is_ours(path) else None


def is_of_folder(note: Path) -> bool:
    """Whether a note or receipt is of all that was linked to its folder, not of one file."""
    return note.name in (PROVENANCE, receipt_beside(Path(PROVENANCE)).name)


def receipt_beside(note: Path) -> Path:
    """The place of the receipt that belongs to a note beside an output."""
    return note.with_name(f".{note.stem}{RECEIPT}")


def receipt_for(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the receipt that belongs to a note: all of it but what computing took."""
    return checksummed({key: value for key, value in content.items() if key != "spent"})


def receipt_of(path: Path) -> Path | None:
    """The receipt for what the store linked to a path, or to its folder; None without one."""
    notes = (path / PROVENANCE, path.with_name(PROVENANCE), path.with_suffix(".json"))
    return next((place for place in map(receipt_beside, notes) if place.is_file()), None)


def read_note(note: Path, path: Path) -> dict[str, Any]:
    """The note of the output at `path`, or its receipt. Raises ValueError where it is damaged."""
    is_model = is_of_folder(note) and note.with_name(MANIFEST).is_file()
    target = note.with_name(MANIFEST) if is_model else path
    advice = f"run again with --forcerun {target}, which puts whole files in their place"
    content = json_object(note, advice)
    fault = fault_of(content)
    if fault:
        raise ValueError(f"{note}: {fault}: the note of {path} is damaged; {advice}")
    return content


def _is_ours(path: Path) -> bool:
    """Whether a file is a table with our footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return b"mpd" in (pq.read_metadata(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False
