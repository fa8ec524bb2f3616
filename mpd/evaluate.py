"""evaluate: a student's answers to the held-out problems, graded by the scorer of filter.

One process answers all benchmarks; each is an artifact of its own, so adding one computes
only that one. Every answer is kept, with the smaller token budgets at which it is right.

    python -m mpd.evaluate --settings JSON --student .../manifest.json \\
        --benchmarks dev=.../dev.parquet aime=.../aime.parquet --output .../evaluate
"""

import logging
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import polars as pl

from mpd import answers, command, schema, table
from mpd.chat import ChatFormat, answer_delimiter
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
from mpd.model_folder import read_manifest
from mpd.reporting import budgets
from mpd.store import Parts

log = logging.getLogger("mpd")


def answer(
    engine: Callable[[], Engine],
    name: str,
    path: Path,
    settings: Mapping[str, Any],
    rows_per_part: int,
    threads: int,
    parts: Parts,
) -> None:
    """Answer the problems of one benchmark; the engine is made only where a part is missing.

    Raises ValueError where a question cannot be said, or no prompt leaves room for an answer.
    """
    problems = table.read(path, schema.PROBLEMS)
    indices = pl.Series(range(settings["num_samples"]), dtype=pl.Int32)
    rows = problems.join(pl.DataFrame({"sample_index": indices}), how="cross")

    def prepare() -> Task:
        prompts = [engine().chat.problem_ids(question) for question in problems["question"]]
        key = f"evaluate.max_new_tokens (benchmark {name})"
        require_room(engine(), prompts, settings, key)
        return evaluator(engine(), name, settings, parts.remaining, threads)

    complete(parts, rows, rows_per_part, settings["engine"], prepare)


def evaluator(
    engine: Engine, name: str, settings: Mapping[str, Any], total: int, num_workers: int = 1
) -> Task:
    """The task of a benchmark: answer and grade each row, `num_workers` of them at a time."""
    from mpd.progress import Progress

    prompt_of = cache(engine.chat.problem_ids)

    def ask(row: Mapping[str, Any]) -> list[Request]:
        seed = seed_of("evaluate", settings["seed"], row["problem_id"], row["sample_index"])
        return [Request(prompt_of(row["question"]), seed)]

    def answered(rows: pl.DataFrame, completions: list[list[Completion]]) -> pl.DataFrame:
        made = [completion for (completion,) in completions]
        ladder = budgets.ladder(settings["max_new_tokens"])
        return graded(rows, made, engine.chat, ladder, num_workers)

    return Task(engine, settings, ask, answered, Progress(f"answered {name}", total))


def graded(
    rows: pl.DataFrame,
    completions: list[Completion],
    format: ChatFormat,
    ladder: list[int],
    num_workers: int = 1,
) -> pl.DataFrame:
    """Evaluation rows of completions, in order. `ladder`: the budgets at which prefixes count."""
    texts = [format.text(completion.token_ids) for completion in completions]
    close = answer_delimiter(format.chat)
    found = [answers.extract(text, close) for text in texts]
    cut = [
        budgets.answers_by_budget(completion.token_ids, answer, ladder, format.text, close)
        for completion, answer in zip(completions, found, strict=True)
    ]
    verdicts, correct_budgets = budgets.grade(rows["gold"].to_list(), found, cut, num_workers)
    columns = (completions, texts, found, verdicts, correct_budgets)
    return table.frame_of(
        (
            {
                "problem_id": row["problem_id"],
                "sample_index": row["sample_index"],
                "gold": row["gold"],
                "completion_ids": completion.token_ids,
                "text": text,
                "finish_reason": completion.finish_reason,
                "num_tokens": len(completion.token_ids),
                "thinking_tokens": format.thinking_tokens(completion.token_ids),
                "answer": answer,
                "verdict": verdict,
                "correct": verdict == "correct",
                "correct_budgets": at,
            }
            for row, completion, text, answer, verdict, at in zip(
                rows.iter_rows(named=True), *columns, strict=True
            )
        ),
        schema.EVALUATE,
    )


def main(argv: list[str] | None = None) -> None:
    parser = command.parser(__doc__, "evaluate")
    parser.add_argument("--student", type=Path, required=True, help="manifest of the student")
    parser.add_argument("--benchmarks", nargs="+", required=True, help="name=problems.parquet")
    command.generation_arguments(parser)
    command.engine_arguments(parser)
    arguments = parser.parse_args(argv)
    student = read_manifest(arguments.student)
    common = {key: value for key, value in arguments.settings.items() if key != "benchmarks"}

    @cache
    def engine() -> Engine:
        return open_engine(arguments.student, common, arguments)

    sizes = arguments.rows_per_part, arguments.threads
    for benchmark in arguments.benchmarks:
        name, _, path = benchmark.partition("=")
        settings = {**arguments.settings["benchmarks"][name], **common}
        command.store_of(arguments).publish_table(
            schema.EVALUATE,
            arguments.output / f"{name}.parquet",
            settings,
            {
                "problems": table.content_digest(Path(path), schema.PROBLEMS),
                "student": student["digest"],
            },
            partial(answer, engine, name, Path(path), settings, *sizes),
            identity={"student": student["digest"]},
        )


if __name__ == "__main__":
    command.run(main, "evaluate")
