"""Files written whole or not at all, and what moves when one is changed."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpd.store.digests import digest_of
from mpd.store.supervisor import require_supervisor

CHECKSUM = "checksum"  # the key of a JSON file for the digest of its other keys


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside `path`, which takes its place when the block ends without an error.

    It does not where the supervisor of this process is gone.
    """
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)  # left by a killed run, perhaps another user's
    try:
        yield draft
        require_supervisor()
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Force a file to the disk, so that a rename after it never names an empty file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_json(path: Path, content: Mapping[str, Any], lasting: bool = False) -> None:
    """Write a mapping as JSON, whole or not at all; if `lasting`, also where the machine stops."""
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
        if lasting:
            sync(draft)


def read_json(path: Path) -> dict[str, Any]:
    """A mapping from a JSON file; empty where the file is missing, torn or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def marks(path: Path) -> list[int]:
    """Size, modification time in nanoseconds and inode: what moves when a file is changed."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def inode_of(path: Path) -> tuple[int, int]:
    """Device and inode, which all links to a file share."""
    status = path.stat()
    return status.st_dev, status.st_ino


def files_of(entry: Path) -> list[Path]:
    """The file itself, or the files below a folder, in a fixed order."""
    if entry.is_file():
        return [entry]
    return sorted(path for path in entry.rglob("*") if path.is_file())


def sizes(entry: Path) -> dict[str, int]:
    """Bytes of each file by its path in the folder; by the empty path for a single file."""
    if entry.is_file():
        return {"": entry.stat().st_size}
    return {str(path.relative_to(entry)): path.stat().st_size for path in files_of(entry)}


def json_object(path: Path, advice: str = "copy it again") -> dict[str, Any]:
    """The object in a JSON file. Raises ValueError, naming the file, where it has none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); {advice}") from None
    except RecursionError:
        raise ValueError(f"{path}: JSON that is nested too deep; {advice}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a JSON {type(content).__name__}, not an object; {advice}")
    return content


def checksummed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with a checksum of all its other keys."""
    others = {key: value for key, value in content.items() if key != CHECKSUM}
    return {**others, CHECKSUM: digest_of(others)}


def has_its_checksum(content: Mapping[str, Any]) -> bool:
    """Whether a mapping has the checksum of its other keys."""
    return CHECKSUM in content and checksummed(content)[CHECKSUM] == content[CHECKSUM]


def recompute_advice(path: Path) -> str:
    """How to have an output of the workflow computed again; the store may hold the same damage."""
    return f"run again with --forcerun {path} --config store=refresh, which computes it again"
