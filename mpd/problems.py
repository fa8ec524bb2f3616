"""problems: read, clean and split the problem sets.

Columns are mapped, gold answers extracted, duplicates removed, and training problems that occur
in a benchmark too (same normalised question, or 13 words in a row). A seeded subset is cut into
shards, with a development split beside it. What was left out stands in dropped.parquet.

    python -m mpd.problems --settings JSON --benchmarks a.parquet b.parquet \\
        --output results/tiny/problems/train          training shards, dev and dropped
    python -m mpd.problems --settings JSON \\
        --output results/tiny/problems/eval/a.parquet a benchmark
"""

import glob
import logging
import random
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mpd.config.files import problem_files
from mpd.config.problems import BenchmarkProblems, ProblemsSettings, Source, TrainingProblems
from mpd.job import command
from mpd.job.layout import Experiment
from mpd.store import schema, table
from mpd.store.digests import file_digest
from mpd.store.outputs import FolderOutput, Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.text.grading.extraction import gold as gold_answer
from mpd.text.questions import problem_id, word_runs

log = logging.getLogger("mpd")

Row = dict[str, Any]


def load(source: Source, seed: int, split: str, scratch: Path) -> list[Row]:
    """The rows of a source: problem_id, question, gold, source_row.

    `split` is the half of the embedded world to draw from: train or test. `scratch` is a folder
    with room for a copy of the rows while they are read. `source_row` counts from the start of
    the file also where only a slice of it is read; where several slices are added up, from the
    start of their sum.
    Raises ValueError where a column is missing, a question or an answer is empty, or an answer
    is not in the form that the settings name; it names source, row and column.
    """
    tiny = source.source == "tiny"
    cells = _tiny(source, seed, split) if tiny else _read(source, scratch)
    added_up = f" of {source.split}" if "+" in source.split else ""
    rows = []
    for number, question, answer in cells:
        where = f"{source.path or source.source}, row {number}{added_up}"
        if question is not None and not isinstance(question, str):
            raise ValueError(f"{where}: column {source.question} is no text: {question!r}")
        if question is None or not question.strip():
            raise ValueError(f"{where}: column {source.question} is empty; mend or remove it")
        if answer is None or not str(answer).strip():
            raise ValueError(f"{where}: column {source.answer} is empty; mend or remove it")
        try:
            gold = gold_answer(answer, source.form)
        except ValueError as error:
            raise ValueError(f"{where}, column {source.answer}: {error}") from None
        rows.append(
            {
                "problem_id": problem_id(question),
                "question": question,
                "gold": gold,
                "source_row": number,
            }
        )
    return rows


