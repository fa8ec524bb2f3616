"""Copying an experiment to an address."""

import logging
from pathlib import Path

from mpd.job.layout import RESULTS
from mpd.store.known_digests import fresh_digest
from mpd.sync.copying import Lines, for_each
from mpd.sync.index import PARTS, Item, item_of, merged, parsed, written
from mpd.sync.remote import OBJECTS, UNFINISHED, Remote
from mpd.sync.scan import Source, experiments_in, scan

log = logging.getLogger("mpd")

ATTEMPTS = 3  # scans, where a job writes an artifact while it is copied


class Changed(ValueError):
    """An artifact was written to between scan and copy."""


def push(remote: Remote, experiment: str) -> list[Path]:
    """Copy what is not there yet, then write the index; returns the artifacts that were left out.

    Raises ValueError where the experiment is not in the results, or the address refuses.
    """
    if experiment not in experiments_in():
        names = ", ".join(experiments_in()) or "none"
        raise ValueError(
            f"{RESULTS / experiment}: no such experiment; in {RESULTS} there are: {names}"
        )
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _push(remote, experiment)
        except Changed as error:
            if attempt == ATTEMPTS:
                raise
            log.info("%s; looking again", error)
    raise AssertionError("the last attempt returns or raises")


def _push(remote: Remote, experiment: str) -> list[Path]:
    former = _former(remote, experiment)
    found = scan(experiment)
    unfinished = f"{UNFINISHED}/{experiment}"
    there = {folder: remote.objects(folder) for folder in (OBJECTS, unfinished)}
    sources = list(found.sources.values())
    lines = Lines(f"push {experiment}", [source.path.stat().st_size for source in sources])
    copied: list[int] = []
    vanished: set[Path] = set()  # unfinished work of which a file went while it was copied

    def copy(source: Source) -> Item | None:
        folder = unfinished if _is_part(source.path) else OBJECTS
        try:
            item, is_new = _copy(remote, source, folder, there[folder])
        except FileNotFoundError:
            if source.note or source.digest:
                raise Changed(f"{source.path} went while it was copied") from None
            work = _work_of(source.path)
            if work:
                vanished.add(work)
            return None  # a part of work that has finished, or a log
        lines.advance(item.size)
        if is_new:
            copied.append(item.size)
        return item

    # What others are links to comes first, so that it is copied once.
    targets = [source for source in sources if source.link is None]
    links = [source for source in sources if source.link is not None]
    copies = [*for_each(copy, targets), *for_each(copy, links)]
    items = {item.path: item for item in copies if item is not None}
    # Half of a state of a training is none: what the address has of it stays.
    items = {path: item for path, item in items.items() if _work_of(Path(path)) not in vanished}
    former = _former(remote, experiment)  # again: copying may have taken hours
    stale = {path: item for path, item in former.items() if _work_of(Path(path)) in vanished}
    kept = {**merged(former, items), **stale}
    remote.write_index(experiment, written(kept.values()))
    parts = {item.digest for item in kept.values() if item.is_part}
    remote.clean(unfinished, parts)
    log.info(
        "push %s: %d files copied, %.1f MB; %d were there",
        *(experiment, len(copied), sum(copied) / 1e6, len(items) - len(copied)),
    )
    for path in found.left_out:
        log.warning("left out, since it is not what its note says: %s", path)
    return found.left_out


def _former(remote: Remote, experiment: str) -> dict[str, Item]:
    content, place = remote.index(experiment)
    return parsed(content, place) if content else {}


def _work_of(path: Path) -> Path | None:
    """The folder of the unfinished work that a path is a part of; None for others."""
    return next((folder for folder in path.parents if folder.suffix == PARTS), None)


def _copy(remote: Remote, source: Source, folder: str, there: dict[str, int]) -> tuple[Item, bool]:
    """Copy a file that is not there; returns its item and whether it was copied."""
    status = source.path.stat()
    digest, size = source.digest or fresh_digest(source.path), status.st_size
    is_new = there.get(digest) != size
    if is_new:
        digest, size = remote.put(source.path, folder)
        if source.digest and digest != source.digest:
            raise Changed(f"{source.path} was changed while it was copied")
        there[digest] = size
    names = {"link": source.link, "note": source.note}
    texts = {key: path.as_posix() for key, path in names.items() if path}
    name = {"name": source.name} if source.note else {}
    return item_of(source.path, digest, size, status.st_mtime_ns, **texts, **name), is_new


def _is_part(path: Path) -> bool:
    return _work_of(path) is not None
