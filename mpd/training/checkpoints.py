"""The saved states of a training run, from which a killed one resumes.

A folder of a run holds one state, STATE and the number of steps: accelerate's files and the metrics
so far.
"""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from mpd.store.files import sync

log = logging.getLogger("mpd")

STATE = "trained_"  # states of earlier releases, of other contents, were named state_


def save(accelerator: Accelerator, folder: Path, metrics: list[dict[str, Any]]) -> None:
    """Save the state after a step, completely or not at all, then delete the older one.

    `metrics` has one row for each step taken. Every process calls this.
    """
    draft = folder / "state.draft"
    if accelerator.is_main_process and draft.exists():
        shutil.rmtree(draft)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(draft))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (draft / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        for path in draft.iterdir():
            sync(path)
        older = list(folder.glob(f"{STATE}*"))
        draft.rename(folder / f"{STATE}{len(metrics):08d}")
        for path in older:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()


def resume(accelerator: Accelerator, folder: Path) -> list[dict[str, Any]]:
    """Load the newest saved state, if any; returns the metrics of the steps that it includes."""
    states = sorted(folder.glob(f"{STATE}*"))
    if not states:
        return []
    accelerator.load_state(str(states[-1]))
    metrics = json.loads((states[-1] / "metrics.json").read_text(encoding="utf-8"))
    log.info("resumed training after step %d", len(metrics))
    return metrics
