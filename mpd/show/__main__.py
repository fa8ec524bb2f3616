"""show: a trajectory through the stages, rows, held-out answers, or what was made from a sample.

python -m mpd.show results/tiny/mpd/seed_0/round_1
python -m mpd.show results/tiny/mpd/seed_0/round_1 --reason wrong_answer
python -m mpd.show results/tiny/mpd/seed_0/round_1 --sample 0a1b2c3d4e5f6071-0
python -m mpd.show results/tiny/mpd/seed_0/round_1 --sample 0a1b2c3d4e5f6071-0 --tokens
python -m mpd.show --made-from 0a1b2c3d4e5f6071-0
python -m mpd.show results/tiny/mpd/seed_0/round_1 --benchmark dev --problem 0a1b2c3d4e5f6071
"""

import argparse
import os
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from mpd.job import command
from mpd.job.layout import RESULTS
from mpd.show.answers import print_answers
from mpd.show.listing import listed, print_rows
from mpd.show.made_from import print_made_from
from mpd.show.shards import RoundShards
from mpd.show.trajectory import print_sample

PLAIN_WIDTH = 110  # where the output is no terminal


def positive(text: str) -> int:
    """The number of an argument that must be at least 1. Raises ArgumentTypeError otherwise."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text}")
    return int(text)


def main(argv: list[str] | None = None) -> None:
    """Show a round, or one of its samples, in a terminal."""
    parser = argparse.ArgumentParser(prog="python -m mpd.show", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("round", type=Path, nargs="?", help="folder of a round")
    parser.add_argument("--sample", help="sample_id to show; without it, the rows are listed")
    parser.add_argument(
        "--tokens", action="store_true", help="with --sample: what the cache has for each token"
    )
    parser.add_argument(
        "--made-from",
        metavar="SAMPLE",
        help="sample_id; list the artifacts that contain it, up to the students trained on it, in "
        "a round, an experiment or, without a folder, results/",
    )
    parser.add_argument("--benchmark", help="with --problem: the benchmark that it is from")
    parser.add_argument("--problem", help="problem_id of a held-out problem: show its answers")
    parser.add_argument("--reason", help="list only rows with this reason")
    parser.add_argument("--limit", type=positive, default=40, help="how many rows to list")
    arguments = parser.parse_args(argv)
    if arguments.tokens and not arguments.sample:
        raise ValueError("--tokens shows the tokens of one sample; give --sample <id>")
    if arguments.round is None and not arguments.made_from:
        raise ValueError(
            "which round? Give its folder, results/<experiment>/<method>/seed_<n>/round_<n>"
        )
    if (arguments.benchmark is None) != (arguments.problem is None):
        raise ValueError("--benchmark and --problem show answers together; give both")
    console = Console(width=None if Console().is_terminal else PLAIN_WIDTH)
    # Colours, and no waiting where all fits on the screen.
    os.environ.setdefault("LESS", "FRX")
    with console.pager(styles=True) if console.is_terminal else nullcontext():
        if arguments.made_from:
            print_made_from(console, arguments.round or RESULTS, arguments.made_from)
            return
        if arguments.problem:
            print_answers(console, arguments.round, arguments.benchmark, arguments.problem)
            return
        shards = RoundShards(arguments.round)
        if arguments.sample:
            print_sample(console, shards, arguments.sample, arguments.tokens)
        else:
            print_rows(console, listed(shards), arguments.reason, arguments.limit)
        if shards.unfinished():
            console.print(f"not run yet: {shards.unfinished()}", highlight=False)


if __name__ == "__main__":
    command.view(main, "show")
