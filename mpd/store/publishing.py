"""The store: what was ever computed, under a fingerprint of what it means.

A stage names its settings and the content of its inputs; their digest is the fingerprint.
If `{store}/{kind}/{fingerprint}` is there, it is hard-linked to the stage's output and nothing is
computed. Otherwise it is computed in `{fingerprint}.parts/`, where what a killed run left is
resumed, then renamed into the store as a whole and linked. What was changed since, through a link
or not, is known by the digests in its note: it is set aside and computed again.
`python -m mpd.prune` deletes what no output links to any more.
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from mpd.store.entries import bring_up_to_date, inspect, install, same_bytes, set_aside
from mpd.store.links import link, marks_of, other_links, require_unchanged
from mpd.store.locks import locked
from mpd.store.notes import entry_note, note_of, read_note, receipt_of
from mpd.store.outputs import Output, fingerprint
from mpd.store.spent import Meter

log = logging.getLogger("mpd")


class Store:
    """What was ever computed, below `root`. With `refresh`, it is computed again and compared."""

    def __init__(self, root: Path, refresh: bool = False) -> None:
        self.root = root
        self.refresh = refresh

    def find(self, output: Output) -> Path | None:
        """The stored file or folder of an output; None where it would have to be computed."""
        entry, note = self._places(output)
        inspection = inspect(entry, note)
        return entry if inspection and not inspection.changed else None

    def publish(self, output: Output) -> Path:
        """Link the artifact to the path of the output, computing it if it is new; return the path.

        If it is a folder, it then holds the stored files, and no file that was linked before.
        """
        entry, note = self._places(output)
        name = f"{output.kind} {note.stem[:12]}"
        entry.parent.mkdir(parents=True, exist_ok=True)
        with locked(note.with_suffix(".lock"), name) as require_held:
            inspection = inspect(entry, note)
            if inspection and inspection.changed:
                set_aside(entry, note, inspection.changed, output.path)
                inspection = None
            if inspection:
                bring_up_to_date(entry, note)
                # A job killed just after it stored its result left its parts.
                shutil.rmtree(note.with_suffix(".parts"), ignore_errors=True)
            if inspection and not self.refresh:
                log.info("reused %s", name)
            elif self._compute(output, entry, note, require_held, inspection is not None):
                inspection = None
            link(entry, note, output.path, inspection.marks if inspection else None)
        return output.path

    def require_unchanged(self, path: Path) -> None:
        """Raise ValueError where what the store linked to a path, an input, was changed since.

        Where a folder was linked as a whole, all its files have to be as they were. What has
        neither note nor receipt is the user's own; one that is damaged is an error too.
        """
        compared = None
        for place in filter(None, (note_of(path), receipt_of(path))):
            content = read_note(place, path)
            if content.get("digests") == compared:
                continue
            compared = content.get("digests")
            seen = marks_of(entry_note(self.root, content))
            require_unchanged(place, content, path, seen)

    def _places(self, output: Output) -> tuple[Path, Path]:
        """The stored file or folder of an output, and its note."""
        home, key = self.root / output.kind, fingerprint(**output.meaning)
        return home / f"{key}{output.suffix}", home / f"{key}.json"

    def _compute(
        self,
        output: Output,
        entry: Path,
        note: Path,
        require_held: Callable[[], None],
        is_stored: bool,
    ) -> bool:
        """Compute an output, and store it unless equal bytes are; whether it was stored."""
        name = f"{output.kind} {note.stem[:12]}"
        scratch = note.with_suffix(".refresh.parts" if is_stored else ".parts")
        fresh = scratch / f"complete{output.suffix}"
        scratch.mkdir(exist_ok=True)
        meter = Meter(scratch / "spent.json")
        output.build(fresh, scratch, meter)
        require_held()
        agrees = is_stored and same_bytes(entry, fresh)
        message = _refreshed(name, agrees, entry, output.path) if is_stored else f"computed {name}"
        if not agrees:
            install(fresh, entry, note, {**output.meaning, "spent": meter.spent()})
        shutil.rmtree(scratch)
        log.info(message)
        return not agrees


def _refreshed(name: str, agrees: bool, entry: Path, output: Path) -> str:
    """The message of a refresh; made before the old bytes go, since it counts links to them."""
    others = 0 if agrees else other_links(entry, output)
    left = f"; other outputs that still link to the old bytes: {others}" if others else ""
    return f"refreshed {name}: the bytes {'agree' if agrees else 'DIFFER'}{left}"