def without_duplicates(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """First occurrences, and the rest with the reason duplicate."""
    seen: set[str] = set()
    first, again = [], []
    for row in rows:
        if row["problem_id"] in seen:
            again.append({**row, "reason": "duplicate"})
        else:
            seen.add(row["problem_id"])
            first.append(row)
    return first, again


def without_benchmarks(
    rows: Iterable[Row], benchmark_questions: Iterable[str]
) -> tuple[list[Row], list[Row]]:
    """Rows that occur in no benchmark, and the rest with in_benchmark or overlaps_benchmark."""
    held_out, runs = set(), set()
    for question in benchmark_questions:
        held_out.add(problem_id(question))
        runs |= word_runs(question)
    clean, found = [], []
    for row in rows:
        if row["problem_id"] in held_out:
            found.append({**row, "reason": "in_benchmark"})
        elif not runs.isdisjoint(word_runs(row["question"])):
            found.append({**row, "reason": "overlaps_benchmark"})
        else:
            clean.append(row)
    return clean, found


def split_rows(
    rows: list[Row], num_train: int | None, num_dev: int, seed: int
) -> tuple[list[Row], list[Row], list[Row]]:
    """A seeded development split, training subset, and the rest with the reason not_selected.

    Raises ValueError where there are not enough rows.
    """
    wanted = num_dev + (num_train or 1)
    if len(rows) < wanted:
        raise ValueError(
            f"problems: {len(rows)} training problems are left after removing duplicates and "
            f"benchmark problems, but num_dev and num_train ask for {wanted}; lower them or "
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
    rows, again = without_duplicates(rows)
    rows, found = without_benchmarks(rows, questions)
    dev, train, rest = split_rows(rows, settings.num_train, settings.num_dev, settings.seed)
    for reason in ("in_benchmark", "overlaps_benchmark"):
        count = sum(row["reason"] == reason for row in found)
        log.info("%d training problems removed: %s", count, reason)
    log.info("%d duplicates removed; %d train, %d dev", len(again), len(train), len(dev))
    shards = settings.num_shards
    for shard in range(shards):
        part = train[len(train) * shard // shards : len(train) * (shard + 1) // shards]
        _write(folder / f"shard_{shard}.parquet", part, schema.PROBLEMS)
    _write(folder / "dev.parquet", dev, schema.PROBLEMS)
    dropped = sorted([*again, *found, *rest], key=lambda row: row["source_row"])
    _write(folder / "dropped.parquet", dropped, schema.DROPPED)


def benchmark_rows(settings: BenchmarkProblems, scratch: Path) -> list[Row]:
    """The problems of a benchmark, without duplicates, or a seeded subset of num_problems."""
    rows, again = without_duplicates(load(settings, settings.seed, "test", scratch))
    wanted = settings.num_problems
    count = len(rows) if wanted is None else min(wanted, len(rows))
    chosen = random.Random(settings.seed).sample(range(len(rows)), count)
    log.info(
        "%d problems; left out: %d duplicates, %d outside the subset of num_problems",
        *(count, len(again), len(rows) - count),
    )
    return [rows[number] for number in sorted(chosen)]


def remove_surplus(experiment: Experiment, num_shards: int) -> None:
    """Remove what stages wrote for shards that are no more, so that a glob reads none of it."""
    for number, path in experiment.shard_files():
        if number >= num_shards:
            path.unlink()


def _write(path: Path, rows: list[Row], artifact: schema.Artifact) -> None:
    columns = [{name: row[name] for name in artifact.names} for row in rows]
    table.write(path, table.frame_of(columns, artifact), artifact, {})


def _tiny(source: Source, seed: int, split: str) -> list[tuple[int, Any, Any]]:
    from mpd.tiny.task import problems

    assert source.num_problems is not None, "its model needs it"
    made = problems(split, source.num_problems, seed)
    return [(number, row["question"], row["answer"]) for number, row in enumerate(made)]


def _read(source: Source, scratch: Path) -> list[tuple[int, Any, Any]]:
    """Row numbers, and cells of the question and the answer column, through `datasets`."""
    import datasets
    from datasets.exceptions import DatasetGenerationError

    datasets.disable_progress_bars()
    split = source.split
    if source.source == "hub":
        rows = datasets.load_dataset(
            source.path, source.config, split=split, revision=source.revision
        )
    else:
        (path,) = problem_files(source)
        kinds = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
        if path.suffix not in kinds:
            raise ValueError(f"{path}: give a file that ends in {', '.join(kinds)}")
        try:
            # Not the user's cache: it knows a file by path and time, not by content.
            with tempfile.TemporaryDirectory(dir=scratch) as cache:
                rows = datasets.load_dataset(
                    kinds[path.suffix],
                    data_files=glob.escape(str(path.absolute())),  # it is read as a pattern
                    split=split,
                    keep_in_memory=True,
                    cache_dir=cache,
                )
        except (DatasetGenerationError, ValueError) as error:
            cause = error.__cause__ or error
            raise ValueError(
                f"{path}: no rows of split {split} readable as {kinds[path.suffix]}: {cause}"
            ) from None
    for key, column in (("question", source.question), ("answer", source.answer)):
        if column not in rows.column_names:
            raise ValueError(
                f"{source.path}: no column {column} for the {key}; "
                f"it has {', '.join(rows.column_names)}: set {key} in this problem source"
            )
    if not len(rows):
        raise ValueError(f"{source.path}: no rows in split {split}; mend split or the file")
    lengths = {name: info.num_examples for name, info in rows.info.splits.items()}
    slices = datasets.ReadInstruction.from_spec(split).to_absolute(lengths)
    start = slices[0].from_ if len(slices) == 1 else 0
    numbers = range(start, start + len(rows))
    return list(zip(numbers, rows[source.question], rows[source.answer], strict=True))


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
