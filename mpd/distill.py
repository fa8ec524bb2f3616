"""distill: train the student against the cache, and write a model folder.

All shards of a round are gathered here, and nowhere else. A cache that was made for another
student, tokenizer or teacher, or whose ids do not match their digest, is refused. A killed
training resumes from its last saved state.

    python -m mpd.distill --settings JSON --student .../manifest.json \\
        --logits .../logits/shard_*.parquet --filter .../filter/shard_*.parquet \\
        --output .../student/manifest.json
"""

import importlib.util
import json
import logging
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.checks import inexact
from mpd.config.distill import DistillSettings
from mpd.config.resources import DistillResources
from mpd.job import command
from mpd.store import schema, table
from mpd.store.model_folder import MANIFEST, read_manifest, write_manifest
from mpd.store.outputs import FolderOutput, Outputs
from mpd.text.completions import ids_digest

log = logging.getLogger("mpd")

ADVICE = {
    "wrong_answer": "train on easier problems, take a stronger teacher, or more samples",
    "answer_none": "check chat.close and the prompts: completions lack a marked final answer",
    "sample_truncated": "raise sample.max_new_tokens",
    "rewrite_truncated": "raise compress.max_new_tokens",
    "format": "check compress.prompt: rewrites lack an answer line",
    "ratio_too_high": "rewrites are not shorter: check compress.prompt, or raise filter.max_ratio",
}

# Where a method keeps all, these reasons keep no row out.
ANSWER_REASONS = ("wrong_answer", "answer_none", "answer_unparsed", "answer_timeout")


def require_rows(verdicts: pl.DataFrame, kept: int, min_kept: int) -> None:
    """Raise ValueError, with the reasons and what to change, where too few rows survived."""
    if kept >= min_kept:
        return
    failed = verdicts.filter(~pl.col("keep"))["reason"].value_counts()
    counts = failed.sort("count", "reason", descending=[True, False]).rows()
    others = ", ".join(f"{count} {reason}" for reason, count in counts) or "none"
    raise ValueError(
        f"{kept} of {len(verdicts)} candidates survived the filter, and distill.min_kept is "
        f"{min_kept}; the others: {others}. Nothing was trained: {_advice(counts)}"
    )


def _advice(counts: list[tuple[Any, ...]]) -> str:
    """What to change, from the reasons of the rows that failed, the most frequent first."""
    if not counts:
        return "give more problems, draw more samples, or lower distill.min_kept"
    advice = ADVICE.get(counts[0][0], "read the column reason of the filter files")
    unverified = sum(count for reason, count in counts if reason in ANSWER_REASONS)
    if 2 * unverified > sum(count for _, count in counts):
        advice += "; or train regardless of correctness, by a custom row with axes: {kept: all}"
    return advice


def require_ids(path: Path) -> None:
    """Raise ValueError where the ids of a cached row are not those that were scored."""
    columns = "sample_id", "prompt_ids", "completion_ids", "ids_digest"
    for sample_id, prompt, completion, expected in table.iterate(path, columns):
        if ids_digest(prompt, completion) != expected:
            raise ValueError(
                f"{path}: the ids of row {sample_id} are not those that the teacher scored; run "
                f"again with --forcerun {path} --config store=refresh"
            )


def require_objective(settings: DistillSettings, caches: set[str]) -> None:
    """Raise ValueError where the cache cannot give the loss that the settings ask for."""
    if len(caches) != 1:
        raise ValueError("some cache shards are sparse and others hidden; run logits again")
    (cache,) = caches
    sentence = inexact(settings.divergence, settings.temperature, settings.tail, cache)
    if sentence:
        raise ValueError(sentence)


def require_head(paths: list[Path], teachers: set[str], cache: str) -> None:
    """Raise ValueError where an output head is missing, or not of the teacher of the cache."""
    from safetensors import safe_open

    if cache == "hidden" and not paths:
        raise ValueError("the cache holds hidden states; give the teacher's output head by --head")
    for path in paths:
        with safe_open(path, framework="numpy") as file:
            teacher = file.metadata()["teacher"]
        if {teacher} != teachers:
            raise ValueError(
                f"{path}: the output head of teacher {teacher[:12]}, but the cache is of "
                f"{', '.join(teacher[:12] for teacher in teachers)}; run its rule again"
            )


