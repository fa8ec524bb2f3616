"""The artifacts of an experiment as boxes: those of one stage in one round are one box."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mpd.config.base import BASE
from mpd.job.ancestry import Made
from mpd.job.layout import Round

COLUMNS = (
    *("sample", "bank", "compress", "filter", "logits", "student"),
    *("answers", "evaluate"),
)
MODELS, PROBLEMS, REPORT = "models", "problems", "report"  # rows that are no round

Place = tuple[str, str]  # the row of a box, which is a round or one of the above, and its name


@dataclass
class Box:
    """Artifacts that are drawn as one, by fingerprint, with their paths.

    `sources` are the boxes that they were made from. `first` is the box that has the same
    artifacts, all of them, and comes before it: this one has links to them.
    """

    place: Place
    artifacts: dict[str, Path] = field(default_factory=dict)
    sources: list["Box"] = field(default_factory=list)
    first: "Box | None" = None

    @property
    def row(self) -> str:
        """The name of its row, such as mpd/seed_0/round_1."""
        return self.place[0]

    @property
    def name(self) -> str:
        """Its name in the row, such as sample."""
        return self.place[1]

    @property
    def title(self) -> str:
        """Its name with that of its row."""
        return self.name if self.row == REPORT else f"{self.row}: {self.name}"


def boxes_of(experiment: Path, artifacts: Mapping[str, Made]) -> list[Box]:
    """The boxes of an experiment, row by row in the order in which they are drawn."""
    boxes: dict[Place, Box] = {}
    for made in artifacts.values():
        for path in made.places:
            place = _place(experiment, path)
            boxes.setdefault(place, Box(place)).artifacts[made.key] = path
    ordered = sorted(boxes.values(), key=lambda box: _order(box.place))
    homes: dict[str, list[Box]] = {}
    for box in ordered:
        for key in box.artifacts:
            homes.setdefault(key, []).append(box)
    for box in ordered:
        box.sources = list(_sources(box, artifacts, homes))
        firsts = {id(homes[key][0]): homes[key][0] for key in box.artifacts}
        (first, *others) = firsts.values()
        box.first = first if not others and first is not box else None
    return ordered


def _sources(
    box: Box, artifacts: Mapping[str, Made], homes: Mapping[str, list[Box]]
) -> Iterator[Box]:
    """The boxes of the sources: of several that have one, that of the same row, or the first."""
    found: dict[int, Box] = {}
    for key in box.artifacts:
        for source in artifacts[key].sources:
            same_row = [home for home in homes[source] if home.row == box.row]
            home = (same_row or homes[source])[0]
            found[id(home)] = home
    yield from (home for home in found.values() if home is not box)


def _place(experiment: Path, path: Path) -> Place:
    """The row of a path and the name of its box."""
    parts = path.relative_to(experiment).with_suffix("").parts
    if parts[0] in (MODELS, PROBLEMS) and len(parts) > 1:
        return parts[0], "/".join(parts[1:])
    try:
        round = Round.at(experiment / Path(*parts[:3]))
    except ValueError:
        return REPORT, "/".join(parts)
    return round.name, parts[3] if len(parts) > 3 else parts[-1]


def _order(place: Place) -> tuple[int, str, int, int, int, str]:
    """The order of the boxes: models, problems, rounds by method and seed, and the report."""
    row, name = place
    column = COLUMNS.index(name) if name in COLUMNS else len(COLUMNS)
    if row in (MODELS, PROBLEMS, REPORT):
        is_page = int(row == REPORT and name == REPORT)
        return ((0, 1, 3)[(MODELS, PROBLEMS, REPORT).index(row)], "", 0, 0, is_page, name)
    round = Round.at(Path(row))
    # Base students come first: the others start from them.
    method = "" if round.method == BASE else round.method
    return (2, method, round.seed, round.number, column, name)
