"""bank: the reasoning paths of earlier rounds, and the route of each training problem along them.

Right structural rationales of all rounds before make a bank of paths by category and intent. Each
problem gets the route whose intent and path are most like its question, which the teacher is shown
in this round. The first file has the bank, routes.parquet beside it the routes.

    python -m mpd.bank --settings '{}' --embedder .../manifest.json \\
        --problems .../problems/train/shard_0.parquet \\
        --compress .../round_1/compress/shard_0.parquet \\
        --filter .../round_1/filter/shard_0.parquet --output .../round_2/bank/bank.parquet
"""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import polars as pl

from mpd.config.bank import BankSettings
from mpd.config.resources import ThreadResources
from mpd.job import command
from mpd.job.layout import table_in
from mpd.store import schema, table
from mpd.store.joins import matched
from mpd.store.lineage import contents_of
from mpd.store.model_folder import read_manifest
from mpd.store.outputs import Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.text.embedding import Embedder
from mpd.text.path_bank import PathBank, bank_of, entries_of
from mpd.text.rationales import Rationale, last_rationale
from mpd.text.routing import routes_of

log = logging.getLogger("mpd")

Shard = tuple[Path, Path]  # rewrites, and verdicts on them


def rounds_in(arguments: Namespace) -> dict[int, list[Shard]]:
    """The shards of each round, by its number.

    Raises ValueError where some rounds have fewer shards than others.
    """
    num_shards, shards = len(arguments.problems), len(arguments.compress)
    if shards != len(arguments.filter) or shards % num_shards:
        raise ValueError(
            f"{num_shards} shards of problems, {shards} of rewrites and {len(arguments.filter)} of "
            "verdicts: give all shards of all rounds before, round by round"
        )
    pairs = list(zip(arguments.compress, arguments.filter, strict=True))
    starts = range(0, shards, num_shards)
    return {n: pairs[start : start + num_shards] for n, start in enumerate(starts, start=1)}


def right_rationales(shards: list[Shard]) -> list[Rationale]:
    """The rationales of a round whose answer is right, in the order of their samples.

    Rewrites are in memory one row group at a time. Raises ValueError where a shard has other rows
    than the verdicts on it.
    """
    key = list(schema.COMPRESS.key)
    found = []
    for compress, verdicts in shards:
        states = table.read_columns(compress, [*key, "status"])
        correct = table.read_columns(verdicts, [*key, "correct"])
        rows = matched(states, correct, schema.FILTER)
        if not len(rows) == len(states) == len(correct):
            raise ValueError(
                f"{compress}: its rows are not those of {verdicts}; the shards do not belong "
                "together"
            )
        right = rows.filter(pl.col("correct") & (pl.col("status") == "ok")).select(key)
        for group in table.groups(compress, [*key, "rewrite"], right):
            found += [(place, last_rationale(text)) for *place, text in group.iter_rows()]
    found.sort(key=itemgetter(0))
    return [rationale for _, rationale in found if rationale is not None]


def make_bank(
    settings: BankSettings, rounds: dict[int, list[Shard]], embedder: Embedder, parts: Parts
) -> None:
    """Write the paths of a bank, and log how many there are, or that there are none."""
    usable: list[bool] = []  # of each right rationale

    def counted(shards: list[Shard]) -> Iterator[Rationale]:
        for rationale in right_rationales(shards):
            usable.append(any(True for _ in entries_of(rationale)))
            yield rationale

    rationales = {number: counted(shards) for number, shards in rounds.items()}
    bank = bank_of(rationales, settings, embedder)
    rows = bank.rows()
    log.info(
        "%d paths for %d intents in %d categories; %d more are pending",
        *(len(rows), len(bank.cells), len({category for category, _ in bank.cells})),
        sum(map(len, bank.pending.values())),
    )
    if not rows:
        log.warning(
            "no right rationale of the rounds before has a path that can be used (%d right, %d "
            "usable), so that the bank is empty: the teacher is asked as in round 1",
            *(len(usable), sum(usable)),
        )
    parts.write(table.frame_of(rows, schema.BANK))


def route_problems(bank: Path, problems: list[Path], embedder: Embedder, parts: Parts) -> None:
    """Write the route of each problem along a bank, or no rows where it is empty."""
    paths = PathBank.of(table.read(bank, schema.BANK).iter_rows(named=True))
    questions = pl.concat(table.read_columns(path, ["problem_id", "question"]) for path in problems)
    routes = routes_of(paths, questions["question"].to_list(), embedder)
    rows = [
        {"problem_id": problem_id, "route": route}
        for problem_id, route in zip(questions["problem_id"][: len(routes)], routes, strict=True)
    ]
    parts.write(table.frame_of(rows, schema.ROUTES))


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    parser = command.parser(__doc__, "bank", BankSettings, ThreadResources)
    inputs = {
        "problems": "all shards of the training problems",
        "compress": "all shards of rewrites of all rounds before, round by round",
        "filter": "the verdicts on these, in the same order",
    }
    for name, words in inputs.items():
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True, help=words)
    parser.add_argument(
        "--embedder", type=Path, required=True, help="manifest of the model that embeds texts"
    )
    return parser


def outputs(arguments: Namespace) -> Outputs:
    """The bank, then the routes along it."""
    settings: BankSettings = arguments.settings
    rounds = rounds_in(arguments)
    embedder = Embedder(arguments.embedder, command.resources_of(arguments).threads)
    digest = {"embedder": read_manifest(arguments.embedder)["digest"]}
    contents = [
        contents_of(
            {
                "problems": (problems, schema.PROBLEMS),
                "compress": (compress, schema.COMPRESS),
                "filter": (verdicts, schema.FILTER),
            }
        )
        for shards in rounds.values()
        for problems, (compress, verdicts) in zip(arguments.problems, shards, strict=True)
    ]
    shards = " ".join(each["problems"] for each in contents[: len(arguments.problems)])
    bank = yield TableOutput(
        schema.BANK,
        arguments.output,
        settings.meaning(),
        {
            **digest,
            "rewrites": " ".join(each["compress"] for each in contents),
            "verdicts": " ".join(each["filter"] for each in contents),
        },
        lambda parts: make_bank(settings, rounds, embedder, parts),
        identity=digest,
    )
    if bank is None:
        return
    made_from = {**digest, "bank": table.content_digest(bank, schema.BANK), "shards": shards}
    yield TableOutput(
        schema.ROUTES,
        table_in(arguments.output.parent, schema.ROUTES.name),
        {},
        made_from,
        lambda parts: route_problems(bank, arguments.problems, embedder, parts),
        identity=made_from,
    )


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    command.publish(command_line(), outputs, argv)


if __name__ == "__main__":
    command.run(main, "bank")
