"""sample: the student's trajectories, several for each problem.

Every sample has its own seed, from the branch's seed, the problem and its index: rows do not
depend on the order or the shard. The user's own trajectories enter here in place of sampling.

    python -m mpd.sample --settings JSON --problems .../problems/train/shard_0.parquet \\
        --student .../student/manifest.json --output .../sample/shard_0.parquet
"""

from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import polars as pl

from mpd import command, schema, table
from mpd.chat import ChatFormat
from mpd.digests import file_digest
from mpd.generate import (
    Completion,
    Engine,
    Request,
    Task,
    complete,
    open_engine,
    require_room,
    seed_of,
)
from mpd.given import given_rows
from mpd.model_folder import load_tokenizer, read_manifest, stop_ids
from mpd.parts import Parts


def with_samples(problems: pl.DataFrame, num_samples: int) -> pl.DataFrame:
    """One row per sample: the problem's columns, sample_index and sample_id."""
    indices = pl.DataFrame({"sample_index": pl.Series(range(num_samples), dtype=pl.Int32)})
    return problems.join(indices, how="cross").with_columns(
        sample_id=pl.format("{}-{}", "problem_id", "sample_index")
    )


def sampler(engine: Engine, settings: Mapping[str, Any], total: int) -> Task:
    """The task of a shard: sample the trajectory of each row."""
    from mpd.progress import Progress

    prompt_of = cache(engine.chat.problem_ids)

    def ask(row: Mapping[str, Any]) -> list[Request]:
        seed = seed_of("sample", settings["seed"], row["sample_id"])
        return [Request(prompt_of(row["question"]), seed)]

    def sampled(rows: pl.DataFrame, completions: list[list[Completion]]) -> pl.DataFrame:
        prompts = [prompt_of(question) for question in rows["question"]]
        return _frame(rows, prompts, [made for (made,) in completions], engine.chat)

    return Task(engine, settings, ask, sampled, Progress("sampled", total))


def encoder(format: ChatFormat) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """The work of a part of given trajectories: text becomes ids, ids stay as they are."""

    def work(rows: pl.DataFrame) -> pl.DataFrame:
        ids = (
            rows["ids"].to_list()
            if "ids" in rows
            else [format.encode(text) for text in rows["text"]]
        )
        completions = [
            Completion(list(sequence), [], reason)
            for sequence, reason in zip(ids, rows["finish_reason"], strict=True)
        ]
        prompts = [format.problem_ids(question) for question in rows["question"]]
        return _frame(rows, prompts, completions, format)

    return work


def _frame(
    rows: pl.DataFrame,
    prompts: list[list[int]],
    completions: list[Completion],
    format: ChatFormat,
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
                "text": format.text(completion.token_ids),
                "finish_reason": completion.finish_reason,
                "num_tokens": len(completion.token_ids),
            }
            for row, prompt, completion in columns
        ),
        schema.SAMPLE,
    )


def draw(arguments: Namespace, parts: Parts) -> None:
    """Sample the trajectories of a shard.

    Raises ValueError where a question cannot be said, or no prompt leaves room for a sample.
    """
    problems, settings = table.read(arguments.problems, schema.PROBLEMS), arguments.settings
    rows = with_samples(problems, settings["num_samples"])

    def prepare() -> Task:
        engine = open_engine(arguments.student, settings, arguments)
        prompts = [engine.chat.problem_ids(question) for question in problems["question"]]
        require_room(engine, prompts, settings, "sample.max_new_tokens")
        return sampler(engine, settings, parts.remaining)

    complete(parts, rows, arguments.rows_per_part, settings["engine"], prepare)


def take_given(arguments: Namespace, parts: Parts) -> None:
    """Put the user's trajectories of a shard into the student's tokens."""
    problems = table.read(arguments.problems, schema.PROBLEMS)
    shards = [table.read(path, schema.PROBLEMS) for path in arguments.training]
    training = pl.concat([problems, *shards])["problem_id"]
    rows = given_rows(Path(arguments.settings["trajectories"]), problems, training)
    folder = arguments.student.parent
    tokenizer = load_tokenizer(folder)
    format = ChatFormat(tokenizer, arguments.settings["chat"], stop_ids(folder, tokenizer))
    parts.map(rows, arguments.rows_per_part, lambda: encoder(format))


def main(argv: list[str] | None = None) -> None:
    parser = command.parser(__doc__, "sample")
    parser.add_argument("--problems", type=Path, required=True, help="problems of this shard")
    parser.add_argument("--student", type=Path, required=True, help="manifest of the student")
    parser.add_argument(
        "--training",
        type=Path,
        nargs="*",
        default=[],
        help="problems of all shards: given trajectories must be of some of them",
    )
    command.generation_arguments(parser)
    command.engine_arguments(parser)
    arguments = parser.parse_args(argv)
    settings = arguments.settings
    student = read_manifest(arguments.student)
    inputs = {"problems": table.content_digest(arguments.problems, schema.PROBLEMS)}
    own = settings["trajectories"]
    identity = {"token_map": student["token_map"]}
    if own:  # of the student counts how it says them: its weights draw nothing
        if not Path(own).is_file():
            raise ValueError(f"{own}: no such file; mend sample.trajectories")
        inputs["trajectories"] = file_digest(Path(own))
        inputs |= {key: student[key] for key in ("tokenizer", "chat_template")}
    else:
        inputs["student"] = identity["student"] = student["digest"]

    command.store_of(arguments).publish_table(
        schema.SAMPLE,
        arguments.output,
        settings,
        inputs,
        partial(take_given if own else draw, arguments),
        identity=identity,
    )


if __name__ == "__main__":
    command.run(main, "sample")
