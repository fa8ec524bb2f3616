"""Metrics of a training run for a tracker such as TensorBoard, beside metrics.parquet."""

import importlib.util
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mpd.training.job import TrainingJob

if TYPE_CHECKING:
    from accelerate import Accelerator


def require_tracker(name: str) -> None:
    """Raise ValueError where the package of a tracker is missing: accelerate would ignore it."""
    if name != "none" and importlib.util.find_spec(name) is None:
        raise ValueError(
            f"resources.distill.tracker is {name}, which is not installed; pip install {name}, or "
            "set it to none"
        )


class Tracker:
    """The tracker of a job; it does nothing where the job has none."""

    def __init__(self, accelerator: "Accelerator", job: TrainingJob) -> None:
        """Begin a run of the tracker, named like the round, with the settings of the training."""
        self.accelerator = accelerator
        self.is_on = job.resources.tracker != "none"
        if not self.is_on:
            return
        job.tracking.mkdir(parents=True, exist_ok=True)
        name = "/".join(job.tracking.parent.parts[-4:])  # experiment, method, seed and round
        # TensorBoard takes only numbers and texts.
        settings = {
            key: value if isinstance(value, int | float | str) else json.dumps(value)
            for key, value in job.settings.meaning().items()
        }
        arguments = {"wandb": {"name": name, "dir": str(job.tracking)}, "trackio": {"name": name}}
        accelerator.init_trackers("mpd", config=settings, init_kwargs=arguments)

    def log(self, row: Mapping[str, Any]) -> None:
        """Log a row of metrics under its step."""
        if self.is_on:
            values = {name: value for name, value in row.items() if name != "step"}
            self.accelerator.log(values, step=row["step"])
