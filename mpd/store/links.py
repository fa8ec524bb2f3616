"""The outputs that link to a stored file or folder.

Beside an output lies a link to the note of its entry: beside a file under the same name with the
suffix .json, in a folder as provenance.json. Its receipt lies there too.
"""

import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpd.store.digests import file_digest
from mpd.store.files import marks, read_json, replacing, sizes, write_json
from mpd.store.known_digests import remember
from mpd.store.manifest import MANIFEST, WEIGHTS
from mpd.store.notes import (
    PROVENANCE,
    entry_note,
    fault_of,
    is_of_folder,
    receipt_beside,
    receipt_for,
)
from mpd.store.supervisor import require_supervisor

log = logging.getLogger("mpd")

COPIES = (
    "/copies"  # the key, in a file .seen, of the outputs that are copies; no file has this name
)


def link(
    entry: Path, note: Path, output: Path, seen: Mapping[str, list[int]] | None = None
) -> None:
    """Link a stored file or folder and its note to `output`, in place of what was linked before.

    `seen` are the marks of its files when their bytes were right; without them, they are right
    now. Bytes that were written to meanwhile are read again the next time.

    Old files all go before the first new one comes, so that no kill leaves the two mixed. The
    note goes last and comes first: it always names what is there, and no other files are deleted.
    """
    if entry.is_file():
        output_note, stale = output.with_suffix(".json"), []
    else:
        output_note = output / PROVENANCE
        stale = _paths_in(output, read_json(output_note).get("sizes"))
    sources = {output / name: entry / name for name in sizes(entry)}
    require_supervisor()
    for path in (*stale, *sources, output_note):
        path.unlink(missing_ok=True)
    output_note.parent.mkdir(parents=True, exist_ok=True)
    write_json(receipt_beside(output_note), receipt_for(read_json(note)), lasting=True)
    names = [name for name in sizes(entry) if not seen or seen[name] == marks(entry / name)]
    linked = [_link(source, target) for target, source in {output_note: note, **sources}.items()]
    copies = _copies(note)
    if not all(linked):
        copies = sorted({*copies, str(output_note.absolute())})
    with suppress(OSError):  # without it, bytes are read again
        write_json(_seen(note), {COPIES: copies, **{name: marks(entry / name) for name in names}})
    digests = read_json(note).get("digests") or {}
    for name in (name for name in names if name.endswith(WEIGHTS) and name in digests):
        remember(entry / name, digests[name])


def marks_of(note: Path) -> dict[str, Any]:
    """Size, time and inode of each file of an entry when its bytes were last right."""
    return read_json(_seen(note))


def is_copied(note: Path) -> bool:
    """Whether an output is a copy of an entry, by the note beside the output.

    The number of links of the entry does not count copies.
    """
    content = note.read_bytes() if note.is_file() else None
    paths = map(Path, _copies(note))
    return any(path.is_file() and path.read_bytes() == content for path in paths)


def entries_noted_in(results: Path, root: Path) -> set[Path]:
    """The entries in the store `root`, without suffix, that notes beside outputs name.

    The outputs are below `results`, also behind symbolic links to folders. A note whose output has
    gone names nothing.
    """
    entries, seen = set(), {root.resolve()}
    for folder, folders, names in os.walk(results, followlinks=True):
        place = Path(folder).resolve()
        if place in seen:  # the store, or where links lead in a circle
            folders.clear()
            continue
        seen.add(place)
        outputs = {Path(name).stem for name in names if not name.endswith(".json")}
        for name in names:
            note = Path(folder, name)
            if note.suffix != ".json" or not (name == PROVENANCE or note.stem in outputs):
                continue
            content = read_json(note)
            fault = fault_of(content)
            if fault and (name == PROVENANCE or not content or "kind" in content):
                log.warning("%s: %s; nobody knows which entry it names", note, fault)
            elif not fault and _has_output(note, content):
                entries.add(entry_note(root, content).with_suffix(""))
    return entries


def other_links(entry: Path, output: Path) -> int:
    """How many outputs but `output` link to the files of an entry."""
    pairs = [(entry / name, output / name) for name in sizes(entry)]
    counts = [old.stat().st_nlink - 1 - (new.exists() and new.samefile(old)) for old, new in pairs]
    return max(counts, default=0)


def require_unchanged(
    note: Path, content: Mapping[str, Any], path: Path, seen: Mapping[str, Any]
) -> None:
    """Raise ValueError where the output at `path` has other bytes than its note says.

    Every file of a folder that was linked as a whole has to be as it was. `content` is that of the
    note, or of the receipt; `seen` are the marks of the stored files, which links to them share.
    """
    digests = content.get("digests", {})
    for name, digest in digests.items():
        file = note.parent / name if is_of_folder(note) else path
        if not file.is_file() or seen.get(name) == marks(file):
            continue
        if (found := file_digest(file)) != digest:
            # Rules name no other file of a model folder.
            target = note.with_name(MANIFEST) if MANIFEST in digests else file
            raise ValueError(
                f"{file} was changed after it was made, so nothing is computed from it (expected "
                f"SHA-256 {digest[:12]} by {note.name}, found {found[:12]}); run again with "
                f"--forcerun {target}, which puts what was made in its place"
            )


def _has_output(note: Path, content: Mapping[str, Any]) -> bool:
    """Whether a file that a note in a folder names is there; other notes lie beside a file."""
    paths = _paths_in(note.parent, content.get("sizes"))
    return note.name != PROVENANCE or not paths or any(path.is_file() for path in paths)


def _paths_in(folder: Path, names: Any) -> list[Path]:
    """The files that a note names: none outside the folder, whatever the note says."""
    relative = [Path(name) for name in names if name] if isinstance(names, dict) else []
    return [folder / path for path in relative if not path.is_absolute() and ".." not in path.parts]


def _copies(note: Path) -> list[str]:
    """The absolute paths of the notes beside outputs that are copies of an entry."""
    copies = read_json(_seen(note)).get(COPIES)
    return [path for path in copies if isinstance(path, str)] if isinstance(copies, list) else []


def _seen(note: Path) -> Path:
    return note.with_suffix(".seen")


def _link(source: Path, target: Path) -> bool:
    """Link or copy a stored file; returns whether it is linked."""
    target.parent.mkdir(parents=True, exist_ok=True)
    linked = False
    if os.access(source, os.W_OK):  # a link to what only another user may write is of no use
        require_supervisor()
        with suppress(OSError):  # another file system, or one without hard links
            os.link(source, target)
            linked = True
    if not linked:
        with replacing(target) as draft:
            shutil.copyfile(source, draft)
    _touch(target)
    return linked


def _touch(path: Path) -> None:
    """Set the time to now, plus a nanosecond: a write in the same tick of the clock shows."""
    os.utime(path)
    now = path.stat()
    with suppress(PermissionError):  # another user's file takes no other time than now
        os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns + 1))
