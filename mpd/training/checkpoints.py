"""The saved states of a training run, from which a killed one resumes.

A folder of a run holds one state, STATE and the number of steps: accelerate's files, those of the
loop's parts, a file of each process where weights are sharded, the metrics so far, and a
description: the run that it belongs to, and the digest of each file. What is damaged or belongs to
another run is not loaded.
"""

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter

from mpd.store.digests import file_digest
from mpd.store.files import checksummed, has_its_checksum, json_object, sync

log = logging.getLogger("mpd")

STATE = "trained_"  # states of earlier releases, of other contents, were named state_
PART = "part_{}.pt"
METRICS = "metrics.json"
DESCRIPTION = "description.json"


@dataclass(frozen=True)
class SavedStates:
    """The saved states of `run` in a folder.

    `parts` have a `state_dict`, which the first process saves. Where weights are sharded, `tensors`
    gives the tensors of which every process saves its part, after a number of steps.
    """

    accelerator: Accelerator
    folder: Path
    run: str
    parts: Sequence[Any]
    tensors: Callable[[int], dict[str, torch.Tensor]] | None = None

    @property
    def sharding(self) -> str:
        """How the tensors of a state are divided, as the configuration says it."""
        return "full" if self.tensors else "none"

    def save(self, metrics: list[dict[str, Any]]) -> None:
        """Save the state after a step, completely or not at all, then delete the older one.

        `metrics` has one row for each step taken. Every process calls this.
        """
        accelerator, draft = self.accelerator, self.folder / "state.draft"
        if accelerator.is_main_process and draft.exists():
            shutil.rmtree(draft)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(draft))
        if self.tensors:  # as safetensors: other formats of torch.distributed need pickle
            writer = HuggingFaceStorageWriter(str(draft), save_distributed=True)
            dcp.save(self.tensors(len(metrics)), storage_writer=writer)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            for number, part in enumerate(self.parts):
                torch.save(part.state_dict(), draft / PART.format(number))
            (draft / METRICS).write_text(json.dumps(metrics), encoding="utf-8")
            self._describe(draft)
            state = self.folder / f"{STATE}{len(metrics):08d}"
            if state.exists():  # it was damaged, so that these steps were taken again
                shutil.rmtree(state)
            older = list(self.folder.glob(f"{STATE}*"))
            draft.rename(state)
            for path in older:
                shutil.rmtree(path)
        accelerator.wait_for_everyone()

    def _describe(self, draft: Path) -> None:
        """Write the description of a complete state, and wait until the disk has all of it."""
        digests = {str(path.relative_to(draft)): file_digest(path) for path in _files(draft)}
        description = {"run": self.run, "digests": digests}
        if self.tensors:
            description["sharding"] = self.sharding
        text = json.dumps(checksummed(description))
        (draft / DESCRIPTION).write_text(text, encoding="utf-8")
        for path in _files(draft):
            sync(path)

    def resume(self) -> list[dict[str, Any]]:
        """Load the newest saved state of the run; returns the metrics of the steps in it.

        They are empty where there is none. States that are damaged or of another run are named in a
        warning, and passed over. A sharded state may be loaded by any number of processes. Only
        tensors and plain values are read, since others may write into a store that is shared.
        Raises ValueError where a file has something else, or the state is sharded otherwise.
        """
        # The first process reads all of the files and decides: no other may take another state.
        newest = [self._newest() if self.accelerator.is_main_process else None]
        broadcast_object_list(newest)
        if newest[0] is None:
            return []
        name, found = newest[0]
        state = self.folder / name
        if found != self.sharding:
            raise ValueError(
                f"{state}: it was saved with resources.distill.sharding: {found}; set that "
                "again (with full, in several processes), or delete it to begin again"
            )
        metrics = json.loads((state / METRICS).read_text(encoding="utf-8"))
        self.accelerator.load_state(str(state))
        for number, part in enumerate(self.parts):
            part.load_state_dict(_tensors(state / PART.format(number)))
        if self.tensors:
            reader = HuggingFaceStorageReader(str(state))
            dcp.load(self.tensors(len(metrics)), storage_reader=reader)
        log.info("resumed training after step %d", len(metrics))
        return metrics

    def _newest(self) -> tuple[str, str] | None:
        """Name and sharding of the newest state of this run whose files are whole."""
        for state in sorted(self.folder.glob(f"{STATE}*"), reverse=True):
            try:
                description = _description(state, self.run)
            except ValueError as error:
                log.warning("%s; training starts from an earlier state, or from its start", error)
                continue
            return state.name, description.get("sharding", "none")
        return None


def _tensors(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        words = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{file}: damaged, or not of this program ({words}); delete {file.parent} and run "
            "again: training begins again"
        ) from error


def _description(state: Path, run: str) -> dict[str, Any]:
    """The description of a state. Raises ValueError where it is damaged, or of another run."""
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
    return description


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
