"""sample: the student's trajectories, several for each problem.

Every sample has its own seed, from the branch's seed, the problem and its index: rows do not
depend on the order or the shard. The user's own trajectories enter here in place of sampling.

    python -m mpd.sample --settings JSON --problems .../problems/train/shard_0.parquet \\
        --student .../student/manifest.json --output .../sample/shard_0.parquet
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from mpd import command, schema, table
from mpd.chat import ChatFormat
from mpd.model_folder import file_digest, load_tokenizer, read_manifest, stop_ids
from mpd.questions import problem_id
from mpd.store import Parts

if TYPE_CHECKING:
    from mpd.generate import Completion, TransformersEngine

log = logging.getLogger("mpd")


def with_samples(problems: pl.DataFrame, num_samples: int) -> pl.DataFrame:
    """One row per sample: the problem's columns, sample_index and sample_id."""
    indices = pl.DataFrame({"sample_index": pl.Series(range(num_samples), dtype=pl.Int32)})
    return problems.join(indices, how="cross").with_columns(
        sample_id=pl.format("{}-{}", "problem_id", "sample_index")
    )


def sampler(
    engine: "TransformersEngine", settings: Mapping[str, Any], total: int
) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """The work of a part: sample the trajectory of each row."""
    from mpd.generate import Request, seed_of
    from mpd.progress import Progress

    progress = Progress("sampled", total)

    def work(rows: pl.DataFrame) -> pl.DataFrame:
        prompts = [engine.chat.problem_ids(question) for question in rows["question"]]
        requests = [
            Request(prompt, seed_of("sample", settings["seed"], sample_id))
            for prompt, sample_id in zip(prompts, rows["sample_id"], strict=True)
        ]
        completions = engine.generate(requests, settings, progress.advance)
        return _frame(rows, prompts, completions, engine.chat)

    return work


def given_rows(path: Path, problems: pl.DataFrame) -> pl.DataFrame:
    """The user's trajectories of these problems: columns problem and text or ids.

    An optional column finish_reason says length where a trajectory was cut. Raises ValueError
    where a column is missing or a row is empty.
    """
    frame = pl.read_ndjson(path) if path.suffix == ".jsonl" else pl.read_parquet(path)
    if "problem" not in frame.columns or not {"text", "ids"} & set(frame.columns):
        raise ValueError(f"{path}: needs the columns problem and text or ids; has {frame.columns}")
    content = "ids" if "ids" in frame.columns else "text"
    empty = frame.filter(pl.col(content).is_null() | pl.col("problem").is_null())
    if len(empty):
        raise ValueError(f"{path}: {len(empty)} rows have no problem or no {content}; remove them")
    if "finish_reason" not in frame.columns:
        frame = frame.with_columns(finish_reason=pl.lit("stop"))
    found = frame.select(
        pl.col("problem").map_elements(problem_id, pl.String).alias("problem_id"),
        pl.col(content),
        "finish_reason",
    ).join(problems, on="problem_id", how="inner", maintain_order="left")
    log.info("%d of %d given trajectories belong to these problems", len(found), len(frame))
    return found.with_columns(
        sample_index=pl.int_range(pl.len(), dtype=pl.Int32).over("problem_id")
    ).with_columns(sample_id=pl.format("{}-{}", "problem_id", "sample_index"))


def encoder(format: ChatFormat) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """The work of a part of given trajectories: text becomes ids, ids stay as they are."""
    from mpd.generate import Completion

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
    completions: "list[Completion]",
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


def main(argv: list[str] | None = None) -> None:
    parser = command.parser(__doc__, "sample")
    parser.add_argument("--problems", type=Path, required=True, help="problems of this shard")
    parser.add_argument("--student", type=Path, required=True, help="manifest of the student")
    command.generation_arguments(parser)
    arguments = parser.parse_args(argv)
    settings = arguments.settings
    student = read_manifest(arguments.student)
    inputs = {"problems": table.content_digest(arguments.problems, schema.PROBLEMS)}
    own = settings["trajectories"]
    identity = {"token_map": student["token_map"]}
    if own:  # of the student counts how it says them: its weights draw nothing
        inputs["trajectories"] = file_digest(Path(own))
        inputs |= {key: student[key] for key in ("tokenizer", "chat_template")}
    else:
        inputs["student"] = identity["student"] = student["digest"]

    def compute(parts: Parts) -> None:
        problems = table.read(arguments.problems, schema.PROBLEMS)
        if own:
            folder = arguments.student.parent
            tokenizer = load_tokenizer(folder)
            format = ChatFormat(tokenizer, settings["chat"], stop_ids(folder, tokenizer))
            rows = given_rows(Path(own), problems)
            parts.map(rows, arguments.rows_per_part, lambda: encoder(format))
            return
        rows = with_samples(problems, settings["num_samples"])

        def prepare() -> Callable[[pl.DataFrame], pl.DataFrame]:
            from mpd.generate import TransformersEngine, require_room

            engine = TransformersEngine(
                arguments.student,
                settings["chat"],
                settings["dtype"],
                arguments.batch_size,
                arguments.threads,
            )
            prompts = [engine.chat.problem_ids(question) for question in problems["question"]]
            require_room(engine, prompts, settings, "sample.max_new_tokens")
            return sampler(engine, settings, len(rows))

        parts.map(rows, arguments.rows_per_part, prepare)

    command.store_of(arguments).publish_table(
        schema.SAMPLE,
        arguments.output,
        settings,
        inputs,
        compute,
        identity=identity,
    )


if __name__ == "__main__":
    command.run(main, "sample")