def require_kept_rows(verdicts: pl.DataFrame, rows: pl.DataFrame) -> None:
    """Raise ValueError unless the cached rows are exactly the candidates that filter keeps."""
    key = list(schema.FILTER.key)
    kept, cached = verdicts.filter("keep").select(key), rows.select(key)
    if not kept.sort(key).equals(cached.sort(key)):
        missing = len(kept.join(cached, on=key, how="anti"))
        raise ValueError(
            f"the cache has {len(cached)} rows, but filter keeps {len(kept)} candidates, "
            f"{missing} of which are not cached; they are not of one run: run logits again"
        )


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
What went in: provenance.json. How training went: metrics.parquet.
"""


def copy_beside_weights(source: Path, folder: Path) -> None:
    """Take over tokenizer, chat template and generation config; weights and reports are new."""
    for path in source.iterdir():
        name = path.name
        if name in (MANIFEST, "README.md", "metrics.parquet", "provenance.json"):
            continue
        if not name.endswith((".safetensors", ".safetensors.index.json")):
            shutil.copyfile(path, folder / name)


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    parser = command.parser(__doc__, "distill", DistillSettings, DistillResources)
    parser.add_argument("--student", type=Path, required=True, help="manifest of the student")
    parser.add_argument("--logits", type=Path, nargs="+", required=True, help="cache shards")
    parser.add_argument("--filter", type=Path, nargs="+", required=True, help="verdict shards")
    parser.add_argument("--head", type=Path, nargs="*", default=[], help="of a cache: hidden")
    return parser


def outputs(arguments: Namespace) -> Outputs:
    """The folder of the new student."""
    settings: DistillSettings = arguments.settings
    student = read_manifest(arguments.student)
    made_for = {"token_map": student["token_map"], "student": student["digest"]}
    footers = [table.check(path, schema.LOGITS, made_for) for path in arguments.logits]
    require_objective(settings, {footer["identity"]["cache"] for footer in footers})
    teachers = {footer["identity"]["teacher"] for footer in footers}
    if len(teachers) != 1:
        raise ValueError(f"the cache shards are of {len(teachers)} teachers; rerun logits")
    require_head(arguments.head, teachers, footers[0]["identity"]["cache"])
    verdicts = pl.concat(table.read(path, schema.FILTER) for path in arguments.filter)
    require_rows(verdicts, int(verdicts["keep"].sum()), settings.min_kept)

    def compute(folder: Path, scratch: Path) -> None:
        keys = pl.concat(table.read_columns(path, schema.LOGITS.key) for path in arguments.logits)
        require_kept_rows(verdicts, keys)
        for path in arguments.logits:
            require_ids(path)
        copy_beside_weights(arguments.student.parent, folder)
        _train(arguments, folder, scratch)
        (folder / "README.md").write_text(
            model_card(settings, student, len(keys)), encoding="utf-8"
        )
        write_manifest(folder)

    yield FolderOutput(
        "student",
        schema.student_version(),
        arguments.output.parent,
        settings.meaning(),
        {
            "student": student["digest"],
            "teacher": teachers.pop(),
            "logits": " ".join(footer["content"] for footer in footers),
        },
        compute,
    )


def require_tracker(name: str) -> None:
    """Raise ValueError where the package of a tracker is missing: accelerate would go without."""
    if name != "none" and importlib.util.find_spec(name) is None:
        raise ValueError(
            f"resources.distill.tracker is {name}, which is not installed; pip install {name}, or "
            "set it to none"
        )


def _train(arguments: Namespace, folder: Path, scratch: Path) -> None:
    from mpd.training.loop import TrainingJob, train

    resources: DistillResources = command.resources_of(arguments)
    require_tracker(resources.tracker)
    job = TrainingJob(
        student=arguments.student.parent,
        rows=arguments.logits,
        head=arguments.head[0] if arguments.head else None,
        folder=folder,
        scratch=scratch,
        tracking=arguments.output.parent.parent / "tracking",
        settings=arguments.settings,
        resources=resources,
    )
    if resources.num_processes == 1:
        train(job)
        return
    description = scratch / "job.json"
    description.write_text(job.model_dump_json(), encoding="utf-8")
    # Not accelerate launch, which starts a single process where there are no GPUs.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    launch += [str(resources.num_processes), "-m", "mpd.training.loop", str(description)]
    code = subprocess.run(launch, check=False).returncode
    if code:
        raise ValueError(f"a training process ended with code {code}; its own error is above")


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    command.publish(command_line(), outputs, argv)


if __name__ == "__main__":
    command.run(main, "distill")
