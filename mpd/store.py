"""The store: what was ever computed, under a fingerprint of what it means.

A stage names its settings and the content of its inputs; their digest is the fingerprint.
If `{store}/{artifact}/{fingerprint}` is there, it is hard-linked to the stage's output and
nothing is computed. Else it is computed in `{fingerprint}.parts/`, where what a killed run
left is resumed, renamed into the store as a whole, made read-only and linked.

    python -m mpd.store --store results/store            list what no output links to
    python -m mpd.store --store results/store --delete   and delete it
"""

import argparse
import filecmp
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from mpd.schema import Artifact

if TYPE_CHECKING:
    import polars as pl

    from mpd.table import Identity

log = logging.getLogger("mpd")


def fingerprint(
    kind: str, version: int, settings: Mapping[str, Any], inputs: Mapping[str, str]
) -> str:
    """Digest of what an artifact means; 32 hexadecimal digits.

    `settings` hold only what can change its content; `inputs` are content digests.
    """
    meaning = {"kind": kind, "version": version, "settings": settings, "inputs": inputs}
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:32]


class Parts:
    """The resumable rows of one table artifact, computed slice by slice."""

    def __init__(self, folder: Path, artifact: Artifact, identity: "Identity") -> None:
        self.folder = folder
        self.artifact = artifact
        self.identity = identity
        self.finished: list[Path] = []

    def map(
        self,
        rows: "pl.DataFrame",
        rows_per_part: int,
        prepare: Callable[[], Callable[["pl.DataFrame"], "pl.DataFrame"]],
    ) -> None:
        """Write one part for each fixed slice of `rows`, skipping the parts that are there.

        `prepare` loads what the work needs and is not called when every part is there.
        No call of the work spans two slices, so that a resumed run batches as an undisturbed one.
        """
        from mpd import table

        slices = [
            (start, min(start + rows_per_part, len(rows)))
            for start in range(0, max(len(rows), 1), rows_per_part)
        ]
        paths = [self.folder / f"rows_{start:09d}_{stop:09d}.parquet" for start, stop in slices]
        missing = sum(not path.exists() for path in paths)
        if missing < len(paths):
            log.info("resumed: %d of %d parts were there", len(paths) - missing, len(paths))
        work = prepare() if missing else None
        for (start, stop), path in zip(slices, paths, strict=True):
            if work is not None and not path.exists():
                frame = work(rows[start:stop])
                table.write(path, frame, self.artifact, self.identity)
        self.finished += paths


class Store:
    """What was ever computed, below `root`.

    With `refresh`, what is there is computed again and compared.
    """

    def __init__(self, root: Path, refresh: bool = False) -> None:
        self.root = root
        self.refresh = refresh

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

        def build(fresh: Path, scratch: Path) -> None:
            from mpd import table

            parts = Parts(scratch, artifact, identity or {})
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

        def build(fresh: Path, scratch: Path) -> None:
            fresh.unlink(missing_ok=True)  # what a killed run left may be read-only already
            compute(fresh)

        self._publish(kind, version, output.suffix, output, settings, inputs, build)

    def publish_folder(
        self,
        kind: str,
        version: int,
        output: Path,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        compute: Callable[[Path, Path], None],
    ) -> None:
        """Link the folder of these settings and inputs to `output`; `compute` it if it is new.

        `compute(folder, scratch)` fills `folder`; `scratch` outlives a kill. `output` then holds
        the folder's files and nothing else.
        """

        def build(fresh: Path, scratch: Path) -> None:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            compute(fresh, scratch)

        self._publish(kind, version, "", output, settings, inputs, build)

    def _publish(
        self,
        kind: str,
        version: int,
        suffix: str,
        output: Path,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        build: Callable[[Path, Path], None],
    ) -> None:
        key = fingerprint(kind, version, settings, inputs)
        home = self.root / kind
        home.mkdir(parents=True, exist_ok=True)
        entry, note = home / f"{key}{suffix}", home / f"{key}.json"
        with FileLock(home / f"{key}.lock"):
            there = is_whole(entry, note)
            if there and not self.refresh:
                log.info("reused %s %s", kind, key[:12])
            else:
                scratch = home / f"{key}{'.refresh' if there else ''}.parts"
                fresh = scratch / f"complete{suffix}"
                scratch.mkdir(exist_ok=True)
                build(fresh, scratch)
                agrees = _same_bytes(entry, fresh) if there else None
                if agrees is not None:
                    verdict = "the bytes agree" if agrees else "the bytes DIFFER"
                    log.info("refreshed %s %s: %s", kind, key[:12], verdict)
                if not agrees:
                    provenance = {"kind": kind, "version": version, "settings": settings}
                    _install(fresh, entry, note, {**provenance, "inputs": inputs})
                shutil.rmtree(scratch)
                if agrees is None:
                    log.info("computed %s %s", kind, key[:12])
            _link_all(entry, note, output)


