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
from collections.abc import Collection
from decimal import Decimal
from pathlib import Path

from mpd.config.base import DEV
from mpd.config.files import problem_files
from mpd.config.gym import require_gym_version
from mpd.config.problem_settings import BenchmarkProblems, ProblemsSettings, TrainingProblems
from mpd.config.problems import Source
from mpd.job import command
from mpd.job.layout import Experiment, shards_in, table_in
from mpd.store import schema, table
from mpd.store.digests import file_digest
from mpd.store.outputs import FolderOutput, Outputs, TableOutput
from mpd.store.signs import quoted
from mpd.text.grading.extraction import gold as gold_answer
from mpd.text.grading.golds import read_golds
from mpd.text.gym_problems import problems_of
from mpd.text.overlap import Row, without_benchmarks, without_duplicates
from mpd.text.questions import problem_id
from mpd.text.rows import BadRow, Faults, FileRow, is_blank
from mpd.text.sources import answer_text, read_cells, reference_texts

log = logging.getLogger("mpd")


def load(
    source: Source,
    seed: int,
    split: str,
    on_bad_row: str = "refuse",
    held_out: Collection[str] = frozenset(),
) -> tuple[list[Row], list[Row]]:
    """The rows of a source: problem_id, question, gold, source_row; and those that are bad.

    `split` is the half of the embedded world to draw from: train or test. Problems that tasks make
    have scorer and entry, too, and none has a problem_id that is `held_out`. `source_row` is the
    number of `sources.read_cells`. Bad rows cannot be read: they are no row of the format, a
    question or an answer is empty, or an answer is not in the form that the settings name. They
    have a `reason` in place of `gold`.
    Raises ValueError where a column is missing, and where rows are bad and `on_bad_row` is not
    drop; it names source, rows and column.
    """
    if source.has_scorer:
        return problems_of(source, seed, split, held_out), []
    tiny = source.source == "tiny"
    rows: list[Row] = []
    bad: list[Row] = []
    faults = []
    for number, cells in _tiny_cells(source, seed, split) if tiny else read_cells(source):
        has_question = isinstance(cells, dict) and isinstance(cells[source.question], str)
        question = cells[source.question] if isinstance(cells, dict) and has_question else None
        key = None if question is None else problem_id(question)
        row = {"problem_id": key, "question": question, "source_row": number}
        try:
            gold = _gold_of(cells, source)
            references = reference_texts(cells, source)
            rows.append({**row, "gold": gold, "original": None, **references})
        except ValueError as error:
            bad.append({**row, "reason": f"unreadable: {error}"})
            faults.append((number, str(error), question))
    if faults:
        _report_faults(source, faults, on_bad_row)
    return rows, bad


def _report_faults(
    source: Source, faults: list[tuple[int, str, str | None]], on_bad_row: str
) -> None:
    """Raise ValueError with the bad rows of a source, or log them where they are dropped."""
    numbered_in = f" of {source.split}" if "+" in source.split else ""
    bad_rows = Faults()
    for number, reason, text in faults:
        question = "" if len(faults) == 1 else f" ({(text or '')[:60]!r})"
        bad_rows.add(f"row {number}{numbered_in}{question}", reason)
    advice = "fix or remove them, or set problems.on_bad_row: drop"
    sentence = bad_rows.sentence(source.path or source.source, advice)
    if on_bad_row != "drop":
        raise ValueError(sentence)
    log.warning("%d rows that cannot be read are dropped: %s", len(faults), sentence)


def _gold_of(cells: FileRow, source: Source) -> str:
    """The gold answer of a row. Raises ValueError where the row is bad."""
    if isinstance(cells, BadRow):
        raise ValueError(cells.reason)
    for column in (source.question, source.answer):
        if is_blank(cells[column]):
            raise ValueError(f"column {column} is empty; fix or remove it")
    question = cells[source.question]
    if not isinstance(question, str):
        shown = str(question) if isinstance(question, Decimal) else quoted(question)
        raise ValueError(f"column {source.question} is not text: {shown}; fix or remove it")
    try:
        return gold_answer(answer_text(cells[source.answer]), source.form)
    except ValueError as error:
        raise ValueError(f"column {source.answer}: {error}") from None


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


