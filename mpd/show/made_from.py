"""The artifacts that contain a sample, from its problem to the students that were trained on it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from rich.console import Console
from rich.text import Text

from mpd.job.ancestry import Made, ancestry
from mpd.job.layout import Experiment, Round
from mpd.show.shards import STAGES
from mpd.store import schema, table
from mpd.store.signs import harmless

SHOWN = 12  # digits of a fingerprint
READ = {  # the columns that say what became of the sample
    "sample": ["num_tokens", "finish_reason"],
    "compress": ["candidate", "status", "num_tokens"],
    "filter": ["candidate", "verdict", "reason"],
    "logits": ["candidate", "num_tokens"],
}


class Holder(NamedTuple):
    """A file or folder that contains a sample, with its fingerprint, and what it has of it."""

    path: Path
    fingerprint: str
    content: str


def experiments_at(folder: Path) -> list[Experiment]:
    """The experiments that a folder is, or has."""
    places = [folder] if (folder / "problems").is_dir() else sorted(folder.glob("*/"))
    return [Experiment(place) for place in places if Experiment(place).rounds_there()]


def holders(experiment: Experiment, sample_id: str, only: Round | None = None) -> list[Holder]:
    """What contains a sample in the rounds of an experiment, or in one of them, in order.

    sample_id is the same in every round and seed: each round has a trajectory of its own. The
    students are those whose notes name the cache that has the sample, and those that go on from
    them. Raises ValueError where a file or note is damaged.
    """
    made = ancestry(experiment.folder)
    by_place = {place: each for each in made.values() for place in each.places}
    found: list[Holder] = []
    for round in [only] if only else experiment.rounds_there():
        held = list(_in_round(round, sample_id))
        if not held:
            continue
        found += list(_problems(experiment, sample_id)) if not found else []
        found += held
        caches = [by_place[path].key for path, *_ in held if path in by_place]
        found += _students(caches, made)
    return [
        holder._replace(fingerprint=by_place[place].key)
        if (place := _place(holder.path, by_place))
        else holder
        for holder in found
    ]


def _place(path: Path, by_place: Mapping[Path, Made]) -> Path | None:
    """The place of the artifact that a path is, or is in."""
    return next((place for place in (path, path.parent) if place in by_place), None)


def _problems(experiment: Experiment, sample_id: str) -> Iterator[Holder]:
    key = pl.DataFrame({"problem_id": [sample_id.rpartition("-")[0]]})
    for path in experiment.train_shards(experiment.num_train_shards()):
        table.check(path, schema.PROBLEMS)
        for rows in table.groups(path, ["problem_id", "gold"], key):
            for row in rows.iter_rows(named=True):
                yield Holder(path, "", f"its problem, gold {row['gold']}")


def _in_round(round: Round, sample_id: str) -> Iterator[Holder]:
    key = pl.DataFrame({"sample_id": [sample_id]})
    count = round.experiment.num_train_shards()
    for artifact in STAGES:
        for path in round.shards(artifact.name, count):
            if not path.is_file():
                continue
            table.check(path, artifact)
            names = ["sample_id", *READ[artifact.name]]
            rows = [row for frame in table.groups(path, names, key) for row in frame.to_dicts()]
            if rows:
                texts = [_content(artifact.name, row) for row in rows]
                yield Holder(path, "", "; ".join(texts))


def _content(stage: str, row: Mapping[str, Any]) -> str:
    """What a row of a stage says of a sample, in words."""
    if stage == "sample":
        return f"trajectory, {row['num_tokens']} tokens, {row['finish_reason']}"
    rewrite = f"rewrite {row['candidate']}"
    if stage == "compress":
        length = f", {row['num_tokens']} tokens" if row["num_tokens"] else ""
        return f"{rewrite}: {row['status']}{length}"
    if stage == "filter":
        return f"{rewrite}: {row['verdict']}, {row['reason']}"
    return f"{rewrite}: scored, {row['num_tokens']} tokens to train on"


def _students(caches: Sequence[str], made: Mapping[str, Made]) -> Iterator[Holder]:
    """The students of these caches, each followed by those that go on from it."""
    students = [each for each in made.values() if each.kind == "student"]
    logits = {key for key in caches if made[key].kind == "logits"}
    trained = [each for each in students if logits & set(each.sources)]
    for each in trained:
        yield from (Holder(place, "", "student trained on it") for place in each.places)
    later = [each.key for each in trained]
    for key in later:  # which grows
        for each in students:
            if key in each.sources and each.key not in later:
                later.append(each.key)
                yield from (
                    Holder(place, "", "student that goes on from it") for place in each.places
                )


def print_made_from(console: Console, folder: Path, sample_id: str) -> None:
    """List what contains a sample, below results/, or in one experiment or round.

    Raises ValueError where nothing does.
    """
    only = None
    if folder.parent.name.startswith("seed_"):
        only = Round.at(folder)
    experiments = [only.experiment] if only else experiments_at(folder)
    found = [each for place in experiments for each in holders(place, sample_id, only)]
    if not found:
        raise ValueError(
            f"{folder}: nothing there has a sample {harmless(sample_id)}; python -m mpd.show with "
            "the folder of a round lists its samples"
        )
    for path, fingerprint, content in found:
        # Through Text: in a plain string, [1] would be read as a style.
        line = f"{fingerprint[:SHOWN] or '-' * SHOWN}  {path}: {content}"
        console.print(Text(harmless(line)), soft_wrap=True)
