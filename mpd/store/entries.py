"""One stored file or folder with its note, and the links of an output to it.

The note is a JSON file: where the entry came from, with size and SHA-256 of each of its files. In
an output folder it is called provenance.json. Outputs are hard links to the entry, so whatever
writes into one writes into the entry: it is handed out only while its bytes are those of its note.
A file beside the note, with the suffix .seen, keeps size, time and inode of each file as they
were when the bytes were last right; they are read again only where one of these moved.
"""

import filecmp
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from mpd.store.content import contradicted
from mpd.store.digests import file_digest
from mpd.store.rights import make_writable, mode_in

log = logging.getLogger("mpd")

PROVENANCE = "provenance.json"
COPIES = (
    "/copies"  # in a file .seen, beside names of files: outputs that are copies, by their notes
)


@dataclass(frozen=True)
class Look:
    """An entry beside its note: what differs, and size, time and inode of each file.

    `changed` names the files that are not as the note has them; of an entry that is one file, the
    name is empty. The marks were taken before any byte was read.
    """

    changed: tuple[str, ...]
    marks: Mapping[str, list[int]]


def look(entry: Path, note: Path) -> Look | None:
    """Compare an entry with its note; None where there is no entry, or no note that can be read.

    A note written before digests were noted speaks of sizes; the rest say the files themselves:
    tables by their footers, models by their manifests.
    """
    if not (entry.exists() and note.exists()):
        return None
    noted = read_note(note)
    expected, digests = noted.get("sizes"), noted.get("digests")
    if not isinstance(expected, dict) or not (digests is None or _same_names(digests, expected)):
        log.warning("%s is damaged; %s is computed again", note, entry)
        return None
    marks, seen = {name: _marks(entry / name) for name in sizes(entry)}, read_note(_seen(note))
    changed = {name for name in {**expected, **marks} if _size(marks, name) != expected.get(name)}
    if digests is None:
        changed |= set(contradicted(entry, [name for name in marks if name not in changed]))
    else:
        changed |= {
            name
            for name in marks
            if name not in changed
            and seen.get(name) != marks[name]
            and file_digest(entry / name) != digests[name]
        }
    return Look(tuple(sorted(changed)), marks)


def set_aside(entry: Path, note: Path, changed: Sequence[str], output: Path) -> None:
    """Rename an entry that was changed after it was made, and its note; say so."""
    names = (f"{note.stem}-changed{'' if number == 1 else number}" for number in count(1))
    free = (entry.with_name(f"{name}{entry.suffix}") for name in names)
    aside = next(path for path in free if not path.exists())
    others = other_links(entry, output)
    entry.rename(aside)
    note.rename(aside.with_suffix(".json"))
    log.warning(
        "%s was changed after it was made%s: kept as %s until it is pruned, and computed again%s",
        entry,
        f" ({', '.join(changed)})" if any(changed) else "",
        aside,
        f"; other outputs that link to what was changed: {others}" if others else "",
    )


def bring_up_to_date(entry: Path, note: Path) -> None:
    """Make an entry of before what it would be now: writable, with digests in its note.

    Entries used to be read-only, and an output, which shares the mode, could then not be replaced.
    """
    for path in files_of(entry):
        make_writable(path)
    noted = read_note(note)
    if "digests" not in noted:
        _write(note, {**noted, "digests": _digests(entry)})


def require_unchanged(note: Path, files: Mapping[str, Path], seen: Mapping[str, Any]) -> None:
    """Raise ValueError where outputs, by their names in a note, have other bytes than it says.

    `seen` are the marks of the stored files, which links to them share.
    """
    digests = read_note(note).get("digests") or {}
    for name, path in files.items():
        if name not in digests or not path.is_file() or seen.get(name) == _marks(path):
            continue
        if file_digest(path) != digests[name]:
            raise ValueError(
                f"{path} was changed after it was made, so nothing is computed from it; run again "
                f"with --forcerun {path}, which puts what was made in its place"
            )


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
    """Make `fresh` the entry, on the disk, with its note."""
    from mpd.store.table import sync

    draft = note.with_suffix(".json.draft")
    draft.unlink(missing_ok=True)  # of a killed run, maybe of another user's
    content = {**provenance, "sizes": sizes(fresh), "digests": _digests(fresh)}
    draft.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
    for path in files_of(fresh):
        path.chmod(mode_in(entry.parent))  # safetensors, for one, lets nobody else read
    for path in (*files_of(fresh), draft):
        sync(path)
    # The entry goes before its note, and its note after: an entry without a note is not whole.
    note.unlink(missing_ok=True)
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)
    fresh.rename(entry)
    draft.rename(note)