def is_whole(entry: Path, note: Path) -> bool:
    """Whether a stored file or folder has the sizes that were noted when it was made."""
    if not (entry.exists() and note.exists()):
        return False
    sizes = json.loads(note.read_text())["sizes"]
    if sizes == _sizes(entry):
        return True
    log.warning("%s is damaged (its size is not as noted); it is computed again", entry)
    return False


def files_of(entry: Path) -> list[Path]:
    """The file itself, or the files below a folder, in a fixed order."""
    if entry.is_file():
        return [entry]
    return sorted(path for path in entry.rglob("*") if path.is_file())


def _sizes(entry: Path) -> dict[str, int]:
    base = entry.parent if entry.is_file() else entry
    return {
        "" if entry.is_file() else str(path.relative_to(base)): path.stat().st_size
        for path in files_of(entry)
    }


def _same_bytes(old: Path, new: Path) -> bool:
    if old.is_file():
        return filecmp.cmp(old, new, shallow=False)
    return _sizes(old) == _sizes(new) and all(
        filecmp.cmp(old / name, new / name, shallow=False) for name in _sizes(old)
    )


def _install(fresh: Path, entry: Path, note: Path, provenance: dict[str, Any]) -> None:
    for path in files_of(fresh):
        path.chmod(0o444)
    draft = note.with_suffix(".json.draft")
    draft.write_text(json.dumps({**provenance, "sizes": _sizes(fresh)}, indent=1, sort_keys=True))
    # The entry goes before its note, and its note after: an entry without a note is not whole.
    note.unlink(missing_ok=True)
    if entry.is_dir():
        shutil.rmtree(entry)
    fresh.rename(entry)
    draft.rename(note)


def _link_all(entry: Path, note: Path, output: Path) -> None:
    if entry.is_file():
        _link(entry, output)
        _link(note, output.with_suffix(".json"))
        return
    wanted = {output / path.relative_to(entry): path for path in files_of(entry)}
    wanted[output / "provenance.json"] = note
    if output.exists():
        for path in files_of(output):
            if path not in wanted:
                path.unlink()
    for target, source in wanted.items():
        _link(source, target)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        draft = target.with_name(f".{target.name}.draft")
        draft.unlink(missing_ok=True)  # what a killed run left may be read-only already
        shutil.copy(source, draft)
        draft.rename(target)
    os.utime(target)


def unused(root: Path) -> Iterator[Path]:
    """Stored files and folders that no output links to."""
    for entry in sorted(root.glob("*/*")):
        is_note = entry.suffix in {".json", ".lock", ".parts", ".draft"}
        if not is_note and all(path.stat().st_nlink == 1 for path in files_of(entry)):
            yield entry


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m mpd.store", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--store", type=Path, default=Path("results/store"))
    parser.add_argument("--delete", action="store_true", help="delete what is listed")
    arguments = parser.parse_args(argv)
    total = 0
    for entry in unused(arguments.store):
        size = sum(path.stat().st_size for path in files_of(entry))
        try:
            with FileLock(entry.parent / f"{entry.stem}.lock", timeout=0):
                print(f"{size / 1e6:10.2f} MB  {entry}")
                total += size
                if arguments.delete:
                    (entry.parent / f"{entry.stem}.json").unlink(missing_ok=True)
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        except Timeout:
            continue  # a running job is about to link it
    done = "deleted" if arguments.delete else "unused; delete with: make prune DELETE=1"
    print(f"{total / 1e6:10.2f} MB  {done}")


if __name__ == "__main__":
    main()