def write_train(folder: Path, settings: TrainingProblems, benchmarks: list[Path]) -> None:
    """Fill `folder` with shard_{n}.parquet, dev.parquet and dropped.parquet.

    Where the source has references, references.parquet has those of the training problems.
    """
    artifact = schema.problems_of(settings.train.has_scorer)
    frames = [table.read(path, schema.PROBLEMS) for path in benchmarks]
    ids = {key for frame in frames for key in frame["problem_id"]}
    rows, bad = load(settings.train, settings.seed, "train", settings.on_bad_row, ids)
    rows, duplicates = without_duplicates(rows)
    # Problems of the same tasks share most of their words.
    compared = [
        frame["question"].to_list()
        for path, frame in zip(benchmarks, frames, strict=True)
        if not settings.train.has_scorer or "scorer" not in read_golds(path)
    ]
    rows, held_out = without_benchmarks(rows, compared)
    dev, train, rest = split_rows(rows, settings.num_train, settings.num_dev, settings.seed)
    for reason in ("in_benchmark", "overlaps_benchmark"):
        count = sum(row["reason"] == reason for row in held_out)
        log.info("%d training problems removed: %s", count, reason)
    log.info("%d duplicates removed; %d train, %d dev", len(duplicates), len(train), len(dev))
    shards = settings.num_shards
    for shard, path in enumerate(shards_in(folder, shards)):
        part = train[len(train) * shard // shards : len(train) * (shard + 1) // shards]
        _write_problems(path, part, artifact, {"shard": str(shard)})
    _write_problems(table_in(folder, DEV), dev, artifact, {"benchmark": DEV})
    if settings.train.references:
        path = table_in(folder, schema.REFERENCES.name)
        _write_problems(path, train, schema.REFERENCES, {})
    dropped = sorted([*bad, *duplicates, *held_out, *rest], key=lambda row: row["source_row"])
    _write_problems(table_in(folder, schema.DROPPED.name), dropped, schema.DROPPED, {})


def benchmark_rows(settings: BenchmarkProblems) -> list[Row]:
    """The problems of a benchmark without duplicates, or a seeded subset of num_problems."""
    rows, _ = load(settings, settings.seed, "test", settings.on_bad_row)
    rows, duplicates = without_duplicates(rows)
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


def _write_problems(
    path: Path, rows: list[Row], artifact: schema.Artifact, identity: table.Identity
) -> None:
    columns = [{name: row[name] for name in artifact.names} for row in rows]
    table.write(path, table.frame_of(columns, artifact), artifact, identity)


def _tiny_cells(source: Source, seed: int, split: str) -> list[tuple[int, FileRow]]:
    """Numbers and cells of problems of the embedded world."""
    from mpd.tiny.worlds import WORLDS

    assert source.num_problems is not None, "its model needs it"
    rows = WORLDS[source.world].problems(split, source.num_problems, seed)
    for key, column in source.references.items():
        if column not in rows[0]:
            raise ValueError(
                f"source: tiny: no column {column} for the {key}; its problems have "
                f"{', '.join(rows[0])}"
            )
    named = {source.question: "question", source.answer: "answer"}
    named |= {column: column for column in source.references.values()}
    cells = [{name: row.get(name, row[key]) for name, key in named.items()} for row in rows]
    return list(enumerate(cells))


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    parser = command.parser(__doc__, "problems", ProblemsSettings)
    parser.add_argument("--benchmarks", type=Path, nargs="*", default=[], help="held-out problems")
    return parser


def outputs(arguments: Namespace) -> Outputs:
    """The folder of the training problems, or the problems of one benchmark."""
    settings: ProblemsSettings = arguments.settings
    source = settings.train if isinstance(settings, TrainingProblems) else settings
    if source.has_scorer:
        require_gym_version(settings.gym_version)
    inputs = {str(path): file_digest(path) for path in problem_files(source)}
    if isinstance(settings, TrainingProblems):
        contents = sorted(
            table.content_digest(path, schema.PROBLEMS) for path in arguments.benchmarks
        )
        yield FolderOutput(
            "problems",
            schema.problems_version(source.has_scorer, bool(settings.train.references)),
            arguments.output,
            settings.meaning(),
            {**inputs, "benchmarks": " ".join(contents)},
            lambda folder, _: write_train(folder, settings, arguments.benchmarks),
        )
        return
    artifact = schema.problems_of(source.has_scorer)
    identity = {"benchmark": arguments.output.stem}
    yield TableOutput(
        artifact,
        arguments.output,
        settings.meaning(),
        {**inputs, **identity},
        lambda parts: parts.write(table.frame_of(benchmark_rows(settings), artifact)),
        identity=identity,
    )


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    arguments = command.publish(command_line(), outputs, argv)
    settings: ProblemsSettings = arguments.settings
    if isinstance(settings, TrainingProblems) and arguments.mode != "explain":
        remove_surplus(Experiment(arguments.output.parents[1]), settings.num_shards)


if __name__ == "__main__":
    command.run(main, "problems")
