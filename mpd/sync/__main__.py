"""sync: copy results between this folder and an address, such as a bucket of an object store.

    python -m mpd.sync push s3://bucket/folder     results here to the address
    python -m mpd.sync pull s3://bucket/folder     results at the address into this folder

Copied are the outputs of experiments with notes, receipts and logs, the entries of the store that
the notes name, the parts of unfinished work, and Snakemake's records, so that after a pull into a
clone with the same config `snakemake` has nothing to do, or goes on. What is there by its digest is
not copied again, so a command that was stopped goes on where it is given again. Everything is
compared with the digests in its notes on both sides. An address is anything that fsspec reads:
s3://, file://, gs://, sftp://.
"""

import argparse

from mpd.job import command
from mpd.sync.pulling import pull
from mpd.sync.pushing import push
from mpd.sync.remote import Remote
from mpd.sync.scan import experiments_in


def main(argv: list[str] | None = None) -> None:
    """Copy experiments; exit with 1 where a push left something damaged out.

    Raises ValueError where there is none, and what `push` and `pull` raise.
    """
    parser = command.Parser(prog="python -m mpd.sync", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("direction", choices=["push", "pull"])
    parser.add_argument("address", help="where to or from, such as s3://bucket/folder")
    parser.add_argument(
        "--experiment", nargs="+", metavar="NAME", help="only these; all without it"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace artifacts here that differ (pull)"
    )
    arguments = parser.parse_args(argv)
    if arguments.overwrite and arguments.direction == "push":
        raise ValueError("--overwrite is for pull: a push replaces nothing but the index")
    remote = Remote(arguments.address)
    if arguments.direction == "push":
        left_out = [
            path
            for name in _named(arguments.experiment, experiments_in(), "results/")
            for path in push(remote, name)
        ]
        if left_out:
            raise ValueError(
                f"left out {len(left_out)} artifacts that are not what their notes say: wait for "
                "the job that writes them, or run python -m mpd.verify results/ --repair"
            )
        return
    for name in _named(arguments.experiment, remote.indices(), arguments.address):
        pull(remote, name, arguments.overwrite)


def _named(names: list[str] | None, there: list[str], place: str) -> list[str]:
    if not (names or there):
        raise ValueError(f"{place}: expected an experiment, found none")
    return names or there


if __name__ == "__main__":
    command.run(main, "sync")
