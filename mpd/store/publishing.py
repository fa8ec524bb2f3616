"""The store: what was ever computed, under a fingerprint of what it means.

A stage names its settings and the content of its inputs; their digest is the fingerprint.
If `{store}/{artifact}/{fingerprint}` is there, it is hard-linked to the stage's output and
nothing is computed. Else it is computed in `{fingerprint}.parts/`, where what a killed run
left is resumed, renamed into the store as a whole and linked. What was changed since, through
a link or not, is known by the digests in its note: it is set aside and computed again.
What no output links to any more, `python -m mpd.prune` deletes.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from mpd.store.entries import (
    PROVENANCE,
    bring_up_to_date,
    install,
    link,
    look,
    marks_of,
    other_links,
    read_note,
    require_unchanged,
    same_bytes,
    set_aside,
)
from mpd.store.parts import Parts
from mpd.store.schema import Artifact, Version
from mpd.store.spent import Meter

if TYPE_CHECKING:
    from mpd.store.table import Identity

log = logging.getLogger("mpd")

MEANING = ("kind", "version", "settings", "inputs")  # what a fingerprint is taken of


def fingerprint(
    kind: str, version: Version, settings: Mapping[str, Any], inputs: Mapping[str, str]
) -> str:
    """Digest of what an artifact means; 32 hexadecimal digits.

    `settings` hold only what can change its content; `inputs` are content digests.
    """
    meaning = {"kind": kind, "version": version, "settings": settings, "inputs": inputs}
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:32]


class Explained(Exception):
    """Raised in place of publishing: what an artifact would mean, and where the store has it.

    `meaning` is what the fingerprint is taken of, as it stands in an artifact's note.
    """

    def __init__(self, meaning: Mapping[str, Any], output: Path, entry: Path) -> None:
        super().__init__(output, entry)
        self.meaning = meaning
        self.output = output
        self.entry = entry
        found = look(entry, entry.with_suffix(".json"))
        self.is_there = found is not None and not found.changed

    def __str__(self) -> str:
        return f"{self.output}: {self.entry} is {'' if self.is_there else 'not '}in the store"


class Store:
    """What was ever computed, below `root`.

    With `refresh`, what is there is computed again and compared. With `explain`, nothing is
    computed or linked: `Explained` is raised where an artifact would be published.
    """

    def __init__(self, root: Path, refresh: bool = False, explain: bool = False) -> None:
        self.root = root
        self.refresh = refresh
        self.explain = explain

    def publish_table(
        self,
        artifact: Artifact,
        output: Path,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        compute: Callable[[Parts], None],
        identity: "Identity | None" = None,
    ) -> None:
        """Link the table of these settings and inputs to `output`; `compute` it if it is new.

        `identity` goes to the footer: what a reader must be able to refuse on.
        """

        def build(fresh: Path, scratch: Path, meter: Meter) -> None:
            from mpd.store import table

            parts = Parts(scratch, artifact, identity or {}, meter)
            compute(parts)
            table.concatenate(fresh, parts.finished, artifact, identity or {})

        self._publish(artifact.name, artifact.version, ".parquet", output, settings, inputs, build)

    def publish_file(
        self,
        kind: str,
        version: int,
        output: Path,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        compute: Callable[[Path], None],
    ) -> None:
        """Link a file that is no table, such as a report, to `output`; `compute(path)` if new."""

        def build(fresh: Path, scratch: Path, meter: Meter) -> None:
            fresh.unlink(missing_ok=True)  # of a killed run, maybe of another user's
            compute(fresh)

        self._publish(kind, version, output.suffix, output, settings, inputs, build)

    def publish_folder(
        self,
        kind: str,
        version: Version,
        output: Path,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        compute: Callable[[Path, Path], None],
    ) -> None:
        """Link the folder of these settings and inputs to `output`; `compute` it if it is new.

        `compute(folder, scratch)` fills `folder`; `scratch` outlives a kill. `output` then holds
        the folder's files and nothing else.
        """

        def build(fresh: Path, scratch: Path, meter: Meter) -> None:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            compute(fresh, scratch)

        self._publish(kind, version, "", output, settings, inputs, build)

    def require_unchanged(self, path: Path) -> None:
        """Raise ValueError where what the store linked to a path, an input, was changed since.

        Of a file in a folder that was linked as a whole, every file of the folder has to be as it
        was. What no note speaks of is the user's own.
        """
        note = path.with_name(PROVENANCE)
        noted = read_note(note)
        files = {name: path.parent / name for name in noted.get("sizes", {})}
        if not noted:
            note, files = path.with_suffix(".json"), {"": path}
            noted = read_note(note)
        if set(MEANING) <= set(noted):
            key = fingerprint(**{name: noted[name] for name in MEANING})
            require_unchanged(note, files, marks_of(self.root / noted["kind"] / f"{key}.json"))

    def _publish(
        self,
        kind: str,
        version: Version,
        suffix: str,
        output: Path,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        build: Callable[[Path, Path, Meter], None],
    ) -> None:
        key = fingerprint(kind, version, settings, inputs)
        meaning = {"kind": kind, "version": version, "settings": settings, "inputs": inputs}
        home, what = self.root / kind, f"{kind} {key[:12]}"
        entry, note = home / f"{key}{suffix}", home / f"{key}.json"
        if self.explain:
            raise Explained(meaning, output, entry)
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / f"{key}.lock", what):
            found = look(entry, note)
            there = found is not None and not found.changed
            if found and found.changed:
                set_aside(entry, note, found.changed, output)
                found = None
            if there:
                bring_up_to_date(entry, note)
                # A job killed after it had stored all left its parts.
                shutil.rmtree(home / f"{key}.parts", ignore_errors=True)
            if there and not self.refresh:
                log.info("reused %s", what)
            else:
                scratch = home / f"{key}{'.refresh' if there else ''}.parts"
                fresh = scratch / f"complete{suffix}"
                scratch.mkdir(exist_ok=True)
                meter = Meter(scratch / "spent.json")
                build(fresh, scratch, meter)
                agrees = there and same_bytes(entry, fresh)
                done = _refreshed(what, agrees, entry, output) if there else f"computed {what}"
                if not agrees:
                    install(fresh, entry, note, {**meaning, "spent": meter.spent()})
                    found = None
                shutil.rmtree(scratch)
                log.info(done)
            link(entry, note, output, found.marks if found else None)


def _locked(path: Path, what: str) -> AbstractContextManager:
    """The lock of an entry, held. Says so where another process has it."""
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for the process that makes %s", what)
        return lock.acquire()


def _refreshed(what: str, agrees: bool, entry: Path, output: Path) -> str:
    """What a refresh found, said before the old bytes go."""
    others = 0 if agrees else other_links(entry, output)
    left = f"; other outputs that still link to the old bytes: {others}" if others else ""
    return f"refreshed {what}: the bytes {'agree' if agrees else 'DIFFER'}{left}"