def link(
    entry: Path, note: Path, output: Path, marks: Mapping[str, list[int]] | None = None
) -> None:
    """Link a stored file or folder and its note to `output`, in place of what was linked before.

    `marks` are those of its files when their bytes were right; without, they are right now. What
    was written to meanwhile is read again the next time.

    Old files all go before the first new one comes, so that no kill leaves the two mixed. The
    note goes last and comes first: it always names what is there, and nobody else's files go.
    """
    if entry.is_file():
        noted, stale = output.with_suffix(".json"), []
    else:
        noted = output / PROVENANCE
        stale = [output / name for name in _names(read_note(noted).get("sizes"))]
    sources = {output / name: entry / name for name in sizes(entry)}
    for path in (*stale, *sources, noted):
        path.unlink(missing_ok=True)
    names = [name for name in sizes(entry) if not marks or marks[name] == _marks(entry / name)]
    linked = [_link(source, target) for target, source in {noted: note, **sources}.items()]
    copies = _names(read_note(_seen(note)).get(COPIES))
    if not all(linked):
        copies = sorted({*copies, str(noted.absolute())})
    with suppress(OSError):  # without it, bytes are read again
        _write(_seen(note), {COPIES: copies, **{name: _marks(entry / name) for name in names}})


def is_copied(note: Path) -> bool:
    """Whether an output is a copy of an entry, by the note beside it: links cannot be told."""
    content = note.read_bytes() if note.is_file() else None
    copies = map(Path, _names(read_note(_seen(note)).get(COPIES)))
    return any(copy.is_file() and copy.read_bytes() == content for copy in copies)


def marks_of(note: Path) -> dict[str, Any]:
    """Size, time and inode of each file of an entry when its bytes were last right."""
    return read_note(_seen(note))


def other_links(entry: Path, output: Path) -> int:
    """How many outputs but `output` link to the files of an entry."""
    pairs = [(entry / name, output / name) for name in sizes(entry)]
    counts = [old.stat().st_nlink - 1 - (new.exists() and new.samefile(old)) for old, new in pairs]
    return max(counts, default=0)


def _digests(entry: Path) -> dict[str, str]:
    return {name: file_digest(entry / name) for name in sizes(entry)}


def _same_names(digests: Any, sizes: Mapping[str, Any]) -> bool:
    return isinstance(digests, dict) and set(digests) == set(sizes)


def _size(marks: Mapping[str, list[int]], name: str) -> int | None:
    return marks[name][0] if name in marks else None


def _names(listed: Any) -> list[str]:
    """Names from a JSON file of the store: none that lead out of a folder, whoever wrote them."""
    names = [name for name in listed or () if isinstance(name, str)]
    return [name for name in names if ".." not in Path(name).parts]


def _marks(path: Path) -> list[int]:
    """What moves when a file is written to or replaced."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _seen(note: Path) -> Path:
    return note.with_suffix(".seen")


def read_note(note: Path) -> dict[str, Any]:
    """A JSON file of the store; empty where it is missing, torn or another's file."""
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)  # of a killed run, maybe of another user's
    draft.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
    draft.rename(path)


def _link(source: Path, target: Path) -> bool:
    """Link or copy a stored file; returns whether it is linked."""
    target.parent.mkdir(parents=True, exist_ok=True)
    linked = False
    if os.access(source, os.W_OK):  # a link to what only another user may write is of no use
        with suppress(OSError):  # another file system, or one without hard links
            os.link(source, target)
            linked = True
    if not linked:
        draft = target.with_name(f".{target.name}.draft")
        draft.unlink(missing_ok=True)  # of a killed run, maybe of another user's
        shutil.copyfile(source, draft)
        draft.rename(target)
    _touch(target)
    return linked


def _touch(path: Path) -> None:
    """Set the time to now, plus a nanosecond: a write in the same tick of the clock shows."""
    os.utime(path)
    now = path.stat()
    with suppress(PermissionError):  # another user's file takes no other time than now
        os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns + 1))
