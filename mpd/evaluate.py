"""evaluate: grade a student's answers to the held-out problems, as filter grades.

One process grades all benchmarks, on a CPU, without the model; each is an artifact of its own.
Every answer is kept, with the token budgets at which its completion is already correct.

    python -m mpd.evaluate --settings JSON --student .../manifest.json \\
        --benchmarks dev=.../problems/train/dev.parquet aime=.../problems/eval/aime.parquet \\
        --answers dev=.../answers/dev.parquet aime=.../answers/aime.parquet --output .../evaluate
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import polars as pl

from mpd.config.evaluate import EvaluateSettings
from mpd.config.resources import ThreadResources
from mpd.job import command
from mpd.job.layout import table_in
from mpd.store import schema, table
from mpd.store.joins import matched
from mpd.store.lineage import require_made_from
from mpd.store.model_folder import read_manifest
from mpd.store.outputs import Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.store.row_ranges import ForwardReader, ranges_of
from mpd.text.completions import CompletionReader
from mpd.text.grading import token_budgets
from mpd.text.grading.extraction import extract
from mpd.text.grading.golds import golds_of, read_golds
from mpd.text.grading.grader import Grader
from mpd.text.vocabulary import TokenizerFile

ROWS_PER_PART = 256  # the answers that are in memory, and graded again after a kill, at most
ANSWER_COLUMNS = [
    *("problem_id", "sample_index", "completion_ids", "text", "finish_reason", "num_tokens"),
]


def with_golds(problems: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """The answers with what `read_golds` has of their problems.

    Raises ValueError unless all problems have answers.
    """
    golds = problems.drop("question", "source_row", strict=False)
    rows = matched(answers, golds, schema.PROBLEMS)
    num_answered = rows["problem_id"].n_unique()
    if len(rows) != len(answers) or num_answered != len(problems):
        raise ValueError(
            f"{len(rows)} of {len(answers)} answers have their problem, and {num_answered} of "
            f"{len(problems)} problems an answer: they do not belong to one benchmark; run answers "
            "again"
        )
    return rows


def graded(
    rows: pl.DataFrame, reader: CompletionReader, ladder: list[int], grader: Grader
) -> pl.DataFrame:
    """Evaluation rows of those of `with_golds`, in order.

    `ladder`: the budgets at which prefixes are graded.
    """
    sequences = rows["completion_ids"].to_list()
    answers = [extract(text, reader.close_tag) for text in rows["text"]]
    answers_at = [
        token_budgets.answers_by_budget(ids, answer, ladder, reader.codec.decode, reader.close_tag)
        for ids, answer in zip(sequences, answers, strict=True)
    ]
    verdicts, correct_budgets = token_budgets.grade_with_budgets(
        golds_of(rows), answers, answers_at, grader
    )
    kept = rows.select("problem_id", "sample_index", "gold", "finish_reason", "num_tokens")
    columns = kept.iter_rows(named=True), sequences, answers, verdicts, correct_budgets
    return table.frame_of(
        (
            {
                **row,
                "thinking_tokens": reader.thinking_tokens(ids),
                "answer": answer,
                "verdict": verdict,
                "correct": verdict == "correct",
                "correct_budgets": budgets,
            }
            for row, ids, answer, verdict, budgets in zip(*columns, strict=True)
        ),
        schema.EVALUATE,
    )


def grade(
    problems: Path,
    answers: Path,
    ladder: list[int],
    reader: Callable[[], CompletionReader],
    grader: Grader,
    parts: Parts,
) -> None:
    """Grade the answers to one benchmark. `reader` is called only where a part is missing."""
    golds = read_golds(problems)
    keys = with_golds(golds, table.read_columns(answers, ["problem_id"]))

    def prepare() -> Callable[[int, int], pl.DataFrame]:
        grade_rows = partial(graded, reader=reader(), ladder=ladder, grader=grader)
        answered = ForwardReader(answers, ANSWER_COLUMNS)

        def work(start: int, stop: int) -> pl.DataFrame:
            # Not all gold answers: each part would take the time that a table of them takes.
            part_golds = keys[start:stop].select(golds.columns).unique("problem_id")
            return grade_rows(matched(answered.read(start, stop), part_golds, schema.PROBLEMS))

        return work

    parts.map_ranges(ranges_of(len(keys), ROWS_PER_PART), prepare)


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    parser = command.parser(__doc__, "evaluate", EvaluateSettings, ThreadResources)
    parser.add_argument(
        "--student", type=Path, required=True, help="manifest of the student that answered"
    )
    command.benchmark_argument(parser, "benchmarks", "problems")
    command.benchmark_argument(parser, "answers", "answers")
    return parser


def outputs(arguments: Namespace) -> Outputs:
    """The graded answers to each benchmark; one grader serves them all."""
    student = read_manifest(arguments.student)["digest"]
    settings: EvaluateSettings = arguments.settings
    answers = dict(arguments.answers)

    @cache
    def reader() -> CompletionReader:
        return CompletionReader(TokenizerFile(arguments.student.parent), settings.chat)

    with Grader(num_workers=command.resources_of(arguments).threads) as grader:
        for name, problems in arguments.benchmarks:
            if name not in answers:
                raise ValueError(f"--answers: none to benchmark {name}; give {name}=<its file>")
            benchmark_settings = settings.of_benchmark(name)
            ladder = token_budgets.ladder(benchmark_settings.max_new_tokens)
            identity = {"student": student}
            content = table.content_digest(answers[name], schema.ANSWERS, identity)
            questions = table.column_digest(problems, schema.PROBLEMS, schema.ASKED)
            require_made_from(answers[name], schema.ANSWERS, {"questions": (problems, questions)})
            inputs = {
                "problems": table.content_digest(problems, schema.PROBLEMS),
                "answers": content,
                **identity,
            }
            yield TableOutput(
                schema.EVALUATE,
                table_in(arguments.output, name),
                benchmark_settings.meaning(),
                inputs,
                partial(grade, problems, answers[name], ladder, reader, grader),
                identity=inputs,
            )


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    command.publish(command_line(), outputs, argv)


if __name__ == "__main__":
    command.run(main, "evaluate")
