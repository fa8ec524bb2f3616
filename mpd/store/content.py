"""Checks of files by the digests in them, for stored files whose notes have no digests yet."""

from collections.abc import Iterable
from pathlib import Path

from mpd.store.digests import digest_of, file_digest
from mpd.store.files import read_json
from mpd.store.manifest import MANIFEST


def contradicted(entry: Path, names: Iterable[str]) -> list[str]:
    """Names of the files of an entry whose content is not what a digest in them says.

    The footer of a table has the digest of its rows, and the manifest of a model folder that of all
    its files. Nothing is known about other files.
    """
    names = list(names)
    wrong = [
        name
        for name in names
        if (entry / name).suffix == ".parquet" and not _has_its_digest(entry / name)
    ]
    if MANIFEST in names and not _is_described(entry, names):
        wrong.append(MANIFEST)
    return wrong


def _has_its_digest(path: Path) -> bool:
    from mpd.store.row_groups import RowGroups

    try:
        RowGroups(path).verify()
    except (ValueError, KeyError):
        return False
    return True


def _is_described(folder: Path, names: Iterable[str]) -> bool:
    manifest = read_json(folder / MANIFEST)
    digests = {name: file_digest(folder / name) for name in sorted(names) if name != MANIFEST}
    return manifest.get("digest") == digest_of(digests)
