"""The shards of a round, as far as its stages have run."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from mpd.job.layout import Round
from mpd.store import schema, table
from mpd.store.signs import SIGNS

STAGES = (schema.SAMPLE, schema.COMPRESS, schema.FILTER, schema.LOGITS)
# A model could otherwise write what moves the cursor, renames the window, or turns a line around.
CONTROLS = sorted(set(SIGNS) - set(" \t\n\r"))


def readable(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with texts that a terminal can show: a sign in place of control characters."""
    return rows.with_columns(pl.col(pl.String).str.replace_many(CONTROLS, ["\ufffd"]))


class RoundShards:
    """The shards of a round that its stages have written so far."""

    def __init__(self, folder: Path) -> None:
        """Raises ValueError where `folder` is not that of a round, or nothing was sampled in it."""
        self.round = Round.at(folder.resolve())
        self.num_shards = self.round.experiment.num_train_shards()
        if not self.num_shards or not (self.round.folder / schema.SAMPLE.name).is_dir():
            raise ValueError(f"{folder}: nothing was sampled for this round; run it first")

    def files(self, artifact: schema.Artifact) -> list[Path]:
        """The shards of a stage that are there."""
        if artifact is schema.PROBLEMS:
            shards = self.round.experiment.train_shards(self.num_shards)
        else:
            shards = self.round.shards(artifact.name, self.num_shards)
        return [path for path in shards if path.is_file()]

    def rows(
        self,
        artifact: schema.Artifact,
        columns: Sequence[str] | None = None,
        keys: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """The rows of a stage in all shards that are there, texts without control characters.

        `columns` are all by default. With `keys`, only rows whose key columns are among them are
        held: a cache may be larger than the memory.
        """
        names = artifact.names if columns is None else columns
        frames = [table.frame_of([], artifact).select(names)]
        for path in self.files(artifact):
            table.check(path, artifact)
            frames += table.groups(path, names, keys)
        return readable(pl.concat(frames))

    def unfinished(self) -> str:
        """The stages that have not run, or not on every shard; empty where all have."""
        counts = {stage.name: len(self.files(stage)) for stage in STAGES}
        return ", ".join(
            name if not count else f"{name} ({count} of {self.num_shards} shards)"
            for name, count in counts.items()
            if count < self.num_shards
        )
