"""Who may write a file: stored files are shared by hard links, and a store may be by several users.

Snakemake refuses to replace an output that its user may not write, and asks before anything runs.
So nothing is read-only for its owner, and the group of a folder may write what is in it.
"""

import getpass
import os
import stat
from collections import Counter
from contextlib import suppress
from pathlib import Path

# What Snakemake keeps of a working folder, beside the results.
STATE = Path(".snakemake")


def mode_in(folder: Path) -> int:
    """The mode of a file whose readers and writers, but for strangers, are those of its folder."""
    return folder.stat().st_mode & 0o664 | 0o600


def make_writable(path: Path) -> bool:
    """Let the owner write a file, and its group where that may write the folder.

    Returns whether this process may write it in the end: it may not where another user owns it
    and does not share it.
    """
    if not path.stat().st_mode & stat.S_IWUSR:
        with suppress(PermissionError):
            path.chmod(mode_in(path.parent))
    return os.access(path, os.W_OK)


def require_working_folder() -> None:
    """Raise ValueError where Snakemake could not keep its state in the current folder."""
    folders = [STATE, *STATE.glob("*/")] if STATE.exists() else [Path.cwd()]
    for folder in folders:
        if not os.access(folder, os.W_OK):
            raise ValueError(refusal(folder))


def open_results(folder: Path) -> list[str]:
    """Make the files below a folder writable, which were once stored read-only.

    Returns a sentence for each user whose files, or folders, this one may not write.
    """
    owners: Counter[str] = Counter()
    for place, _, names in os.walk(folder):
        refused = [path for name in names if not _is_writable(path := Path(place, name))]
        if not os.access(place, os.W_OK):
            refused.append(Path(place))
        owners.update(map(owner_of, refused))
    return [
        f"{number} files and folders below {folder} belong to {owner}, and {user()} may not write "
        f"them: no job can replace them; {_sharing(owner)}"
        for owner, number in owners.items()
    ]


def _is_writable(path: Path) -> bool:
    try:
        return make_writable(path)
    except FileNotFoundError:  # a job that runs meanwhile replaces its output
        return True


def refusal(path: Path) -> str:
    """Why this process may not read or write a path, or make it, and what would help."""
    while not path.exists() and path != path.parent:
        path = path.parent
    owner = owner_of(path)
    if not os.access(path, os.R_OK):
        return f"{path} belongs to {owner}, and {user()} may not read it; let {owner} allow it"
    if owner == user():
        return f"{path} is read-only; run `chmod -R u+w` on it, or use another folder"
    return f"{path} belongs to {owner}, and {user()} may not write it; {_sharing(owner)}"


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
