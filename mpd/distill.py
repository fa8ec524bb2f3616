"""distill: train the student against the cache, and write a model folder.

The shards of a round come together here. A cache that was made for another student, tokenizer or
teacher, or whose ids do not match their digest, is refused. A killed training resumes from its last
saved state.

    python -m mpd.distill --settings JSON --student .../manifest.json \\
        --logits .../logits/shard_*.parquet --filter .../filter/shard_*.parquet \\
        --output .../student/manifest.json
"""

import json
import logging
import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.distill import AnyDistillSettings, DistillSettings
from mpd.config.resources import DistillResources
from mpd.job import command
from mpd.job.layout import tracking_beside
from mpd.scoring.cache_layout import mean_overlap
from mpd.store import schema, table
from mpd.store.digests import digest_of
from mpd.store.loading import loading
from mpd.store.manifest import MANIFEST
from mpd.store.model_folder import read_manifest, write_manifest
from mpd.store.notes import PROVENANCE, RECEIPT
from mpd.store.outputs import FolderOutput, Outputs
from mpd.training.cache_checks import (
    require_head,
    require_ids,
    require_kept_rows,
    require_objective,
    require_old_logprobs,
    require_one,
    require_rows,
    require_verdicts,
)
from mpd.training.job import METRICS_FILE, TrainingJob
from mpd.training.launch import launch, require_gpus
from mpd.training.tracking import require_tracker

log = logging.getLogger("mpd")

CARD = "README.md"


def model_card(settings: DistillSettings, student: Mapping[str, Any], num_rows: int) -> str:
    """The README.md of a student folder."""
    return f"""---
library_name: transformers
tags: [distillation, reasoning]
---
A student of offline staged distillation: trained to think shorter by {settings.divergence} on
{num_rows} trajectories that its teacher has scored.

Trained from weights {student["weights"][:16]}, token map {student["token_map"][:16]}.
Settings: `{json.dumps(settings.meaning(), sort_keys=True)}`.
What went in: {PROVENANCE}. How training went: {METRICS_FILE}.
"""


def copy_beside_weights(source: Path, folder: Path) -> None:
    """Copy tokenizer, chat template and configs; weights, manifest and reports are new."""
    for path in source.iterdir():
        name = path.name
        if name in (MANIFEST, CARD, METRICS_FILE, PROVENANCE) or name.endswith(RECEIPT):
            continue
        if not name.endswith((".safetensors", ".safetensors.index.json")):
            shutil.copyfile(path, folder / name)


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    parser = command.parser(__doc__, "distill", AnyDistillSettings, DistillResources)
    parser.add_argument("--student", type=Path, required=True, help="manifest of the student")
    parser.add_argument("--logits", type=Path, nargs="+", required=True, help="shards of the cache")
    parser.add_argument("--filter", type=Path, nargs="+", required=True, help="shards of verdicts")
    parser.add_argument(
        "--head",
        type=Path,
        nargs="*",
        default=[],
        help="the teacher's output head, for cache: hidden",
    )
    parser.add_argument(
        "--base",
        type=Path,
        nargs="*",
        default=[],
        help="manifest of the base student, where the cache is of its trajectories in every round",
    )
    return parser


def outputs(arguments: Namespace) -> Outputs:
    """The folder of the new student."""
    settings: DistillSettings = arguments.settings
    student = read_manifest(arguments.student)
    # The student that the cache is of.
    cached = read_manifest(arguments.base[0]) if arguments.base else student
    made_for = {"token_map": student["token_map"], "student": cached["digest"]}
    footers = [table.check(path, schema.LOGITS, made_for) for path in arguments.logits]
    identities = dict(zip(arguments.logits, (each["identity"] for each in footers), strict=True))
    cache, teacher = (require_one(key, identities) for key in ("cache", "teacher"))
    require_objective(settings, cache)
    require_verdicts(arguments.logits, arguments.filter)
    require_head(arguments.head, teacher, cache)
    verdicts = pl.concat(table.read(path, schema.FILTER) for path in arguments.filter)
    require_rows(verdicts, int(verdicts["keep"].sum()), settings.min_kept)

    contents = [footer["content"] for footer in footers]
    made_from = {"student": student["digest"], "logits": digest_of(contents)}

    def compute(folder: Path, scratch: Path) -> None:
        keys = pl.concat(table.read_columns(path, schema.LOGITS.key) for path in arguments.logits)
        require_kept_rows(verdicts, keys)
        for path in arguments.logits:
            require_ids(path)
            require_old_logprobs(settings, path)
        if cache == "realised":
            _log_overlap(arguments.logits)
        copy_beside_weights(arguments.student.parent, folder)
        _run_training(arguments, made_from, folder, scratch)
        (folder / CARD).write_text(model_card(settings, student, len(keys)), encoding="utf-8")
        write_manifest(folder)

    yield FolderOutput(
        "student",
        schema.student_version(),
        arguments.output.parent,
        settings.meaning(),
        {
            "student": student["digest"],
            "teacher": teacher,
            "logits": " ".join(contents),
        },
        compute,
    )


def _log_overlap(paths: list[Path]) -> None:
    """Log how much teacher and student agree before training, which decides about such methods."""
    rows = (table.read_columns(path, ["overlap", "num_tokens"]) for path in paths)
    overlap = mean_overlap(pl.concat(rows))
    if overlap is not None:
        log.info("teacher and student share %.3f of their most probable tokens, up to 64", overlap)


def _run_training(
    arguments: Namespace, made_from: table.Identity, folder: Path, scratch: Path
) -> None:
    """Train in this process, or in several.

    Raises ValueError where there are too few GPUs, or one of the processes ends early.
    """
    with loading():
        from mpd.training.loop import train

    resources: DistillResources = command.resources_of(arguments)
    require_tracker(resources.tracker)
    require_gpus(resources)
    job = TrainingJob(
        student=arguments.student.parent,
        rows=arguments.logits,
        head=arguments.head[0] if arguments.head else None,
        folder=folder,
        scratch=scratch,
        tracking=tracking_beside(arguments.output),
        made_from=made_from,
        settings=arguments.settings,
        resources=resources,
    )
    if resources.num_processes * resources.nodes == 1:
        train(job)
        return
    description = scratch / "job.json"
    description.write_text(job.model_dump_json(), encoding="utf-8")
    launch(description, resources)


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    command.publish(command_line(), outputs, argv)


if __name__ == "__main__":
    command.run(main, "distill")
