"""One stored file or folder, and the note beside it.

The note is a JSON file: where the entry came from, with size and SHA-256 of each of its files.
Outputs are hard links to the entry, so whatever writes into one writes into the entry: it is
handed out only while its bytes are those of its note. A file beside the note, with the suffix
.seen, keeps size, time and inode of each file as they were when the bytes were last right; bytes
are read again only where one of these moved.
"""

import filecmp
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from mpd.store.content import contradicted
from mpd.store.digests import file_digest
from mpd.store.files import (
    checksummed,
    files_of,
    marks,
    read_json,
    replacing,
    sizes,
    sync,
    write_json,
)
from mpd.store.known_digests import fresh_digest
from mpd.store.links import marks_of, other_links
from mpd.store.notes import fault_of, note_key
from mpd.store.rights import make_writable, mode_in
from mpd.store.supervisor import require_supervisor

log = logging.getLogger("mpd")


@dataclass(frozen=True)
class Inspection:
    """An entry compared with its note.

    `changed` names the files that are not as the note has them; the name is empty where the entry
    is a single file. `marks` are those of each file, taken before any byte was read.
    """

    changed: tuple[str, ...]
    marks: Mapping[str, list[int]]


def inspect(entry: Path, note: Path) -> Inspection | None:
    """Compare an entry with its note; None where there is no entry, or no note that can be read.

    A note from before digests were noted has sizes alone; the files themselves tell the rest:
    tables by their footers, models by their manifests.
    """
    if not (entry.exists() and note.exists()):
        return None
    content = read_json(note)
    fault = fault_of(content)
    if not fault and note_key(content) != note.stem:
        fault = f"expected the note of {note.stem[:12]}, found that of {note_key(content)[:12]}"
    if fault:
        log.warning("%s is damaged (%s); %s is computed again", note, fault, entry)
        return None
    expected, digests = content["sizes"], content.get("digests")
    present, seen = {name: marks(entry / name) for name in sizes(entry)}, marks_of(note)
    changed = {
        name
        for name in {**expected, **present}
        if name not in present or present[name][0] != expected.get(name)
    }
    same_size = [name for name in present if name not in changed]
    if digests is None:
        changed |= set(contradicted(entry, same_size))
    else:
        changed |= {
            name
            for name in same_size
            if seen.get(name) != present[name] and file_digest(entry / name) != digests[name]
        }
    return Inspection(tuple(sorted(changed)), present)


def set_aside(entry: Path, note: Path, changed: Sequence[str], output: Path) -> None:
    """Rename an entry that was changed after it was made, and its note; log both names."""
    others = other_links(entry, output)
    require_supervisor()
    aside = rename_aside(entry, note)
    log.warning(
        "%s was changed after it was made%s: kept as %s until it is pruned, and computed again%s",
        entry,
        f" ({', '.join(changed)})" if any(changed) else "",
        aside,
        f"; other outputs that link to what was changed: {others}" if others else "",
    )


def rename_aside(entry: Path, note: Path) -> Path:
    """Rename an entry and its note, as far as they are there; returns the new path of the entry."""
    names = (f"{note.stem}-changed{'' if number == 1 else number}" for number in count(1))
    candidates = (entry.with_name(f"{name}{entry.suffix}") for name in names)
    aside = next(
        path for path in candidates if not (path.exists() or path.with_suffix(".json").exists())
    )
    if entry.exists():
        entry.rename(aside)
    if note.exists():
        note.rename(aside.with_suffix(".json"))
    return aside


def bring_up_to_date(entry: Path, note: Path) -> None:
    """Give an entry of an earlier version what entries have now: write permission and digests.

    Entries used to be read-only, and an output, which shares the mode, could then not be replaced.
    """
    for path in files_of(entry):
        make_writable(path)
    content = read_json(note)
    if "digests" not in content:
        write_json(note, checksummed({**content, "digests": _digests(entry)}))


def same_bytes(old: Path, new: Path) -> bool:
    """Whether two files, or two folders with all their files, are equal."""
    return sizes(old) == sizes(new) and all(
        filecmp.cmp(old / name, new / name, shallow=False) for name in sizes(old)
    )


def install(fresh: Path, entry: Path, note: Path, provenance: Mapping[str, Any]) -> None:
    """Make `fresh` the entry, with its note, once both are on the disk."""
    content = checksummed({**provenance, "sizes": sizes(fresh), "digests": _digests(fresh)})
    for path in files_of(fresh):
        path.chmod(mode_in(entry.parent))  # safetensors, for one, gives others no right to read
        sync(path)
    with replacing(note) as draft:
        draft.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
        sync(draft)
        require_supervisor()
        # The old entry goes before its note, and the new note comes last: without a note, an
        # entry is not whole.
        note.unlink(missing_ok=True)
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
        fresh.rename(entry)


def _digests(entry: Path) -> dict[str, str]:
    return {name: fresh_digest(entry / name) for name in sizes(entry)}
