"""compare: experiments side by side: their students, the differences, and what was set otherwise.

    python -m mpd.compare results/a results/b
    python -m mpd.compare results/a results/b results/c --output comparison.html
    python -m mpd.compare results/a results/b --benchmarks aime24 --against mpd/2

Each student of the other experiments is compared with the student of the first one that has the
same method and round, or with the one that --against names: paired by problem within a seed that
both have, with bootstrap intervals. Experiments must have the same benchmarks, decoding and
grading. The development split is left out where it is not the same. Writes one page, which opens
offline, and prints a table. Results are only read.
"""

import argparse
from pathlib import Path

from mpd.compare.experiments import read_experiments
from mpd.compare.printing import print_differences
from mpd.compare.sameness import comparable, require_same_tokens
from mpd.compare.settings import differing_settings, origins_of
from mpd.compare.students import alone, costs, differences, graded, means, require_pairs
from mpd.job import command
from mpd.report.page.side_by_side import Difference, SideBySide, page
from mpd.report.students import Student


def student_of(text: str) -> Student:
    """The student of a text such as mpd/2. Raises ArgumentTypeError for another text."""
    method, _, number = text.rpartition("/")
    if not method or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"expected <method>/<round>, such as mpd/2, not {text}")
    return method, int(number)


def side_by_side(
    folders: list[Path], wanted: list[str], against: Student | None = None
) -> SideBySide:
    """What the page shows of the experiments in these folders.

    Raises ValueError where they cannot be compared, with the reason.
    """
    experiments = read_experiments(folders)
    benchmarks, left_out = comparable(experiments, wanted)
    require_same_tokens(experiments)
    first, *others = (graded(experiment, benchmarks) for experiment in experiments)
    compared = []
    for other in others:
        frame = differences(first, other, benchmarks, against)
        require_pairs(first, other, frame)
        missing = alone(first, other, benchmarks, frame)
        compared.append(Difference(other.experiment.label, frame, missing))
    return SideBySide(
        labels=[experiment.label for experiment in experiments],
        origins=[origins_of(experiment) for experiment in experiments],
        means=means([first, *others]),
        differences=compared,
        costs=costs(experiments, benchmarks),
        choices=[experiment.choice for experiment in experiments],
        settings=differing_settings(experiments, benchmarks),
        left_out=left_out,
    )


def main(argv: list[str] | None = None) -> None:
    """Write the page, and print the differences."""
    parser = command.Parser(prog="python -m mpd.compare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("experiments", type=Path, nargs="+", help="folders of experiments")
    parser.add_argument("--output", type=Path, default=Path("comparison.html"), help="the page")
    parser.add_argument(
        "--benchmarks", nargs="+", default=[], help="those to compare on; all that are shared"
    )
    parser.add_argument(
        "--against",
        type=student_of,
        metavar="METHOD/ROUND",
        help="the student of the first experiment to compare all others with",
    )
    arguments = parser.parse_args(argv)
    found = side_by_side(arguments.experiments, arguments.benchmarks, arguments.against)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(page(found), encoding="utf-8")
    print_differences(found, arguments.output)


if __name__ == "__main__":
    command.view(main, "compare")
