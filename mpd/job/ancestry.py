"""Which artifact was made from which, from their notes; nothing else says it, and nothing runs.

A note names its inputs by the digests of their content. The content of a table has its digest in
the footer, that of a model in the manifest.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mpd.store.differences import Note
from mpd.store.files import read_json
from mpd.store.manifest import MANIFEST
from mpd.store.notes import note_key, read_note
from mpd.store.units import Unit, units_in

# Inputs that are artifacts; notes also name tokenizers, files of the user, and the like.
ARTIFACT_INPUTS = (
    *("problems", "questions", "benchmarks", "student", "teacher"),
    *("sample", "compress", "filter", "logits", "answers"),
    *("embedder", "rewrites", "verdicts", "bank", "routes", "shards"),
)


@dataclass(frozen=True)
class Made:
    """An artifact with its note, in one place or, where it was linked to several, in all of them.

    `key` is its fingerprint. `sources` are the fingerprints of what it was made from, in order;
    `missing` the inputs, as name and digest, that are not there any more.
    """

    key: str
    note: Note
    places: list[Path] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """What it is, such as sample or student."""
        return self.note["kind"]


def ancestry(folder: Path) -> dict[str, Made]:
    """The artifacts below a folder by fingerprint, with what each was made from.

    Raises ValueError where the folder has none, or a note, footer or manifest is damaged.
    """
    artifacts: dict[str, Made] = {}
    by_content: dict[str, list[str]] = {}
    for unit in units_in(folder, folder / "store"):
        if unit.is_entry or unit.note is None:
            continue
        note = read_note(unit.note, unit.place)
        key = note_key(note)
        made = artifacts.setdefault(key, Made(key, note))
        made.places.append(unit.place)
        if len(made.places) == 1:
            for digest in contents_of_unit(unit):
                by_content.setdefault(digest, []).append(key)
    if not artifacts:
        raise ValueError(f"{folder}: no artifact with a note there; give results/<experiment>")
    for made in artifacts.values():
        _find_sources(made, artifacts, by_content)
    return artifacts


def contents_of_unit(unit: Unit) -> Iterator[str]:
    """The digests under which notes name what is in a unit."""
    from mpd.store import schema, table
    from mpd.store.row_groups import RowGroups

    if (unit.place / MANIFEST).is_file():
        yield str(read_json(unit.place / MANIFEST).get("digest"))
    problems = {artifact.name for artifact in (schema.PROBLEMS, *schema.PROBLEMS.extensions)}
    tables = sorted(unit.place.glob("*.parquet")) if unit.place.is_dir() else [unit.place]
    for path in (path for path in tables if path.suffix == ".parquet"):
        footer = RowGroups(path).footer
        yield footer["content"]
        if footer["artifact"] in problems:
            yield table.column_digest(path, schema.PROBLEMS, schema.ASKED)


def _find_sources(
    made: Made, artifacts: Mapping[str, Made], by_content: Mapping[str, list[str]]
) -> None:
    """Fill in the sources. Of several with equal content, those of its round or name are meant."""
    rounds = set(map(_round_of, made.places))
    names = {place.name for place in made.places}
    found: dict[str, None] = {}
    for name, value in made.note["inputs"].items():
        for digest in value.split():
            keys = [key for key in by_content.get(digest, ()) if key != made.key]
            if not keys and name in ARTIFACT_INPUTS:
                made.missing.append((name, digest))
            keys = _narrowed(keys, artifacts, lambda place: _round_of(place) in rounds)
            keys = _narrowed(keys, artifacts, lambda place: place.name in names)
            found |= dict.fromkeys(keys)
    made.sources.extend(found)


def _round_of(place: Path) -> Path:
    """The folder of the round of a shard or a student."""
    return place.parent if place.is_dir() else place.parent.parent


def _narrowed(
    keys: list[str], artifacts: Mapping[str, Made], fits: Callable[[Path], bool]
) -> list[str]:
    """The artifacts that have a place that fits; all of them where none has."""
    fitting = [key for key in keys if any(map(fits, artifacts[key].places))]
    return fitting or keys


def experiment_at(folder: Path) -> Path:
    """The folder of an experiment: this one, or the only one in a folder of results.

    Raises ValueError where it is neither.
    """
    if (folder / "models").is_dir() or (folder / "problems").is_dir():
        return folder
    inside = sorted(path.parent for path in folder.glob("*/problems"))
    if len(inside) == 1:
        return inside[0]
    names = ", ".join(str(path) for path in inside) or "none"
    raise ValueError(f"{folder}: give the folder of one experiment; there are {names}")
