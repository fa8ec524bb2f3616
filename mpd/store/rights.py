"""Who may write a file. Outputs share stored files by hard links, and users may share a store.

Snakemake refuses to replace an output that its user may not write, before anything runs. So nothing
is read-only for its owner, and the group of a folder may write what is in it.
"""

import errno
import getpass
import os
import stat
from contextlib import suppress
from pathlib import Path

REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS)
READ_ONLY = 0o444  # the mode that stored files once had
# Where Snakemake keeps its state, in the working folder.
STATE = Path(".snakemake")


def mode_in(folder: Path) -> int:
    """The mode of a file in a folder: its owner and group may do what they may in the folder."""
    return folder.stat().st_mode & 0o664 | 0o600


def make_writable(path: Path) -> bool:
    """Give a read-only file, 0444, back to its owner, and to the group that its folder is for.

    Returns whether this process may then write it: it may not where another user owns it and does
    not share it.
    """
    mode = path.stat().st_mode
    if stat.S_IMODE(mode) == READ_ONLY:
        with suppress(OSError):
            path.chmod(READ_ONLY | stat.S_IWUSR | (path.parent.stat().st_mode & stat.S_IWGRP))
    return os.access(path, os.W_OK)


def require_working_folder() -> None:
    """Raise ValueError where Snakemake could not keep its state in the current folder."""
    folders = [STATE, *STATE.glob("*/")] if STATE.exists() else [Path.cwd()]
    for folder in folders:
        if not os.access(folder, os.W_OK):
            raise ValueError(f"{folder} cannot be written: {_why_not_written(folder, folder)}")


def open_results(folder: Path) -> list[str]:
    """Make files below a folder writable that an earlier version stored read-only.

    Returns a sentence for each owner of files or folders that this user may not write.
    """
    refused: dict[int, list[Path]] = {}
    for place, _, names in os.walk(folder):
        paths = [path for name in names if not _is_writable(path := Path(place, name))]
        for path in paths if os.access(place, os.W_OK) else [*paths, Path(place)]:
            refused.setdefault(path.stat().st_uid, []).append(path)
    return [
        f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''} cannot be replaced "
        f"by a job: {_why_not_written(paths[0], folder)}"
        for paths in refused.values()
    ]


def _is_writable(path: Path) -> bool:
    try:
        return path.is_symlink() or make_writable(path)
    except FileNotFoundError:  # a job that runs meanwhile replaces its output
        return True


def is_refusal(error: OSError) -> bool:
    """Whether an error says that this process may not read or write a file."""
    return error.errno in REFUSALS and bool(error.filename)


def refusal(error: OSError) -> str:
    """What this process may not read or write, why, and what would help."""
    names = [name for name in (error.filename, error.filename2) if name]
    paths = [_existing(Path(os.fsdecode(name))) for name in names]
    path = next((path for path in paths if not os.access(path, os.R_OK | os.W_OK)), paths[0])
    if not os.access(path, os.R_OK):
        owner = owner_of(path)
        return f"{path} belongs to {owner}, and {user()} may not read it; let {owner} allow it"
    if os.access(path, os.W_OK):  # it is not about reading or writing
        return f"{error.strerror}: {path}"
    return f"{path} cannot be written: {_why_not_written(path, path)}"


def _existing(path: Path) -> Path:
    """The path, or the folder above it that is there and in which it could not be made."""
    # Not Path.exists, which raises where a search is forbidden.
    while not os.access(path, os.F_OK) and path != path.parent:
        path = path.parent
    return path


def _why_not_written(path: Path, folder: Path) -> str:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return "its file system is read-only; run snakemake with --directory and a folder elsewhere"
    if path.stat().st_uid == os.geteuid():
        return f"it is read-only; run `chmod -R u+w {folder}`, or use another folder"
    return f"it belongs to {owner_of(path)}, and you are {user()}; {_sharing(owner_of(path))}"


def _sharing(owner: str) -> str:
    return (
        f"to share results in a group, let {owner} run `chmod -R g+rwX results {STATE}` once, and "
        "all work with `umask 002`; to have results apart, run snakemake with --directory"
    )


def owner_of(path: Path) -> str:
    """The name of a file's owner, or the number where it has none."""
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"


def user() -> str:
    """The name of the user of this process, or the number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
