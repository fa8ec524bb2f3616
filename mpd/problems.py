"""problems: read, clean and split the problem sets.

Columns are mapped, gold answers extracted, duplicates removed, and training problems that occur
in a benchmark too (same normalised question, or 13 words in a row). A seeded subset is cut into
shards, beside a development split. dropped.parquet lists the problems that were left out, and why.

    python -m mpd.problems --settings JSON --benchmarks a.parquet b.parquet \\
        --output results/tiny/problems/train          training shards, dev and dropped
    python -m mpd.problems --settings JSON \\
        --output results/tiny/problems/eval/a.parquet a benchmark
"""

import logging
import random
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mpd.config.base import DEV
from mpd.config.files import problem_files
from mpd.config.problems import BenchmarkProblems, ProblemsSettings, Source, TrainingProblems
from mpd.job import command
from mpd.job.layout import Experiment, shards_in, table_in
from mpd.store import schema, table
from mpd.store.digests import file_digest
from mpd.store.outputs import FolderOutput, Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.text.grading.extraction import gold as gold_answer
from mpd.text.questions import problem_id, word_runs
from mpd.text.sources import read_cells

log = logging.getLogger("mpd")

Row = dict[str, Any]


def load(source: Source, seed: int, split: str, scratch: Path) -> list[Row]:
    """The rows of a source: problem_id, question, gold, source_row.

    `split` is the half of the embedded world to draw from: train or test. `scratch` is a folder
    with room for a copy of the rows while they are read. `source_row` is the number of
    `sources.read_cells`.
    Raises ValueError where a column is missing, a question or an answer is empty, or an answer
    is not in the form that the settings name; it names source, row and column.
    """
    tiny = source.source == "tiny"
    cells = _tiny_cells(source, seed, split) if tiny else read_cells(source, scratch)
    rows = []
    for number, question, answer in cells:
        place = f"{source.path or source.source}, row {number}"
        if "+" in source.split:
            place += f" of {source.split}"
        for column, cell in ((source.question, question), (source.answer, answer)):
            if cell is None or not str(cell).strip():
                raise ValueError(f"{place}: column {column} is empty; fix or remove it")
        if not isinstance(question, str):
            raise ValueError(f"{place}: column {source.question} is not text: {question!r}")
        try:
            gold = gold_answer(answer, source.form)
        except ValueError as error:
            raise ValueError(f"{place}, column {source.answer}: {error}") from None
        key = problem_id(question)
        rows.append({"problem_id": key, "question": question, "gold": gold, "source_row": number})
    return rows


