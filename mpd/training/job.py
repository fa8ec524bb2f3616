"""A training run as data."""

from pathlib import Path

from pydantic import BaseModel

from mpd.config.distill import DistillSettings
from mpd.config.resources import DistillResources
from mpd.job.layout import table_in
from mpd.store import schema

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
    settings: DistillSettings
    resources: DistillResources
