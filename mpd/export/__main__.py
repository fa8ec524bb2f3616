"""export: a trained student as a model folder and a data set folder, each with its card.

    python -m mpd.export results/tiny/mpd/seed_0/round_1
    python -m mpd.export results/tiny/mpd/seed_0/round_1 --dtype bfloat16 --license apache-2.0
    python -m mpd.export results/tiny/mpd/seed_0/round_1 --push owner/name

The model loads with transformers and vLLM. The data set has the trajectories, rewrites and verdicts
of all rounds that trained it, and loads with datasets.load_dataset. A round that the report would
not ship is refused, unless --anyway is given.
"""

import argparse
import shutil
from pathlib import Path

from mpd.export import cards, hub
from mpd.export.data import write_data
from mpd.export.model import CARD, write_model
from mpd.export.results import read_results, require_chosen
from mpd.job import command


def main(argv: list[str] | None = None) -> None:
    """Write the folders, and upload them if asked to.

    Raises ValueError where the folder is no trained round, the report would not ship it, a file is
    damaged, or the output is there already.
    """
    parser = command.Parser(prog="python -m mpd.export", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("round", type=Path, help="folder of a round")
    parser.add_argument(
        "--output", type=Path, help="a new folder for both; exports/<experiment>-… without it"
    )
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="that of training without it"
    )
    parser.add_argument("--license", help="identifier for both cards, such as apache-2.0")
    parser.add_argument("--anyway", action="store_true", help="also what would not be shipped")
    parser.add_argument(
        "--push", metavar="OWNER/NAME", help="upload both to the Hugging Face hub, as private"
    )
    parser.add_argument("--public", action="store_true", help="with --push: visible to everybody")
    arguments = parser.parse_args(argv)
    if arguments.public and not arguments.push:
        raise ValueError("--public says who sees what --push uploads; give --push owner/name")
    results = read_results(arguments.round)
    if not arguments.anyway:
        require_chosen(results)
    output = arguments.output or Path("exports") / results.name
    if output.exists():
        raise ValueError(f"{output}: is there already; remove it, or give another --output")
    # First, so that nothing is there already when a name or a token has been corrected.
    addresses = hub.create(arguments.push, arguments.public) if arguments.push else []
    unfinished = output.with_name(f".{output.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    write_model(results.round, unfinished / "model", arguments.dtype)
    counts = write_data(list(results.rounds), unfinished / "data")
    texts = {
        "model": cards.model_card(results, arguments.license),
        "data": cards.data_card(results, counts, arguments.license),
    }
    for name, text in texts.items():
        (unfinished / name / CARD).write_text(text, encoding="utf-8")
    unfinished.rename(output)
    print(f"model: {output / 'model'}\ndata set: {output / 'data'}")
    if arguments.push:
        hub.upload({name: output / name for name in texts}, arguments.push)
    for address in addresses:
        print(f"uploaded: {address}")


if __name__ == "__main__":
    command.view(main, "export")