def without_duplicates(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """First occurrences, and the rest with the reason duplicate."""
    seen: set[str] = set()
    first, duplicates = [], []
    for row in rows:
        if row["problem_id"] in seen:
            duplicates.append({**row, "reason": "duplicate"})
        else:
            seen.add(row["problem_id"])
            first.append(row)
    return first, duplicates


def without_benchmarks(
    rows: Iterable[Row], benchmark_questions: Iterable[str]
) -> tuple[list[Row], list[Row]]:
    """Rows that occur in no benchmark; the rest with the reason in_ or overlaps_benchmark."""
    benchmark_ids, benchmark_runs = set(), set()
    for question in benchmark_questions:
        benchmark_ids.add(problem_id(question))
        benchmark_runs |= word_runs(question)
    clean, removed = [], []
    for row in rows:
        if row["problem_id"] in benchmark_ids:
            removed.append({**row, "reason": "in_benchmark"})
        elif not benchmark_runs.isdisjoint(word_runs(row["question"])):
            removed.append({**row, "reason": "overlaps_benchmark"})
        else:
            clean.append(row)
    return clean, removed


def split_rows(
    rows: list[Row], num_train: int | None, num_dev: int, seed: int
) -> tuple[list[Row], list[Row], list[Row]]:
    """A seeded development split, training subset, and the rest with the reason not_selected.

    Raises ValueError where there are not enough rows.
    """
    needed = num_dev + (num_train or 1)
    if len(rows) < needed:
        raise ValueError(
            f"problems: {len(rows)} training problems are left after removing duplicates and "
            f"benchmark problems, but num_dev and num_train ask for {needed}; lower them or "
            "give more problems"
        )
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    end = len(rows) if num_train is None else num_dev + num_train
    rest = [{**row, "reason": "not_selected"} for row in shuffled[end:]]
    return shuffled[:num_dev], shuffled[num_dev:end], rest


def write_train(
    folder: Path, scratch: Path, settings: TrainingProblems, benchmarks: list[Path]
) -> None:
    """Fill `folder` with shard_{n}.parquet, dev.parquet and dropped.parquet."""
    questions = [
        question
        for path in benchmarks
        for question in table.read(path, schema.PROBLEMS)["question"]
    ]
    rows = load(settings.train, settings.seed, "train", scratch)
    rows, duplicates = without_duplicates(rows)
    rows, held_out = without_benchmarks(rows, questions)
    dev, train, rest = split_rows(rows, settings.num_train, settings.num_dev, settings.seed)
    for reason in ("in_benchmark", "overlaps_benchmark"):
        count = sum(row["reason"] == reason for row in held_out)
        log.info("%d training problems removed: %s", count, reason)
    log.info("%d duplicates removed; %d train, %d dev", len(duplicates), len(train), len(dev))
    shards = settings.num_shards
    for shard, path in enumerate(shards_in(folder, shards)):
        part = train[len(train) * shard // shards : len(train) * (shard + 1) // shards]
        _write_problems(path, part, schema.PROBLEMS)
    _write_problems(table_in(folder, DEV), dev, schema.PROBLEMS)
    dropped = sorted([*duplicates, *held_out, *rest], key=lambda row: row["source_row"])
    _write_problems(table_in(folder, schema.DROPPED.name), dropped, schema.DROPPED)


def benchmark_rows(settings: BenchmarkProblems, scratch: Path) -> list[Row]:
    """The problems of a benchmark without duplicates, or a seeded subset of num_problems."""
    rows, duplicates = without_duplicates(load(settings, settings.seed, "test", scratch))
    limit = settings.num_problems
    count = len(rows) if limit is None else min(limit, len(rows))
    numbers = random.Random(settings.seed).sample(range(len(rows)), count)
    log.info(
        "%d problems; left out: %d duplicates, %d outside the subset of num_problems",
        *(count, len(duplicates), len(rows) - count),
    )
    return [rows[number] for number in sorted(numbers)]


def remove_surplus(experiment: Experiment, num_shards: int) -> None:
    """Remove the files of shards that no longer exist, so that a glob finds none of them."""
    for number, path in experiment.shard_files():
        if number >= num_shards:
            path.unlink()


def _write_problems(path: Path, rows: list[Row], artifact: schema.Artifact) -> None:
    columns = [{name: row[name] for name in artifact.names} for row in rows]
    table.write(path, table.frame_of(columns, artifact), artifact, {})


def _tiny_cells(source: Source, seed: int, split: str) -> list[tuple[int, str, str]]:
    """Numbers, questions and answers of problems of the embedded world."""
    from mpd.tiny.task import problems

    assert source.num_problems is not None, "its model needs it"
    rows = problems(split, source.num_problems, seed)
    return [(number, row["question"], row["answer"]) for number, row in enumerate(rows)]


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    parser = command.parser(__doc__, "problems", ProblemsSettings)
    parser.add_argument("--benchmarks", type=Path, nargs="*", default=[], help="held-out problems")
    return parser


def outputs(arguments: Namespace) -> Outputs:
    """The folder of the training problems, or the problems of one benchmark."""
    settings: ProblemsSettings = arguments.settings
    if isinstance(settings, TrainingProblems):
        inputs = {str(path): file_digest(path) for path in problem_files(settings.train)}
        contents = sorted(
            table.content_digest(path, schema.PROBLEMS) for path in arguments.benchmarks
        )
        yield FolderOutput(
            "problems",
            schema.problems_version(),
            arguments.output,
            settings.meaning(),
            {**inputs, "benchmarks": " ".join(contents)},
            lambda folder, scratch: write_train(folder, scratch, settings, arguments.benchmarks),
        )
        return

    def compute(parts: Parts) -> None:
        rows = table.frame_of(benchmark_rows(settings, parts.folder), schema.PROBLEMS)
        parts.map(rows, max(len(rows), 1), lambda: lambda part: part)

    inputs = {str(path): file_digest(path) for path in problem_files(settings)}
    yield TableOutput(schema.PROBLEMS, arguments.output, settings.meaning(), inputs, compute)


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    arguments = command.publish(command_line(), outputs, argv)
    settings: ProblemsSettings = arguments.settings
    if isinstance(settings, TrainingProblems) and arguments.mode != "explain":
        remove_surplus(Experiment(arguments.output.parents[1]), settings.num_shards)


if __name__ == "__main__":
    command.run(main, "problems")
