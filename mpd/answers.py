"""answers: a student's answers to the held-out problems, as the engine gives them.

One process answers all benchmarks; each is an artifact of its own, so adding one computes
only that one. Every answer is kept. What is right is for `evaluate` to say: the gold answers
are not read here, so that correcting one samples nothing anew.

    python -m mpd.answers --settings JSON --student .../manifest.json \\
        --benchmarks dev=.../dev.parquet aime=.../aime.parquet --output .../answers
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.evaluate import AnswersSettings, BenchmarkAnswers
from mpd.config.resources import GenerationResources
from mpd.engines.base import Completion, Engine, Request, seed_of
from mpd.engines.opening import open_engine
from mpd.engines.tasks import Task, complete, require_room
from mpd.job import command
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest
from mpd.store.outputs import Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.text.prompts import Prompts
from mpd.text.vocabulary import Vocabulary

ASKED = ("problem_id", "question")  # the columns of a benchmark that are read


def answer(
    engine: Callable[[], Engine],
    name: str,
    path: Path,
    settings: BenchmarkAnswers,
    rows_per_part: int,
    parts: Parts,
) -> None:
    """Answer the problems of one benchmark; the engine is made only where a part is missing.

    Raises ValueError where a question cannot be said, or no prompt leaves room for an answer.
    """
    problems = table.read_columns(path, ASKED)
    indices = pl.Series(range(settings.num_samples), dtype=pl.Int32)
    rows = problems.join(pl.DataFrame({"sample_index": indices}), how="cross")

    def prepare() -> Task:
        prompts = Prompts.plain(engine().vocabulary, settings.chat)
        prompt_ids = [prompts.problem_ids(question) for question in problems["question"]]
        key = f"evaluate.max_new_tokens (benchmark {name})"
        require_room(engine(), prompt_ids, settings, key)
        return answerer(engine(), name, settings, parts.remaining)

    complete(parts, rows, rows_per_part, settings.engine, prepare)


def answerer(engine: Engine, name: str, settings: BenchmarkAnswers, total: int) -> Task:
    """The task of a benchmark: answer each row."""
    from mpd.job.progress import Progress

    prompt_of = cache(Prompts.plain(engine.vocabulary, settings.chat).problem_ids)

    def ask(row: Mapping[str, Any]) -> list[Request]:
        # Named as its section of the configuration: other words would draw other answers.
        seed = seed_of("evaluate", settings.seed, row["problem_id"], row["sample_index"])
        return [Request(prompt_of(row["question"]), seed)]

    def answered(rows: pl.DataFrame, completions: list[list[Completion]]) -> pl.DataFrame:
        prompts = [prompt_of(question) for question in rows["question"]]
        return _frame(
            rows, prompts, [completion for (completion,) in completions], engine.vocabulary
        )

    return Task(engine, settings, ask, answered, Progress(f"answered {name}", total))


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
                "problem_id": row["problem_id"],
                "sample_index": row["sample_index"],
                "prompt_ids": prompt,
                "completion_ids": completion.token_ids,
                "text": vocabulary.text(completion.token_ids),
                "finish_reason": completion.finish_reason,
                "num_tokens": len(completion.token_ids),
            }
            for row, prompt, completion in columns
        ),
        schema.ANSWERS,
    )


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    parser = command.parser(__doc__, "answers", AnswersSettings, GenerationResources)
    parser.add_argument("--student", type=Path, required=True, help="manifest of the student")
    command.benchmark_argument(parser, "benchmarks", "problems")
    return parser


def outputs(arguments: Namespace) -> Outputs:
    """The answers to each benchmark; one engine serves them all."""
    settings: AnswersSettings = arguments.settings
    resources: GenerationResources = command.resources_of(arguments)
    student = read_manifest(arguments.student)["digest"]

    @cache
    def engine() -> Engine:
        return open_engine(arguments.student, settings, resources)

    for name, path in arguments.benchmarks:
        benchmark_settings = settings.of_benchmark(name)
        yield TableOutput(
            schema.ANSWERS,
            arguments.output / f"{name}.parquet",
            benchmark_settings.meaning(),
            {"questions": table.column_digest(path, schema.PROBLEMS, ASKED), "student": student},
            partial(answer, engine, name, path, benchmark_settings, resources.rows_per_part),
            identity={"student": student},
        )


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    command.publish(command_line(), outputs, argv)


if __name__ == "__main__":
    command.run(main, "answers")
