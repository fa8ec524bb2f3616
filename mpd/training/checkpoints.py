"""The saved states of a training run, from which a killed one resumes.

A folder of a run holds one state, STATE and the number of steps: accelerate's files, those of the
loop's parts, the metrics so far, and a description: the run that it belongs to, and the digest of
each file. What is damaged or belongs to another run is not loaded.
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

from mpd.store.digests import file_digest
from mpd.store.files import checksummed, has_its_checksum, json_object, sync

log = logging.getLogger("mpd")

STATE = "trained_"  # states of earlier releases, of other contents, were named state_
PART = "part_{}.pt"
METRICS = "metrics.json"
DESCRIPTION = "description.json"


def save(
    accelerator: Accelerator,
    folder: Path,
    metrics: list[dict[str, Any]],
    parts: Sequence[Any],
    run: str,
) -> None:
    """Save the state after a step, completely or not at all, then delete the older one.

    `metrics` has one row for each step taken; `parts` have a `state_dict`; `run` says which run it
    is. Every process calls this.
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
        (draft / METRICS).write_text(json.dumps(metrics), encoding="utf-8")
        digests = {str(path.relative_to(draft)): file_digest(path) for path in _files(draft)}
        description = checksummed({"run": run, "digests": digests})
        (draft / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
        for path in _files(draft):
            sync(path)
        state = folder / f"{STATE}{len(metrics):08d}"
        if state.exists():  # it was damaged, so that these steps were taken again
            shutil.rmtree(state)
        older = list(folder.glob(f"{STATE}*"))
        draft.rename(state)
        for path in older:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()


def resume(
    accelerator: Accelerator, folder: Path, parts: Sequence[Any], run: str
) -> list[dict[str, Any]]:
    """Load the newest saved state of the run; returns the metrics of the steps that it includes.

    They are empty where there is none. States that are damaged or of another run are named in a
    warning, and passed over. Only tensors and plain values are read, since others may write into a
    store that is shared. Raises ValueError where a file has something else.
    """
    for state in sorted(folder.glob(f"{STATE}*"), reverse=True):
        try:
            _require_whole(state, run)
        except ValueError as error:
            if accelerator.is_main_process:
                log.warning("%s; training starts from an earlier state, or from its start", error)
            continue
        metrics = json.loads((state / METRICS).read_text(encoding="utf-8"))
        accelerator.load_state(str(state))
        for number, part in enumerate(parts):
            part.load_state_dict(_tensors(state / PART.format(number)))
        log.info("resumed training after step %d", len(metrics))
        return metrics
    return []


def _tensors(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        words = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{file}: damaged, or not of this program ({words}); delete {file.parent} and run "
            "again: training begins again"
        ) from error


def _require_whole(state: Path, run: str) -> None:
    """Raise ValueError where a state is damaged, or that of another run."""
    path = state / DESCRIPTION
    if not path.is_file():
        raise ValueError(f"{path}: no such file, so that nothing says what is saved beside it")
    description = json_object(path, "the state is not used")
    if not has_its_checksum(description):
        raise ValueError(f"{path}: expected the checksum of its other keys; it is damaged")
    if description["run"] != run:
        raise ValueError(
            f"{state}: expected a state of the run {run[:12]}, found one of "
            f"{description['run'][:12]}"
        )
    for name, digest in description["digests"].items():
        file = state / name
        found = file_digest(file)[:12] if file.is_file() else "no file"
        if found != digest[:12]:
            raise ValueError(
                f"{file}: expected the content with SHA-256 {digest[:12]}, found {found}"
            )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
