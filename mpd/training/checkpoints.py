"""The saved states of a training run, from which a killed one resumes.

A folder of a run holds one state, STATE and the number of steps: accelerate's files, those of the
loop's parts and the metrics so far.
"""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate import Accelerator

from mpd.store.files import sync

log = logging.getLogger("mpd")

STATE = "trained_"  # states of earlier releases, of other contents, were named state_
PART = "part_{}.pt"


def save(
    accelerator: Accelerator, folder: Path, metrics: list[dict[str, Any]], parts: Sequence[Any]
) -> None:
    """Save the state after a step, completely or not at all, then delete the older one.

    `metrics` has one row for each step taken; `parts` have a `state_dict`. Every process calls
    this.
    """
    draft = folder / "state.draft"
    if accelerator.is_main_process and draft.exists():
        shutil.rmtree(draft)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(draft))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for number, part in enumerate(parts):
            torch.save(part.state_dict(), draft / PART.format(number))
        (draft / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        for path in draft.iterdir():
            sync(path)
        older = list(folder.glob(f"{STATE}*"))
        draft.rename(folder / f"{STATE}{len(metrics):08d}")
        for path in older:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()


def resume(accelerator: Accelerator, folder: Path, parts: Sequence[Any]) -> list[dict[str, Any]]:
    """Load the newest saved state, if any; returns the metrics of the steps that it includes.

    Only tensors and plain values are read, since others may write into a store that is shared.
    Raises ValueError where a file has something else.
    """
    states = sorted(folder.glob(f"{STATE}*"))
    if not states:
        return []
    accelerator.load_state(str(states[-1]))
    for number, part in enumerate(parts):
        file = states[-1] / PART.format(number)
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except (UnpicklingError, RuntimeError, EOFError) as error:
            words = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{file}: damaged, or not of this program ({words}); delete {states[-1]} and run "
                "again: training begins again"
            ) from error
        part.load_state_dict(state)
    metrics = json.loads((states[-1] / "metrics.json").read_text(encoding="utf-8"))
    log.info("resumed training after step %d", len(metrics))
    return metrics
