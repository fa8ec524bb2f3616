"""The parts of a table while it is computed.

A kill loses at most the part in flight, and what work that is streamed has computed ahead.
"""

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from mpd.store.loading import loading
from mpd.store.schema import Artifact
from mpd.store.spent import Meter

if TYPE_CHECKING:
    import polars as pl

    from mpd.store.row_ranges import Range
    from mpd.store.table import Identity

log = logging.getLogger("mpd")
Frames = Generator["pl.DataFrame", None, None]


class Parts:
    """The rows of one table, computed part by part so that a stopped job can be resumed."""

    def __init__(
        self,
        folder: Path,
        artifact: Artifact,
        identity: "Identity",
        meter: Meter,
        take: Callable[[Path], None],
    ) -> None:
        """Parts are files in `folder`; `take` gets the path of each, in order, once it is there."""
        self.folder = folder
        self.meter = meter
        self.artifact = artifact
        self.identity = identity
        self.take = take
        self.remaining = 0  # rows that are still to be computed when the work is prepared

    def map(
        self,
        rows: "pl.DataFrame",
        rows_per_part: int | None,
        prepare: Callable[[], Callable[["pl.DataFrame"], "pl.DataFrame"]],
    ) -> None:
        """Write one part for each fixed slice of `rows`, skipping the parts that are already there.

        Without `rows_per_part`, all rows are one part.

        `prepare` loads what the work needs; it is not called when every part is there. No call of
        the work spans two slices, so that a resumed run batches as an undisturbed one does.
        """

        def prepare_stream() -> Callable[[Iterator["pl.DataFrame"]], Frames]:
            work = prepare()
            return lambda slices: (work(part) for part in slices)

        self.stream(rows, rows_per_part, prepare_stream)

    def stream(
        self,
        rows: "pl.DataFrame",
        rows_per_part: int | None,
        prepare: Callable[[], Callable[[Iterator["pl.DataFrame"]], "Frames"]],
    ) -> None:
        """As `map`, with work that takes all missing slices and yields the frame of each, in order.

        It may compute what follows while a frame is written. It is closed in the end, also where
        writing fails.
        """
        from mpd.store.row_ranges import ranges_of

        def prepare_ranges() -> Callable[[Iterator["Range"]], Frames]:
            work = prepare()
            return lambda ranges: work(rows[start:stop] for start, stop in ranges)

        self._take_ranges(ranges_of(len(rows), rows_per_part), prepare_ranges, self.take)

    def map_ranges(
        self,
        ranges: Sequence["Range"],
        prepare: Callable[[], Callable[[int, int], "pl.DataFrame"]],
        rows_per_group: int | None = None,
    ) -> None:
        """As `map`, with work that reads the rows of each range itself, one range after another.

        With `rows_per_group`, the table has row groups of so many rows, whatever the ranges are.
        """
        from mpd.store import table
        from mpd.store.row_ranges import regrouped

        def prepare_ranges() -> Callable[[Iterator["Range"]], Frames]:
            work = prepare()
            return lambda missing: (work(start, stop) for start, stop in missing)

        if rows_per_group is None:
            self._take_ranges(ranges, prepare_ranges, self.take)
            return
        paths: list[Path] = []
        self._take_ranges(ranges, prepare_ranges, paths.append)
        frames = (frame for path in paths for frame in table.groups(path, self.artifact.names))
        path = self.folder / "group.parquet"
        for frame in regrouped(frames, rows_per_group):
            self._write(path, frame)
            self.take(path)

    def _take_ranges(
        self,
        ranges: Sequence["Range"],
        prepare: Callable[[], Callable[[Iterator["Range"]], "Frames"]],
        take: Callable[[Path], None],
    ) -> None:
        """Write the missing parts of ranges of rows, and give the path of each part to `take`."""

        paths = {
            self.folder / f"rows_{start:09d}_{stop:09d}.parquet": (start, stop)
            for start, stop in ranges
        }
        missing = {path: bounds for path, bounds in paths.items() if not self._is_there(path)}
        self.remaining = sum(stop - start for start, stop in missing.values())
        if len(missing) < len(paths):
            log.info("resumed: %d of %d parts were there", len(paths) - len(missing), len(paths))
        with loading():
            frames = prepare()(iter(missing.values())) if missing else _nothing()
        with closing(frames):
            for path in paths:
                if path in missing:
                    frame = next(frames, None)
                    assert frame is not None, f"{len(missing)} parts are missing; too few came"
                    self._write(path, frame)
                    self.meter.save()
                    del frame
                take(path)
            assert next(frames, None) is None, f"{len(missing)} parts are missing; more came"

    def write(self, rows: "pl.DataFrame") -> None:
        """Write rows that need no further work, as one part."""
        self.map(rows, None, lambda: lambda part: part)

    def gather(
        self,
        rows: "pl.DataFrame",
        work: Callable[["pl.DataFrame"], Iterator["pl.DataFrame"]],
    ) -> None:
        """Write one part for each frame that the work yields, in whatever order rows finish.

        The work gets the rows that no part has yet; it is not called when there are none. All that
        is computed from a row has to be in one frame. The last part has all rows in their order.
        """
        import polars as pl

        from mpd.store import table

        key = [name for name in self.artifact.key if name in rows.columns]
        paths = [
            path for path in sorted(self.folder.glob("some_*.parquet")) if self._is_there(path)
        ]
        empty = table.frame_of([], self.artifact)
        keys = pl.concat([empty.select(key), *(table.read_columns(path, key) for path in paths)])
        missing = rows.join(keys, on=key, how="anti", maintain_order="left")
        self.remaining = len(missing)
        if paths:
            log.info("resumed: %d of %d rows were there", len(rows) - len(missing), len(rows))
        names = (f"some_{number:09d}.parquet" for number in count())
        free = (path for name in names if (path := self.folder / name) not in paths)
        if len(missing):
            for frame in work(missing):
                paths.append(next(free))
                self._write(paths[-1], frame)
                self.meter.save()
        parts = (table.read_columns(part, self.artifact.names) for part in paths)
        computed = pl.concat([empty, *parts])
        lost = len(rows.join(computed, on=key, how="anti"))
        assert not lost, f"{lost} rows were not computed"
        ordered = rows.select(key).join(computed, on=key, maintain_order="left_right")
        path = self.folder / "ordered.parquet"
        self._write(path, ordered.select(self.artifact.names))
        self.take(path)

    def _write(self, path: Path, frame: "pl.DataFrame") -> None:
        from mpd.store import table

        table.write(path, frame, self.artifact, self._identity_of(path))

    def _identity_of(self, path: Path) -> "Identity":
        """A part names itself: one in the place of another would double the rows of that one."""
        return {**self.identity, "part": path.name}

    def _is_there(self, path: Path) -> bool:
        from mpd.store import table

        if not path.exists():
            return False
        try:
            table.verify(path, self.artifact, self._identity_of(path))
        except ValueError as error:
            log.warning("a part is computed again: %s", error)
            return False
        return True


def _nothing() -> Frames:
    """The frames of no parts."""
    yield from ()
