"""The inputs of a job: they are as they were made, and belong where they lie."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from mpd.job.layout import require_in_place
from mpd.store.publishing import Store


def require_sound_inputs(store: Store, arguments: Namespace) -> None:
    """Raise ValueError where a path of a command line was changed, or belongs elsewhere."""
    for path in _inputs(arguments):
        require_sound(store, path)


def require_sound(store: Store, path: Path) -> None:
    """Raise ValueError where an input came from the store and was changed since.

    Also where it is a table of another seed, shard or benchmark than its path says.
    """
    store.require_unchanged(path)
    if path.suffix == ".parquet" and path.is_file():
        from mpd.store.row_groups import RowGroups

        require_in_place(path, RowGroups(path).footer.get("identity", {}))


def _inputs(arguments: Namespace) -> Iterator[Path]:
    """The paths of a command line except the output, also those in lists and behind names."""
    for name, value in vars(arguments).items():
        values = value if isinstance(value, list) else [value]
        paths = (item[-1] if isinstance(item, tuple) else item for item in values)
        if name not in ("output", "store"):
            yield from (path for path in paths if isinstance(path, Path))
