"""problems: read, clean and split the problem sets.

Columns are mapped, gold answers extracted, duplicates removed, and training problems that occur
in a benchmark too (same normalised question, or 13 words in a row). A seeded subset is cut into
shards, beside a development split, which may have a source of its own: its problems are then held
out like those of a benchmark. dropped.parquet lists the problems that were left out, and why.

    python -m mpd.problems --settings JSON --benchmarks a.parquet b.parquet \\
        --output results/tiny/problems/train          training shards, dev and dropped
    python -m mpd.problems --settings JSON \\
        --output results/tiny/problems/eval/a.parquet a benchmark
"""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from mpd.config.base import DEV
from mpd.config.files import problem_files
from mpd.config.gym import require_gym_version
from mpd.config.problem_settings import BenchmarkProblems, ProblemsSettings, TrainingProblems
from mpd.config.problems import Source
from mpd.job import command
from mpd.job.layout import Experiment, shards_in, table_in
from mpd.store import schema, table
from mpd.store.digests import digest_of, file_digest
from mpd.store.outputs import FolderOutput, Outputs, TableOutput
from mpd.store.signs import quoted
from mpd.text.grading.extraction import gold as gold_answer
from mpd.text.grading.golds import read_golds
from mpd.text.gym_problems import problems_of
from mpd.text.overlap import Row, without_benchmarks, without_duplicates
from mpd.text.questions import problem_id
from mpd.text.rows import BadRow, Faults, FileRow, is_blank
from mpd.text.sources import answer_text, read_cells, reference_texts
from mpd.text.subsets import require_rounds, split_rows, subset

log = logging.getLogger("mpd")

SETS = {"train": "training", DEV: "development"}  # what the log calls the problems of a split


