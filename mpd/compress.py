"""compress: the teacher rewrites each complete trajectory into a concise one.

The teacher sees the problem and the trajectory, never the gold answer. Its rewrite is put back
in the student's format, and the trained token ids are built here, once. A trajectory that was
cut, or does not fit, is a row with that status and no rewrite.

From round 2 on, the teacher may be shown the route of each problem along a bank of paths (`bank`).

    python -m mpd.compress --settings JSON --problems .../problems/train/shard_0.parquet \\
        --sample .../sample/shard_0.parquet --student .../manifest.json \\
        --teacher .../manifest.json --output .../compress/shard_0.parquet
"""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.compress import CompressSettings, NoRewrite, TeacherRewrite
from mpd.config.resources import GenerationResources
from mpd.engines.opening import open_engine
from mpd.engines.rewriting import SAMPLE_STATUS, require_prompts, rewriter, without_rewrite
from mpd.engines.tasks import Task, complete
from mpd.job import command
from mpd.job.shards import for_each_shard, opened
from mpd.store import schema, table
from mpd.store.joins import joined, matched
from mpd.store.lineage import contents_of, sampled_by
from mpd.store.model_folder import read_manifest, require_same_tokens
from mpd.store.outputs import Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.text.completions import CompletionWriter
from mpd.text.routing import kept_paths
from mpd.text.vocabulary import Vocabulary

log = logging.getLogger("mpd")


def verbatim_candidates(rows: pl.DataFrame, stop_ids: list[int]) -> pl.DataFrame:
    """The rows of a method without a rewriter: each trajectory is its only candidate, verbatim.

    A trajectory that was cut keeps its ids: some methods are trained on it.
    """
    records = []
    for row in rows.iter_rows(named=True):
        ids, status = row["completion_ids"], SAMPLE_STATUS.get(row["finish_reason"], "ok")
        if status == "ok" and ids[-1] not in stop_ids:
            status = "format"  # another model's stop id
        records.append(
            {
                **without_rewrite(row, status),
                "text": row["text"] if ids else None,
                "completion_ids": ids or None,
                "num_tokens": len(ids) or None,
            }
        )
    return table.frame_of(records, schema.COMPRESS)


def read_rows(
    problems: Path, sample: Path, identity: Mapping[str, str], routes: Sequence[Path] = ()
) -> pl.DataFrame:
    """Samples with their questions, and the route of each, if there are any.

    Raises ValueError where some have no question, or no route where others have one, and where the
    samples have another identity.
    """
    questions = table.read(problems, schema.PROBLEMS).select("problem_id", "question")
    samples = table.read(sample, schema.SAMPLE, identity)
    rows = matched(samples, questions, schema.PROBLEMS)
    if len(rows) != len(samples):
        raise ValueError(
            f"{sample}: it has problems that {problems} lacks; the shards do not belong together"
        )
    for path in routes:
        found = table.read(path, schema.ROUTES)
        rows = joined(rows, found, schema.ROUTES)
        if len(found) and rows["route"].null_count():
            raise ValueError(f"{path}: it lacks problems of {problems}; run bank again")
    return rows


def require_routes(settings: CompressSettings, routes: Sequence[Path], problems: str) -> str:
    """The digest of the routes that the settings ask for; empty where they ask for none.

    `problems` is the digest of the shard of problems. Raises ValueError where the routes are
    missing or of other problems, or none are wanted.
    """
    wanted = isinstance(settings, TeacherRewrite) and settings.route is not None
    if len(routes) != wanted:
        words = "has a prompt for routes" if wanted else "has no prompt for routes"
        raise ValueError(f"--settings {words}, and --routes names {len(routes)} files of them")
    for path in routes:
        footer = table.check(path, schema.ROUTES)
        if problems not in footer["identity"]["shards"].split():
            raise ValueError(
                f"{path}: its routes are not those of problems {problems[:12]}; give the routes of "
                "the same experiment, method, seed and round"
            )
        return str(footer["content"])
    return ""


