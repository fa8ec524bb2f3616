"""The store: what was ever computed, under a fingerprint of what it means.

A stage names its settings and the content of its inputs; their digest is the fingerprint.
If `{store}/{artifact}/{fingerprint}` is there, it is hard-linked to the stage's output and
nothing is computed. Else it is computed in `{fingerprint}.parts/`, where what a killed run
left is resumed, renamed into the store as a whole and linked. What was changed since, through
a link or not, is known by the digests in its note: it is set aside and computed again.

    python -m mpd.store --store results/store            list what no output links to, and
                                                         what killed jobs left
    python -m mpd.store --store results/store --delete   and delete it
"""

import argparse
import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from mpd.entries import (
    PROVENANCE,
    bring_up_to_date,
    files_of,
    install,
    is_copied,
    link,
    look,
    marks_of,
    other_links,
    read_note,
    require_unchanged,
    same_bytes,
    set_aside,
)
from mpd.layout import STORE
from mpd.rights import refusal
from mpd.schema import Artifact, Version
from mpd.spent import Meter

if TYPE_CHECKING:
    import polars as pl

    from mpd.table import Identity

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


class Parts:
    """The resumable rows of one table artifact, computed slice by slice."""

    def __init__(
        self, folder: Path, artifact: Artifact, identity: "Identity", meter: Meter
    ) -> None:
        self.folder = folder
        self.meter = meter
        self.artifact = artifact
        self.identity = identity
        self.finished: list[Path] = []
        self.remaining = 0  # rows that `map` still has to do when it prepares

    def map(
        self,
        rows: "pl.DataFrame",
        rows_per_part: int,
        prepare: Callable[[], Callable[["pl.DataFrame"], "pl.DataFrame"]],
    ) -> None:
        """Write one part for each fixed slice of `rows`, skipping the parts that are there, whole.

        `prepare` loads what the work needs and is not called when every part is there.
        No call of the work spans two slices, so that a resumed run batches as an undisturbed one.
        """
        from mpd import table

        slices = [
            (start, min(start + rows_per_part, len(rows)))
            for start in range(0, max(len(rows), 1), rows_per_part)
        ]
        paths = [self.folder / f"rows_{start:09d}_{stop:09d}.parquet" for start, stop in slices]
        missing = [path for path in paths if not self._is_there(path)]
        self.remaining = sum(
            stop - start
            for (start, stop), path in zip(slices, paths, strict=True)
            if path in missing
        )
        if len(missing) < len(paths):
            log.info("resumed: %d of %d parts were there", len(paths) - len(missing), len(paths))
        work = prepare() if missing else None
        for (start, stop), path in zip(slices, paths, strict=True):
            if work is not None and path in missing:
                frame = work(rows[start:stop])
                table.write(path, frame, self.artifact, self.identity)
                self.meter.save()
        self.finished += paths

    def gather(
        self,
        rows: "pl.DataFrame",
        work: Callable[["pl.DataFrame"], Iterator["pl.DataFrame"]],
    ) -> None:
        """Write one part for each frame that the work gives, in whatever order rows finish.

        The work is given the rows that no part has yet, and is not called when there are none.
        All that comes of a row has to be in one frame. In the end the rows stand in their order.
        """
        import polars as pl

        from mpd import table

        key = [name for name in self.artifact.key if name in rows.columns]
        whole = [
            path for path in sorted(self.folder.glob("some_*.parquet")) if self._is_there(path)
        ]
        none = table.frame_of([], self.artifact).select(key)
        done = pl.concat([none, *(table.read_columns(path, key) for path in whole)])
        missing = rows.join(done, on=key, how="anti", maintain_order="left")
        self.remaining = len(missing)
        if whole:
            log.info("resumed: %d of %d rows were there", len(rows) - len(missing), len(rows))
        names = (f"some_{number:09d}.parquet" for number in count())
        free = (path for name in names if (path := self.folder / name) not in whole)
        if len(missing):
            for frame in work(missing):
                whole.append(next(free))
                table.write(whole[-1], frame, self.artifact, self.identity)
                self.meter.save()
        parts = (table.read(part, self.artifact, self.identity) for part in whole)
        made = pl.concat([table.frame_of([], self.artifact), *parts])
        lost = len(rows.join(made, on=key, how="anti"))
        assert not lost, f"{lost} rows were not computed"
        ordered = rows.select(key).join(made, on=key, maintain_order="left_right")
        path = self.folder / "ordered.parquet"
        table.write(path, ordered.select(self.artifact.names), self.artifact, self.identity)
        self.finished.append(path)

    def _is_there(self, path: Path) -> bool:
        from mpd import table

        if not path.exists():
            return False
        try:
            table.check(path, self.artifact, self.identity)
        except ValueError as error:
            log.warning("a part is computed again: %s", error)
            return False
        return True


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
            from mpd import table

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


def unused(root: Path) -> Iterator[Path]:
    """Stored files and folders that no output links to, and what killed jobs left."""
    return (entry for entry in sorted(root.glob("*/*")) if is_unused(entry))


def is_unused(entry: Path) -> bool:
    """Whether a path in the store is an entry that is no output, or the parts of one."""
    if entry.suffix in {".json", ".lock", ".draft", ".seen"} or not entry.exists():
        return False
    if entry.suffix == ".parts":
        return True
    linked = any(path.stat().st_nlink > 1 for path in files_of(entry))
    return not linked and not is_copied(entry.with_suffix(".json"))


def _bytes_of(entry: Path) -> int:
    """The size of what is there; a job beside us may take files away meanwhile."""
    sizes = 0
    for path in files_of(entry):
        with suppress(FileNotFoundError):
            sizes += path.stat().st_size
    return sizes


def _delete(entry: Path) -> None:
    """Delete an entry with its note. Raises PermissionError, before it begins, where it may not."""
    for folder in (entry.parent, entry, *entry.rglob("*")):
        if folder.is_dir() and not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    if entry.suffix != ".parts":
        for suffix in (".json", ".seen"):
            entry.with_suffix(suffix).unlink(missing_ok=True)
    shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)


def prune(root: Path, delete: bool) -> Iterator[tuple[Path, int, str]]:
    """What is unused, its bytes, and why it is not deleted, where it is another user's.

    What a running job fills, or is about to link, is passed over.
    """
    for entry in unused(root):
        refused = ""
        lock = FileLock(entry.with_name(f"{entry.name.partition('.')[0]}.lock"))
        try:
            with lock.acquire(timeout=0):
                if not is_unused(entry):
                    continue
                size = _bytes_of(entry)
                if delete:
                    _delete(entry)
        except Timeout:
            continue
        except PermissionError as error:
            size = _bytes_of(entry)
            refused = f"not deleted: {refusal(error)}" if delete else ""
        yield entry, size, refused


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m mpd.store", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--delete", action="store_true", help="delete what is listed")
    arguments = parser.parse_args(argv)
    total = 0
    for entry, size, refused in prune(arguments.store, arguments.delete):
        print(f"{size / 1e6:10.2f} MB  {entry}{f'  {refused}' if refused else ''}")
        total += 0 if refused else size
    done = "deleted" if arguments.delete else "unused; delete with: make prune DELETE=1"
    print(f"{total / 1e6:10.2f} MB  {done}")


if __name__ == "__main__":
    from mpd import command  # which imports this module

    command.view(main, "store")
