"""A home, a user name and a folder for temporary files, for processes that lack one.

Snakemake and model libraries keep caches below HOME and ask who the user is. In a container, on a
cluster or for an account without a passwd entry, the home may be missing or read-only.
"""

import logging
import os
import pwd
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("mpd")

NOWHERE = Path(os.devnull)  # a path below which nothing can be created
ROOM = 1 << 20  # bytes that a cache needs at least: Snakemake copies the rules into its cache

# Folders of caches that a user may name.
HUGGING_FACE = ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE")
# What is only read stays where it is: the tokens of Hugging Face and of wandb.
CREDENTIALS = {"HF_TOKEN_PATH": ".cache/huggingface/token", "NETRC": ".netrc"}


def settle() -> None:
    """Set HOME, LOGNAME and TMPDIR so that this process and its children can use them.

    Where HOME or its cache cannot be written to, a temporary folder takes its place. Raises
    ValueError where there is no temporary folder either, or no room in it, and where a variable of
    Hugging Face names no folder.
    """
    for name in HUGGING_FACE:
        value = os.environ.get(name)
        if value and not _existing(Path(value).expanduser()).is_dir():
            raise ValueError(f"{name} is {value}, which is no folder; set it to one, or unset it")
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise ValueError(f"{error.strerror}; set TMPDIR to a folder with room") from None
    if "TMPDIR" in os.environ:
        os.environ["TMPDIR"] = str(temporary)  # some programs use it even where it does not exist
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("LOGNAME", str(os.getuid()))
    home = _home()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    blocked = [str(folder) for folder in (home, cache) if not _can_be_written(folder)]
    if blocked:
        cause = "there is no HOME" if home == NOWHERE else f"{blocked[0]} cannot be written"
        if not _can_be_written(temporary):
            raise ValueError(f"{cause}, and {temporary} is full; set HOME to a folder with room")
        _move(home, temporary / f"mpd-{os.getuid()}")
        log.warning("%s: HOME is %s now", cause, os.environ["HOME"])


def _home() -> Path:
    """The home of this process, or NOWHERE if neither HOME nor the account names one."""
    try:
        return Path.home()
    except RuntimeError:
        return NOWHERE


def _move(home: Path, other: Path) -> None:
    for name, path in CREDENTIALS.items():
        if os.access(home / path, os.R_OK):
            os.environ.setdefault(name, str(home / path))
    hub = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache", "huggingface", "hub")
    if _is_offline() and "HF_HOME" not in os.environ and os.access(hub, os.R_OK):
        os.environ.setdefault("HF_HUB_CACHE", str(hub))  # nothing is downloaded into it
    with suppress(FileExistsError):
        other.mkdir(mode=0o700)
    if not _is_own_folder(other):  # somebody else was there first
        other = Path(tempfile.mkdtemp(prefix="mpd-"))
    os.environ.pop("XDG_CACHE_HOME", None)
    os.environ["HOME"] = str(other)


def _is_offline() -> bool:
    """Whether Hugging Face's libraries are told to download nothing; the words are theirs."""
    words = {
        os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    }
    return not words.isdisjoint({"1", "ON", "YES", "TRUE"})


def _is_own_folder(path: Path) -> bool:
    status = path.lstat()
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return is_own and _can_be_written(path)


def _can_be_written(folder: Path) -> bool:
    """Whether a folder exists, or can be created, with room for some files."""
    existing = _existing(folder)
    usable = os.access(existing, os.W_OK | os.X_OK) and existing.is_dir()
    return usable and shutil.disk_usage(existing).free >= ROOM


def _existing(folder: Path) -> Path:
    """The folder, or the nearest of its parents that exists."""
    # Not Path.exists, which raises where a search is forbidden.
    paths = (path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    return next(paths, folder)


def room_left(*folders: Path) -> str:
    """A sentence on the free space in the temporary folder, HOME and `folders`, each disk once."""
    disks: dict[int, str] = {}
    for folder in (Path(tempfile.gettempdir()), _home(), *folders):
        if folder.is_dir():
            free = shutil.disk_usage(folder).free / 1e6
            disks.setdefault(folder.stat().st_dev, f"{free:,.1f} MB in {folder}")
    return ", ".join(disks.values())