def rewrite_all(arguments: Namespace, rows: pl.DataFrame, parts: Parts) -> None:
    """The candidates of all rows: rewrites, or the trajectories as they are.

    Raises ValueError where the teacher cannot encode the rewriting prompt, or none fits.
    """
    settings: CompressSettings = arguments.settings
    resources: GenerationResources = command.resources_of(arguments)
    folder = arguments.student.parent
    if isinstance(settings, NoRewrite):
        parts.map(
            rows,
            resources.rows_per_part,
            lambda: partial(verbatim_candidates, stop_ids=Vocabulary.of_folder(folder).stop_ids),
        )
        return

    def prepare() -> Task:
        engine = opened(arguments, lambda: open_engine(arguments.teacher, settings, resources))
        require_prompts(engine, settings, rows)
        writer = CompletionWriter(Vocabulary.of_folder(folder), settings.chat)
        context = read_manifest(arguments.student)["context_length"]
        return rewriter(engine, writer, settings, parts.remaining, context)

    complete(parts, rows, resources.rows_per_part, settings.engine, prepare)


def sampler_of(
    settings: CompressSettings, student: Mapping[str, Any], teacher: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The manifest of the model that sampled.

    Raises ValueError where the teacher did, under prompts that are not the student's. (Where it has
    other tokens, its trajectories were encoded behind the student's prompts.)
    """
    if settings.sampler == "student":
        return student
    same_tokens = student["token_map"] == teacher["token_map"]
    if same_tokens and student["chat_template"] != teacher["chat_template"]:
        raise ValueError(
            "student and teacher have different chat templates: the teacher's trajectories "
            "follow prompts that are not the student's; take a method whose student samples"
        )
    return teacher


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    shards = {"problems": "problems", "sample": "trajectories"}
    parser = command.parser(__doc__, "compress", CompressSettings, GenerationResources, shards)
    parser.add_argument("--student", type=Path, required=True, help="manifest of the student")
    parser.add_argument("--teacher", type=Path, required=True, help="manifest of the teacher")
    parser.add_argument(
        "--routes",
        type=Path,
        nargs="*",
        default=[],
        help="routes of all training problems, where there is a bank of paths",
    )
    return parser


@for_each_shard
def outputs(arguments: Namespace) -> Outputs:
    """The candidates of one shard."""
    settings: CompressSettings = arguments.settings
    student, teacher = read_manifest(arguments.student), read_manifest(arguments.teacher)
    if settings.needs_scores:
        require_same_tokens(student, teacher)
    sampler = sampled_by(arguments.sample, sampler_of(settings, student, teacher))
    sampled = {**sampler, "token_map": student["token_map"]}
    contents = contents_of(
        {
            "problems": (arguments.problems, schema.PROBLEMS),
            "sample": (arguments.sample, schema.SAMPLE, sampled),
        }
    )

    def compute(parts: Parts) -> None:
        files = arguments.problems, arguments.sample
        rewrite_all(arguments, read_rows(*files, sampled, arguments.routes), parts)

    digest = require_routes(settings, arguments.routes, contents["problems"])
    routes = {"routes": digest} if digest else {}
    rewrites = isinstance(settings, TeacherRewrite)
    teacher_identity = {"teacher": teacher["digest"]} if rewrites else {}
    seed = {"seed": str(settings.seed)} if isinstance(settings, TeacherRewrite) else {}
    # The chat template says what ends a turn.
    keys = ("context_length", "chat_template") if rewrites else ()
    student_identity = {key: str(student[key]) for key in keys}
    yield TableOutput(
        schema.COMPRESS,
        arguments.output,
        settings.meaning(),
        {
            **contents,
            **routes,
            # Rows depend on the student's tokenizer, stop ids and context, not on its weights.
            "tokenizer": student["tokenizer"],
            **student_identity,
            **teacher_identity,
        },
        compute,
        identity={
            **teacher_identity,
            **seed,
            **contents,
            **routes,
            "token_map": student["token_map"],
        },
    )


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    arguments = command.publish(command_line(), outputs, argv)
    if arguments.routes and arguments.mode != "explain":
        routes = table.read(arguments.routes[0], schema.ROUTES)
        columns = ["sample_id", "status", "rewrite"]
        rewrites = pl.concat(table.read_columns(path, columns) for path in arguments.output)
        log.info("%d of %d rewrites keep the path of their route", *kept_paths(rewrites, routes))


if __name__ == "__main__":
    command.run(main, "compress")
