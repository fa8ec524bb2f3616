"""verify: check every result and stored file, and say what is damaged and what depends on it.

    python -m mpd.verify results/             read everything, change nothing
    python -m mpd.verify results/ --repair    and set aside what is damaged

Files are compared with the digests in their notes, rows with the digest in their footer, models
with their manifest, and what a file was made from with the files that are there. The exit code is 1
where something is damaged. --repair renames what is damaged, outputs to *.damaged and entries of
the store to *-changed, and takes away the links to what was made from it and is whole in the store,
so that the next run of snakemake makes exactly that again, and links the rest. It is for times when
nothing else runs.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from mpd.job import command
from mpd.job.layout import RESULTS, STORE, Experiment, require_in_place
from mpd.job.sources import JOINED, sources_in
from mpd.store.manifest import MANIFEST
from mpd.store.notes import PROVENANCE
from mpd.store.repair import set_aside, set_aside_outputs, unlinked
from mpd.store.units import Unit, files_of_unit, units_in
from mpd.store.verification import Fault, Verifier, short

MAX_NAMED = 3  # files that a line names
EVERY = (*JOINED, "report")  # the keys with several files, all of which are read

Lineage = Mapping[Path, Mapping[str, Sequence[Path]]]


def require_results(results: Path, store: Path) -> None:
    """Raise ValueError where a folder has neither experiments nor the store beside them.

    In a folder of one experiment, or of the store itself, nothing would be compared with what it
    was made from, and files of the store would be taken for outputs.
    """
    if not results.is_dir():
        raise ValueError(f"{results}: no such folder; give that of the results")
    experiments = chain(results.glob("*/models/*/" + MANIFEST), results.glob("*/problems/*/*"))
    if not store.is_dir() and next(experiments, None) is None:
        raise ValueError(
            f"{results}: expected experiments and their store, found neither; give the folder "
            f"that has all of them, such as {RESULTS}/"
        )


def lineage_of(results: Path, store: Path) -> Lineage:
    """The outputs of all experiments, with the files that each was made from.

    `results` may also be the folder of one experiment.
    """
    folders = [path for path in sorted(results.iterdir()) if path.is_dir() and path != store]
    folders.append(results)
    return {path: sources for folder in folders for path, sources in sources_in(Experiment(folder))}


def check_belonging(verifier: Verifier, lineage: Lineage) -> None:
    """Add a fault for each file that belongs elsewhere, or was made from another than is there.

    Nothing is said of a file that has gone, or is damaged itself.
    """
    units = {unit.place: unit for unit in verifier.units}
    _check_places(verifier)
    damaged = {unit for fault in verifier.faults.values() for unit in fault.units}
    for path, sources in lineage.items():
        unit = units.get(path) or units.get(path.parent)
        if unit is None or unit in damaged:
            continue
        for key, digest in _made_from(verifier, unit, path).items():
            files = sources.get(key, ())
            contents = [verifier.contents[file] for file in files if file in verifier.contents]
            if not files or len(contents) < len(files):
                continue
            if digest in contents or (key in JOINED and digest == " ".join(contents)):
                continue
            verifier.add(
                unit,
                path,
                f"expected to be made from {_named(files)} with the digest {contents[0][:12]}, "
                f"found that it was made from {key} {digest[:12]}",
            )
            others = (units.get(file) or units.get(file.parent) for file in files)
            verifier.faults[path].sources += [other for other in others if other]


def _check_places(verifier: Verifier) -> None:
    """Add a fault for each table of another seed, shard or benchmark than its path names."""
    for unit in (unit for unit in verifier.units if not unit.is_entry):
        for path in (path for path in files_of_unit(unit) if path in verifier.identities):
            try:
                require_in_place(path, verifier.identities[path])
            except ValueError as error:
                verifier.add(unit, path, short(error, path))


def _made_from(verifier: Verifier, unit: Unit, path: Path) -> dict[str, str]:
    """The digests of what a file was made from, by its note and its footer."""
    return {**verifier.notes[unit.place].get("inputs", {}), **verifier.identities.get(path, {})}


def precise(verifier: Verifier, lineage: Lineage) -> Lineage:
    """The same without the files that an output may have been made from, but was not.

    Its note and footer tell, where they can be read.
    """
    units = {unit.place: unit for unit in verifier.units}
    kept: dict[Path, dict[str, Sequence[Path]]] = {}
    for path, sources in lineage.items():
        unit = units.get(path) or units.get(path.parent)
        named = _made_from(verifier, unit, path) if unit else {}
        kept[path] = {
            key: [
                file
                for file in files
                if not named
                or key in EVERY
                or len(files) == 1
                or (key in named and verifier.contents.get(file, named[key]) == named[key])
            ]
            for key, files in sources.items()
        }
    return kept


def dependents(fault: Fault, lineage: Lineage) -> list[Path]:
    """The outputs that were made from what a fault is in, from these outputs, and so on."""
    made_from_it = defaultdict(list)
    for output, sources in lineage.items():
        for file in chain(*sources.values()):
            made_from_it[file].append(output)
    places = {unit.place for unit in fault.units}
    beginning = {fault.path, *fault.links, *places, *(place / MANIFEST for place in places)}
    if fault.path.name == PROVENANCE:  # all that the folder has
        beginning |= {file for file in made_from_it if file.parent in places}
    found = sorted(beginning)
    for path in found:  # which grows
        outputs = dict.fromkeys(made_from_it[path])
        found += [output for output in outputs if output not in found and output.exists()]
    return found[len(beginning) :]


def lines(faults: Sequence[Fault], lineage: Lineage) -> Iterator[str]:
    """One line for each fault: the file, what is expected and found, and what depends on it."""
    for fault in faults:
        links = f"; the same file: {_named(fault.links)}" if fault.links else ""
        following = _named(dependents(fault, lineage))
        yield f"{fault.path}: {fault.message}{links}; depends on it: {following}"


def _named(paths: Sequence[Path]) -> str:
    names = [str(path) for path in paths[:MAX_NAMED]]
    more = len(paths) - len(names)
    return ", ".join([*names, *([f"{more} more"] if more else [])]) or "nothing"


def main(argv: list[str] | None = None) -> None:
    """Print what is damaged; exit with 1 where something is and was not set aside."""
    parser = argparse.ArgumentParser(prog="python -m mpd.verify", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS, help="what to check")
    parser.add_argument("--store", type=Path, help="the store, if it is not in the results")
    parser.add_argument("--repair", action="store_true", help="set aside what is damaged")
    arguments = parser.parse_args(argv)
    store = arguments.store or arguments.results / STORE.name
    require_results(arguments.results, store)
    lineage = lineage_of(arguments.results, store)
    verifier = Verifier(units_in(arguments.results, store))
    verifier.check_all()
    check_belonging(verifier, lineage)
    faults = list(verifier.faults.values())
    actual = precise(verifier, lineage)
    for line in lines(faults, actual):
        print(line)
    if arguments.repair:
        following = [path for fault in faults for path in dependents(fault, actual)]
        for line in chain.from_iterable(map(set_aside, faults)):
            print(line)
        kept = unlinked(verifier, following)
    damaged = f"{len(faults)} damaged or out of place" if faults else "all whole"
    print(f"{len(verifier.digests)} files in {len(verifier.units)} outputs and entries: {damaged}")
    if faults and arguments.repair:
        targets = " ".join(str(path) for path in set_aside_outputs(faults))
        print(
            f"run snakemake{f' --forcerun {targets}' if kept else ''} to make it again; then "
            "delete *.damaged, and `make prune DELETE=1`"
        )
    elif faults:
        sys.stdout.flush()
        sys.exit(1)


if __name__ == "__main__":
    command.view(main, "verify")
