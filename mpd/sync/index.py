"""The index of an experiment at an address: every file by its path in the project, with its digest.

It is written last, so it names nothing that is not there. A file that is noted is described in the
note of an artifact; one that is linked is a hard link to a file of the store.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mpd.job.layout import RESULTS
from mpd.store.files import checksummed, has_its_checksum
from mpd.store.notes import PROVENANCE
from mpd.store.rights import STATE

FORMAT = 1
PARTS = ".parts"  # the suffix of a folder in the store with the parts of unfinished work
METADATA = STATE / "metadata"  # Snakemake's records of outputs


@dataclass(frozen=True)
class Item:
    """A file of an experiment.

    `path` is relative to the folder of the project, `modified` the time in nanoseconds. `link` is
    the path of the stored file that it is a hard link to; `note` is the path of the note that has
    its digest, under `name`. They are empty where there is none.
    """

    path: str
    digest: str
    size: int
    modified: int
    link: str = ""
    note: str = ""
    name: str = ""

    @property
    def is_part(self) -> bool:
        """Whether it is a part of unfinished work."""
        return any(folder.endswith(PARTS) for folder in PurePosixPath(self.path).parts[:-1])

    @property
    def is_artifact(self) -> bool:
        """Whether it is an output or a stored file; a note or a log is none."""
        return bool(self.note)


def written(items: Iterable[Item]) -> dict[str, Any]:
    """The content of an index."""
    rows = [asdict(item) for item in sorted(items, key=lambda item: item.path)]
    return checksummed({"format": FORMAT, "items": rows})


def parsed(content: Mapping[str, Any], place: str) -> dict[str, Item]:
    """The items of an index by their paths.

    Raises ValueError where it is damaged, of a later format, or names files outside the results.
    """
    if not has_its_checksum(content):
        raise ValueError(
            f"{place}: expected the checksum of its other keys: it is damaged; push again from "
            "where the results are whole"
        )
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{place}: expected format {FORMAT}, found {content.get('format')!r:.40}; use the "
            "release of mpd that pushed it"
        )
    items = {row["path"]: Item(**row) for row in content["items"]}
    for path in (path for item in items.values() for path in (item.path, item.link, item.note)):
        if path and not _is_inside(PurePosixPath(path)):
            raise ValueError(f"{place}: {path!r:.80} is outside {RESULTS}; nothing is copied")
    return items


def merged(former: Mapping[str, Item], items: Mapping[str, Item]) -> dict[str, Item]:
    """The items of a push, and the former ones of the index whose artifacts it did not have.

    Another machine may have pushed them. Of unfinished work, and of what a note names, only what is
    there now is kept.
    """
    folders = {PurePosixPath(path).parent for path in items if path.endswith("/" + PROVENANCE)}
    kept = {
        path: item
        for path, item in former.items()
        if not item.is_part
        and folders.isdisjoint(PurePosixPath(path).parents)
        and not (item.note and item.note in items)  # a note that was pushed brings all its files
    }
    return {**kept, **items}


def _is_inside(path: PurePosixPath) -> bool:
    folders = [PurePosixPath(folder) for folder in (RESULTS, METADATA)]
    return ".." not in path.parts and any(folder in path.parents for folder in folders)


def item_of(path: Path, digest: str, size: int, modified: int, **names: str) -> Item:
    """The item of a file at a path of this project."""
    return Item(path.as_posix(), digest, size, modified, **names)
