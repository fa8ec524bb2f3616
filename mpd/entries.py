"""One stored file or folder with its note, and the links of an output to it.

The note is a JSON file: where the entry came from, and the sizes of its files, by which a half
written or truncated entry is known. In an output folder it is called provenance.json.
"""

import filecmp
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger("mpd")

PROVENANCE = "provenance.json"


def is_whole(entry: Path, note: Path) -> bool:
    """Whether a stored file or folder has the sizes that were noted when it was made."""
    if not (entry.exists() and note.exists()):
        return False
    if _noted_sizes(note) == sizes(entry):
        return True
    log.warning("%s or its note is damaged; it is computed again", entry)
    return False


def files_of(entry: Path) -> list[Path]:
    """The file itself, or the files below a folder, in a fixed order."""
    if entry.is_file():
        return [entry]
    return sorted(path for path in entry.rglob("*") if path.is_file())


def sizes(entry: Path) -> dict[str, int]:
    """Bytes of each file by its path in the folder; by the empty path for a file."""
    if entry.is_file():
        return {"": entry.stat().st_size}
    return {str(path.relative_to(entry)): path.stat().st_size for path in files_of(entry)}


def same_bytes(old: Path, new: Path) -> bool:
    """Whether two files, or two folders with all their files, are equal."""
    return sizes(old) == sizes(new) and all(
        filecmp.cmp(old / name, new / name, shallow=False) for name in sizes(old)
    )


def install(fresh: Path, entry: Path, note: Path, provenance: Mapping[str, Any]) -> None:
    """Make `fresh` the entry: read-only, on the disk, with its note."""
    from mpd.table import sync

    draft = note.with_suffix(".json.draft")
    draft.write_text(json.dumps({**provenance, "sizes": sizes(fresh)}, indent=1, sort_keys=True))
    for path in files_of(fresh):
        path.chmod(0o444)
    for path in (*files_of(fresh), draft):
        sync(path)
    # The entry goes before its note, and its note after: an entry without a note is not whole.
    note.unlink(missing_ok=True)
    if entry.is_dir():
        shutil.rmtree(entry)
    fresh.rename(entry)
    draft.rename(note)


def link(entry: Path, note: Path, output: Path) -> None:
    """Link a stored file or folder and its note to `output`, in place of what was linked before.

    Old files all go before the first new one comes, so that no kill leaves the two mixed. The
    note goes last and comes first: it always names what is there, and nobody else's files go.
    """
    if entry.is_file():
        noted, stale = output.with_suffix(".json"), []
    else:
        noted = output / PROVENANCE
        stale = [output / name for name in _noted_sizes(noted) or {}]
    sources = {output / name: entry / name for name in sizes(entry)}
    for path in (*stale, *sources, noted):
        path.unlink(missing_ok=True)
    for target, source in {noted: note, **sources}.items():
        _link(source, target)


def other_links(entry: Path, output: Path) -> int:
    """How many outputs but `output` link to the files of an entry."""
    pairs = [(entry / name, output / name) for name in sizes(entry)]
    counts = [old.stat().st_nlink - 1 - (new.exists() and new.samefile(old)) for old, new in pairs]
    return max(counts, default=0)


def _noted_sizes(note: Path) -> dict[str, int] | None:
    """The sizes that a note holds; None where it is missing, torn or another's file."""
    try:
        return json.loads(note.read_text())["sizes"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        draft = target.with_name(f".{target.name}.draft")
        draft.unlink(missing_ok=True)  # what a killed run left may be read-only already
        shutil.copy(source, draft)
        draft.rename(target)
    os.utime(target)
