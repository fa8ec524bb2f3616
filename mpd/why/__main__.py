"""Why would a stage rerun, and would anything be computed? Or why is it up to date?

    python -m mpd.why                                    the whole workflow
    python -m mpd.why results/tiny/.../shard_0.parquet   one file, and what it is made from
    python -m mpd.why --config rounds=3                  with the arguments of a snakemake run

Snakemake says what it would visit. The note beside an output has the settings, the version and the
inputs that it was made from, the stage lists those that it would be made from now, and the store
says whether it has that result. Nothing is run, written or linked.
"""

import sys
from contextlib import chdir

from rich.console import Console

from mpd.job import command
from mpd.why.findings import findings
from mpd.why.planned import folder_of, planned
from mpd.why.printing import print_findings


def main(argv: list[str] | None = None) -> None:
    """Print what a run with these arguments of snakemake would do, and why."""
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(words):
        print((__doc__ or "").strip())
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    jobs = planned(words)
    with chdir(folder_of(words)):
        print_findings(console, findings(jobs), words)


if __name__ == "__main__":
    command.view(main, "why")
