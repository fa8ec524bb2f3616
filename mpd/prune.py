"""prune: list what no output links to and what killed jobs left in the store, or delete it.

    python -m mpd.prune             list it
    python -m mpd.prune --delete    and delete it

What a running job is filling is passed over. An output that is a copy counts as a link as long as
it exists: on another file system, of another user's file, or in results that were copied without
their hard links (cp -r, rsync without -H), where the notes beside the outputs name what is stored.
"""

import argparse
import errno
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mpd.job import command
from mpd.job.layout import RESULTS, STORE
from mpd.store.files import files_of
from mpd.store.links import entries_noted_in, is_copied
from mpd.store.rights import refusal


def unused(root: Path, noted: Collection[Path] = ()) -> Iterator[Path]:
    """Stored files and folders that no output needs, and what killed jobs left.

    `noted` are entries that notes beside outputs name, without their suffix.
    """
    return (entry for entry in sorted(root.glob("*/*")) if is_unused(entry, noted))


def is_unused(entry: Path, noted: Collection[Path] = ()) -> bool:
    """Whether a path in the store has no output that needs it, or is left by a killed job."""
    if entry.suffix in {".json", ".lock", ".draft", ".seen"} or not entry.exists():
        return False
    if entry.suffix == ".parts":
        return True
    return not (
        _is_linked(entry) or is_copied(entry.with_suffix(".json")) or entry.with_suffix("") in noted
    )


def doubled(root: Path, noted: Collection[Path]) -> int:
    """The bytes of entries that only notes name, so that outputs are copies of them."""
    entries = (entry for entry in root.glob("*/*") if entry.with_suffix("") in noted)
    copied = (entry for entry in entries if is_unused(entry) and not is_unused(entry, noted))
    return sum(map(_bytes_of, copied))


def _is_linked(entry: Path) -> bool:
    return any(path.stat().st_nlink > 1 for path in files_of(entry))


def _bytes_of(entry: Path) -> int:
    """The size of the files that exist; a job that runs meanwhile may take some away."""
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


def prune(
    root: Path, delete: bool, noted: Collection[Path] = ()
) -> Iterator[tuple[Path, int, str]]:
    """What is unused, its bytes, and why it is not deleted where it belongs to another user.

    What a running job is filling, or is about to link, is passed over.
    """
    for entry in unused(root, noted):
        refused = ""
        lock = FileLock(entry.with_name(f"{entry.name.partition('.')[0]}.lock"))
        try:
            with lock.acquire(timeout=0):
                if not is_unused(entry, noted):
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
    """List or delete what is unused, with the bytes that it takes."""
    parser = argparse.ArgumentParser(prog="python -m mpd.prune", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--store", type=Path, default=STORE, help="folder of stored results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the outputs")
    parser.add_argument("--delete", action="store_true", help="delete what is listed")
    arguments = parser.parse_args(argv)
    total = 0
    noted = entries_noted_in(arguments.results, arguments.store)
    for entry, size, refused in prune(arguments.store, arguments.delete, noted):
        print(f"{size / 1e6:10.2f} MB  {entry}{f'  {refused}' if refused else ''}")
        total += 0 if refused else size
    size = doubled(arguments.store, noted)
    if size:
        print(
            f"{size / 1e6:10.2f} MB  kept, but there twice: outputs in {arguments.results} are "
            "copies, as after cp -r; snakemake --forceall links them again and computes nothing"
        )
    done = "deleted" if arguments.delete else "unused; delete with: make prune DELETE=1"
    print(f"{total / 1e6:10.2f} MB  {done}")


if __name__ == "__main__":
    command.view(main, "prune")
