"""A training run as data."""

from pathlib import Path

from pydantic import BaseModel

from mpd.config.distill import AnyDistillSettings
from mpd.config.resources import DistillResources
from mpd.job.layout import table_in
from mpd.store import schema, table
from mpd.store.digests import digest_of
from mpd.store.manifest import MANIFEST
from mpd.store.model_folder import read_manifest
from mpd.store.seal import sealed_metadata

METRICS_FILE = table_in(Path(), schema.METRICS.name).name  # beside the weights


class TrainingJob(BaseModel):
    """What a training run needs; as JSON it is the argument of a training process.

    `student` is the folder of the model to train, `rows` are the cache shards, `head` is the
    teacher's output head where the cache holds hidden states. Weights and metrics go to `folder`,
    what has to outlive a kill to `scratch`, what a tracker keeps on this machine to `tracking`.
    The metrics name `made_from`: digests of the student and of the cache.
    """

    student: Path
    rows: list[Path]
    head: Path | None
    folder: Path
    scratch: Path
    tracking: Path
    made_from: dict[str, str]
    settings: AnyDistillSettings
    resources: DistillResources

    @property
    def digest(self) -> str:
        """What the run is a function of: settings, student, head and rows; no path, no resource."""
        rows = [table.check(path, schema.LOGITS)["content"] for path in self.rows]
        head = sealed_metadata(self.head) if self.head else None
        manifest = self.student / MANIFEST
        student = read_manifest(manifest)["digest"] if manifest.is_file() else None
        return digest_of([self.settings.meaning(), student, head, rows])
