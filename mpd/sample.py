"""sample: the student's trajectories, several for each problem.

Every sample has its own seed, from the branch's seed, the problem and its index: rows do not
depend on the order or the shard. The user's own trajectories enter here in place of sampling.

    python -m mpd.sample --settings JSON --problems .../problems/train/shard_0.parquet \\
        --student .../student/manifest.json --output .../sample/shard_0.parquet
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.resources import GenerationResources
from mpd.config.sample import DrawnSample, GivenSample, SampleSettings
from mpd.engines.base import Completion, Engine, Request, seed_of
from mpd.engines.opening import open_engine
from mpd.engines.tasks import Task, complete, require_room
from mpd.job import command
from mpd.store import schema, table
from mpd.store.digests import file_digest
from mpd.store.model_folder import read_manifest
from mpd.store.outputs import Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.text.completions import CompletionWriter
from mpd.text.given import given_rows
from mpd.text.prompts import Prompts
from mpd.text.vocabulary import Vocabulary


def with_samples(problems: pl.DataFrame, num_samples: int) -> pl.DataFrame:
    """One row per sample: the problem's columns, sample_index and sample_id."""
    indices = pl.DataFrame({"sample_index": pl.Series(range(num_samples), dtype=pl.Int32)})
    return problems.join(indices, how="cross").with_columns(
        sample_id=pl.format("{}-{}", "problem_id", "sample_index")
    )


def sampler(engine: Engine, settings: DrawnSample, total: int) -> Task:
    """The task of a shard: sample the trajectory of each row."""
    from mpd.job.progress import Progress

    prompt_of = cache(Prompts.plain(engine.vocabulary, settings.chat).problem_ids)

    def ask(row: Mapping[str, Any]) -> list[Request]:
        seed = seed_of("sample", settings.seed, row["sample_id"])
        return [Request(prompt_of(row["question"]), seed)]

    def sampled(rows: pl.DataFrame, completions: list[list[Completion]]) -> pl.DataFrame:
        prompts = [prompt_of(question) for question in rows["question"]]
        return _frame(
            rows, prompts, [completion for (completion,) in completions], engine.vocabulary
        )

    return Task(engine, settings, ask, sampled, Progress("sampled", total))


def encoder(writer: CompletionWriter, prompts: Prompts) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """The work of a part of given trajectories: text becomes ids, ids stay as they are."""

    def work(rows: pl.DataFrame) -> pl.DataFrame:
        ids = (
            rows["ids"].to_list()
            if "ids" in rows
            else [writer.encode(text) for text in rows["text"]]
        )
        completions = [
            Completion(list(sequence), [], reason)
            for sequence, reason in zip(ids, rows["finish_reason"], strict=True)
        ]
        prompt_ids = [prompts.problem_ids(question) for question in rows["question"]]
        return _frame(rows, prompt_ids, completions, writer.vocabulary)

    return work


def _frame(
    rows: pl.DataFrame,
    prompts: list[list[int]],
    completions: list[Completion],
    vocabulary: Vocabulary,
) -> pl.DataFrame:
    columns = zip(rows.iter_rows(named=True), prompts, completions, strict=True)
    return table.frame_of(
        (
            {
                "sample_id": row["sample_id"],
                "problem_id": row["problem_id"],
                "sample_index": row["sample_index"],
                "prompt_ids": prompt,
                "completion_ids": completion.token_ids,
                "logprobs": completion.logprobs or None,
                "text": vocabulary.text(completion.token_ids),
                "finish_reason": completion.finish_reason,
                "num_tokens": len(completion.token_ids),
            }
            for row, prompt, completion in columns
        ),
        schema.SAMPLE,
    )


def draw(arguments: Namespace, parts: Parts) -> None:
    """Sample the trajectories of a shard.

    Raises ValueError where a question has a word without a token, or no prompt leaves room for a
    sample.
    """
    settings: DrawnSample = arguments.settings
    resources: GenerationResources = command.resources_of(arguments)
    problems = table.read(arguments.problems, schema.PROBLEMS)
    rows = with_samples(problems, settings.num_samples)

    def prepare() -> Task:
        engine = open_engine(arguments.student, settings, resources)
        prompts = Prompts.plain(engine.vocabulary, settings.chat)
        prompt_ids = [prompts.problem_ids(question) for question in problems["question"]]
        require_room(engine, prompt_ids, settings, "sample.max_new_tokens")
        return sampler(engine, settings, parts.remaining)

    complete(parts, rows, resources.rows_per_part, settings.engine, prepare)


def take_given(arguments: Namespace, parts: Parts) -> None:
    """Put the user's trajectories of a shard into the student's tokens."""
    settings: GivenSample = arguments.settings
    problems = table.read(arguments.problems, schema.PROBLEMS)
    shards = [table.read(path, schema.PROBLEMS) for path in arguments.training]
    training = pl.concat([problems, *shards])["problem_id"]
    rows = given_rows(Path(settings.trajectories), problems, training)
    vocabulary = Vocabulary.of_folder(arguments.student.parent)
    writer = CompletionWriter(vocabulary, settings.chat)
    prompts = Prompts.plain(vocabulary, settings.chat)
    rows_per_part = command.resources_of(arguments).rows_per_part
    parts.map(rows, rows_per_part, lambda: encoder(writer, prompts))


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    parser = command.parser(__doc__, "sample", SampleSettings, GenerationResources)
    parser.add_argument("--problems", type=Path, required=True, help="problems of this shard")
    parser.add_argument("--student", type=Path, required=True, help="manifest of the student")
    parser.add_argument(
        "--training",
        type=Path,
        nargs="*",
        default=[],
        help="problems of all shards: given trajectories must be of some of them",
    )
    return parser


def outputs(arguments: Namespace) -> Outputs:
    """The samples of one shard."""
    settings: SampleSettings = arguments.settings
    student = read_manifest(arguments.student)
    inputs = {"problems": table.content_digest(arguments.problems, schema.PROBLEMS)}
    identity = {"token_map": student["token_map"]}
    compute = draw
    if isinstance(settings, GivenSample):
        compute = take_given
        # Of the student counts how it says them: its weights draw nothing.
        path = Path(settings.trajectories)
        if not path.is_file():
            raise ValueError(f"{path}: no such file; mend sample.trajectories")
        inputs["trajectories"] = file_digest(path)
        inputs |= {key: student[key] for key in ("tokenizer", "chat_template")}
    else:
        inputs["student"] = identity["student"] = student["digest"]

    yield TableOutput(
        schema.SAMPLE,
        arguments.output,
        settings.meaning(),
        inputs,
        partial(compute, arguments),
        identity=identity,
    )


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    command.publish(command_line(), outputs, argv)


if __name__ == "__main__":
    command.run(main, "sample")