def load(
    source: Source,
    seed: int,
    split: str,
    on_bad_row: str = "refuse",
    held_out: Collection[str] = frozenset(),
) -> tuple[list[Row], list[Row]]:
    """The rows of a source: problem_id, question, gold, source_row; and those that are bad.

    `split` says what is made of tasks and of the embedded world: train, test or dev. Problems that
    tasks make have scorer, entry and rounds, too, and none has a problem_id that is `held_out`.
    `source_row` is the number of `sources.read_cells`. Bad rows cannot be read: they are no row of
    the format, a question or an answer is empty, or an answer is not in the form that the settings
    name. They have a `reason` in place of `gold`.
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


class HeldOut(NamedTuple):
    """Problems that no other set may have: ids and questions, and whether scorers grade them."""

    ids: list[str]
    questions: list[str]
    has_scorer: bool


def load_apart(
    settings: TrainingProblems, source: Source, split: str, sets: Mapping[str, Sequence[HeldOut]]
) -> tuple[list[Row], list[Row]]:
    """The different rows of a source that are in none of `sets`; the others, each with a reason.

    `sets` has, by the name that reasons call them, those that are held out.
    """
    ids = {key for held_out in sets.values() for one in held_out for key in one.ids}
    rows, left_out = load(source, settings.seed, split, settings.on_bad_row, ids)
    rows, duplicates = without_duplicates(rows)
    left_out += duplicates
    for name, held_out in sets.items():
        # Problems of the same tasks share most of their words.
        compared = [one.questions for one in held_out if not (source.has_scorer and one.has_scorer)]
        rows, removed = without_benchmarks(rows, compared, name)
        left_out += removed
        for reason in (f"in_{name}", f"overlaps_{name}"):
            count = sum(row["reason"] == reason for row in removed)
            log.info("%d %s problems removed: %s", count, SETS[split], reason)
    return rows, left_out


def write_train(folder: Path, settings: TrainingProblems, benchmarks: list[Path]) -> None:
    """Fill `folder` with shard_{n}.parquet, dev.parquet and dropped.parquet.

    Where the source has references, references.parquet has those of the training problems.
    """
    source, own_dev = settings.train, settings.dev
    sets = {"benchmark": [held_out_in(path) for path in benchmarks]}
    dev: list[Row] = []
    if own_dev is not None:
        rows, left_out = load_apart(settings, own_dev, DEV, sets)
        dev = subset(rows, own_dev.num_problems, settings.seed, _num_duplicates(left_out))
        if not dev:
            count = len(left_out)
            raise ValueError(
                f"problems.dev: no problem is left, since all {count} cannot be read, are in a "
                "benchmark or have a copy; give others"
            )
        ids, questions = ([row[key] for row in dev] for key in ("problem_id", "question"))
        sets[DEV] = [HeldOut(ids, questions, own_dev.has_scorer)]
    rows, left_out = load_apart(settings, source, "train", sets)
    if not rows and any(row["reason"] in (f"in_{DEV}", f"overlaps_{DEV}") for row in left_out):
        raise ValueError(
            "problems.dev has all training problems that no benchmark has; set its num_problems, "
            "or give it problems of its own"
        )
    cut, train, rest = split_rows(rows, settings.num_train, settings.num_dev, settings.seed)
    dev = dev or cut
    duplicates = _num_duplicates(left_out)
    log.info("%d duplicates removed; %d train, %d dev", duplicates, len(train), len(dev))
    if source.curriculum:
        require_rounds(train, source.num_steps)
    artifact = schema.problems_of(source.has_scorer, source.curriculum is not None)
    shards = settings.num_shards
    for shard, path in enumerate(shards_in(folder, shards)):
        part = train[len(train) * shard // shards : len(train) * (shard + 1) // shards]
        _write_problems(path, part, artifact, {"shard": str(shard)})
    of_dev = schema.problems_of((own_dev or source).has_scorer)
    _write_problems(table_in(folder, DEV), dev, of_dev, {"benchmark": DEV})
    if source.references:
        path = table_in(folder, schema.REFERENCES.name)
        _write_problems(path, train, schema.REFERENCES, {})
    dropped = sorted([*left_out, *rest], key=lambda row: row["source_row"])
    _write_problems(table_in(folder, schema.DROPPED.name), dropped, schema.DROPPED, {})


def _num_duplicates(left_out: Sequence[Row]) -> int:
    return sum(row["reason"] == "duplicate" for row in left_out)


def held_out_in(benchmark: Path) -> HeldOut:
    """The problems of a benchmark."""
    frame = table.read(benchmark, schema.PROBLEMS)
    has_scorer = "scorer" in read_golds(benchmark)
    return HeldOut(frame["problem_id"].to_list(), frame["question"].to_list(), has_scorer)


def benchmark_rows(settings: BenchmarkProblems) -> list[Row]:
    """The problems of a benchmark without duplicates, or a seeded subset of num_problems."""
    rows, _ = load(settings, settings.seed, "test", settings.on_bad_row)
    rows, duplicates = without_duplicates(rows)
    return subset(rows, settings.num_problems, settings.seed, len(duplicates))


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
    if split == DEV:  # from the half that models learn from, as if it were cut from training
        split, seed = "train", int(digest_of([DEV, seed])[:8], 16)
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
    if any(source.has_scorer for source in settings.sources):
        require_gym_version(settings.gym_version)
    paths = [path for source in settings.sources for path in problem_files(source)]
    inputs = {str(path): file_digest(path) for path in paths}
    if isinstance(settings, TrainingProblems):
        contents = sorted(
            table.content_digest(path, schema.PROBLEMS) for path in arguments.benchmarks
        )
        yield FolderOutput(
            "problems",
            schema.problems_version(**settings.kinds),
            arguments.output,
            settings.meaning(),
            {**inputs, "benchmarks": " ".join(contents)},
            lambda folder, _: write_train(folder, settings, arguments.benchmarks),
        )
        return
    artifact = schema.problems_of(settings.has_scorer)
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
