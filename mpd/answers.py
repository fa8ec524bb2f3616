"""answers: a student's answers to the held-out problems, as the engine gives them.

One process answers all benchmarks; each is an artifact of its own, so adding one computes
only that one. Every answer is kept, and `evaluate` grades them: the gold answers are not read here,
so that nothing is sampled again where one is corrected.

    python -m mpd.answers --settings JSON --student .../manifest.json \\
        --benchmarks dev=.../dev.parquet aime=.../aime.parquet --output .../answers
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from mpd.config.evaluate import AnswersSettings, BenchmarkAnswers
from mpd.config.resources import GenerationResources
from mpd.engines.base import Engine, seed_of
from mpd.engines.opening import open_engine
from mpd.engines.question_tasks import (
    QuestionPrompts,
    question_prompts,
    question_task,
    with_sample_index,
)
from mpd.engines.tasks import Task, complete, require_room
from mpd.job import command
from mpd.job.layout import table_in
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest
from mpd.store.outputs import Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.text.prompts import prompt_inputs


def answer(
    engine: Callable[[], Engine],
    name: str,
    path: Path,
    settings: BenchmarkAnswers,
    rows_per_part: int,
    parts: Parts,
) -> None:
    """Answer the problems of one benchmark; `engine` is called only where a part is missing.

    Raises ValueError where a question has a word without a token, or no prompt leaves room for an
    answer.
    """
    problems = table.read_columns(path, schema.ASKED)
    rows = with_sample_index(problems, settings.num_samples)

    def prepare() -> Task:
        prompts = question_prompts(engine().vocabulary, settings.chat, problems["question"])
        key = f"evaluate.max_new_tokens (benchmark {name})"
        require_room(engine(), prompts.values(), settings, key)
        return answerer(engine(), prompts, name, settings, parts.remaining)

    complete(parts, rows, rows_per_part, settings.engine, prepare)


def answerer(
    engine: Engine, prompts: QuestionPrompts, name: str, settings: BenchmarkAnswers, total: int
) -> Task:
    """The task of a benchmark: answer each of `total` rows."""
    from mpd.job.progress import Progress

    def seed(row: Mapping[str, Any]) -> int:
        # Named like its section of config.yaml: other words would draw other answers.
        return seed_of("evaluate", settings.seed, row["problem_id"], row["sample_index"])

    progress = Progress(f"answered {name}", total)
    return question_task(engine, prompts, settings, seed, schema.ANSWERS, progress)


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
        digest = table.column_digest(path, schema.PROBLEMS, schema.ASKED)
        questions = table.read_columns(path, ["question"])["question"]
        texts = [benchmark_settings.chat.prompt, *questions]
        yield TableOutput(
            schema.ANSWERS,
            table_in(arguments.output, name),
            benchmark_settings.meaning(),
            {
                "questions": digest,
                "student": student,
                **prompt_inputs(arguments.student.parent, texts),
            },
            partial(answer, engine, name, path, benchmark_settings, resources.rows_per_part),
            identity={
                "student": student,
                "questions": digest,
                "seed": str(benchmark_settings.seed),
            },
        )


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    command.publish(command_line(), outputs, argv)


if __name__ == "__main__":
    command.run(main, "answers")
