"""Why would a stage rerun, and would anything be computed? Or why is it up to date?

    python -m mpd.why                                    the whole workflow
    python -m mpd.why results/tiny/.../shard_0.parquet   one file, and what it is made from
    python -m mpd.why --config rounds=3                  with the arguments of a snakemake run
    python -m mpd.why --graph results/tiny               draw which artifact came from which

Snakemake says what it would visit. The note beside an output has the settings, the version and the
inputs that it was made from, the stage lists those that it would be made from now, and the store
says whether it has that result. Nothing is run, written or linked.

--graph needs neither Snakemake nor the configuration: it reads the notes below a folder and writes
lineage.html, or the file that --output names; one that ends in .svg has the drawing alone.
"""

import sys
from contextlib import chdir
from pathlib import Path

from rich.console import Console

from mpd.job import command
from mpd.job.ancestry import ancestry, experiment_at
from mpd.job.layout import RESULTS
from mpd.store.signs import harmless
from mpd.why.findings import findings
from mpd.why.graph import lineage_page, lineage_svg
from mpd.why.planned import folder_of, planned
from mpd.why.printing import print_findings


def main(argv: list[str] | None = None) -> None:
    """Print what a run with these arguments of snakemake would do, and why."""
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(words):
        print((__doc__ or "").strip())
        return
    if "--graph" in words:
        draw(words)
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    jobs = planned(words)
    with chdir(folder_of(words)):
        print_findings(console, findings(jobs), words)


def draw(words: list[str]) -> None:
    """Draw the lineage of an experiment, from its notes alone."""
    parser = command.Parser(prog="python -m mpd.why --graph", add_help=False)
    parser.add_argument("--graph", type=Path, nargs="?", const=RESULTS)
    parser.add_argument("--output", type=Path, default=Path("lineage.html"))
    arguments = parser.parse_args(words)
    experiment = experiment_at(arguments.graph)
    artifacts = ancestry(experiment)
    drawn = lineage_svg if arguments.output.suffix == ".svg" else lineage_page
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(drawn(experiment, artifacts), encoding="utf-8")
    missing = sum(len(made.missing) for made in artifacts.values())
    gone = f", {missing} inputs of which are not there any more" if missing else ""
    print(harmless(f"lineage of {len(artifacts)} artifacts{gone}: {arguments.output}"))


if __name__ == "__main__":
    command.view(main, "why")
