"""Jobs of training runs in folders of their own, and one that a kill ends."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, GradientState

from mpd.config.distill import DistillSettings
from mpd.config.resources import DistillResources
from mpd.training.job import TrainingJob
from tests.changes import with_changes

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node")
KILLED_AFTER_TWO_SAVES = """
import os, sys
from mpd.training.checkpoints import SavedStates
from mpd.training.job import TrainingJob
from mpd.training.loop import train
save, saved = SavedStates.save, []
def save_and_die(*arguments):
    save(*arguments)
    saved.append(1)
    if len(saved) == 2:
        os.kill(os.getpid(), 9)
SavedStates.save = save_and_die
train(TrainingJob.model_validate_json(open(sys.argv[1]).read()))
"""


def job_in(
    folder: Path,
    student: Path,
    cache: Path,
    settings: DistillSettings,
    resources: dict[str, Any],
    changes: dict[str, Any],
) -> TrainingJob:
    """The job of a student, by its manifest.

    Changes are of the resources where they are theirs, else of the settings.
    """
    for part in ("folder", "scratch"):
        (folder / part).mkdir(parents=True)
    own = {key: changes[key] for key in changes if key in DistillResources.model_fields}
    others = {key: changes[key] for key in changes if key not in own}
    return TrainingJob(
        student=student.parent,
        rows=[cache],
        head=None,
        folder=folder / "folder",
        scratch=folder / "scratch",
        tracking=folder / "tracking",
        made_from={"student": "a student", "logits": "a cache"},
        settings=with_changes(settings, **others),
        resources=DistillResources(**{**resources, **own}),
    )


def launch(
    job: TrainingJob, num_processes: int = 2, script: Sequence[str] = ("-m", "mpd.training.loop")
) -> tuple[int, str]:
    """Train in several processes; returns the exit code and what they said."""
    resources = job.resources.model_copy(update={"num_processes": num_processes})
    job = job.model_copy(update={"resources": resources})
    description = job.scratch.parent / "job.json"
    description.write_text(job.model_dump_json())
    run = subprocess.run(
        [*TORCHRUN, str(num_processes), *script, str(description)],
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stderr


def forget_accelerator() -> None:
    """accelerate keeps its state in the process: no test is to see that of another."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
