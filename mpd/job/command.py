"""What the command lines of all stages share."""

import argparse
import errno
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from mpd.config.keys import kinds_of, origins_of
from mpd.config.mistakes import sentences
from mpd.config.resources import Resources, ThreadResources
from mpd.config.words import help_of
from mpd.job.layout import STORE, place_in_experiment
from mpd.job.places import room_left, settle
from mpd.store.publishing import Explained, Store
from mpd.store.rights import is_refusal, refusal

log = logging.getLogger("mpd")

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# torch.save keeps no error number; these are what it says where a write fails.
TORCH_CANNOT_WRITE = r"unexpected pos \d+ vs \d+|PytorchStreamWriter failed writing"


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence, as all that the user can fix."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see --help")


def parser(
    module_doc: str | None, prog: str, settings: Any, resources: type[Resources] = Resources
) -> argparse.ArgumentParser:
    """The parser of a stage, with the arguments that every stage has.

    `settings` is the type of its settings: a model, or a union of models; `resources` that of
    what its job may use.
    """
    stage_parser = Parser(
        prog=f"python -m mpd.{prog}",
        description=module_doc,
        epilog=help_of_keys(settings, resources),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    stage_parser.add_argument(
        "--settings",
        type=json_of(settings),
        required=True,
        help="a mapping, as JSON; its keys are below",
    )
    stage_parser.add_argument("--output", type=Path, required=True, help="what the stage writes")
    stage_parser.add_argument("--store", type=Path, default=STORE, help="the store")
    stage_parser.add_argument(
        "--mode",
        choices=["reuse", "refresh", "explain"],
        default="reuse",
        help="refresh: compute again what the store has, and compare; explain: compute nothing, "
        "say whether the store has it",
    )
    stage_parser.add_argument(
        "--resources",
        type=json_of(resources),
        default=resources(),
        help="a mapping, as JSON, which changes no result; its keys are below",
    )
    if issubclass(resources, ThreadResources):
        stage_parser.add_argument(
            "--threads", type=int, help="in place of the threads of the resources"
        )
    return stage_parser


def json_of(model: Any) -> Callable[[str], Any]:
    """The type of an argument: JSON that a pydantic type takes; its mistakes are sentences."""
    adapter: TypeAdapter[Any] = TypeAdapter(model)

    def parsed(text: str) -> Any:
        try:
            return adapter.validate_python(json.loads(text))
        except ValidationError as error:
            lines = sentences(error, adapter.json_schema())
        except ValueError as error:
            lines = [f"no JSON ({error})"]
        raise argparse.ArgumentTypeError("; ".join(lines))

    return parsed


def help_of_keys(settings: Any, resources: type[Resources]) -> str:
    """The keys of settings, for each kind of a stage's work, and resources: types and meanings."""
    paragraphs = [
        f"{kind.__doc__}\n{help_of(kind, origins_of(kind))}" for kind in kinds_of(settings)
    ]
    return "\n\n".join([*paragraphs, f"{resources.__doc__}\n{help_of(resources, {})}"])


def resources_of(arguments: argparse.Namespace) -> Any:
    """The resources of a job; --threads are what a scheduler gives it of those that it may use."""
    resources: ThreadResources = arguments.resources
    if arguments.threads is None:
        return resources
    return resources.model_copy(update={"threads": arguments.threads})


def benchmark_argument(stage_parser: argparse.ArgumentParser, name: str, content: str) -> None:
    """An argument that names a file of each benchmark, parsed to pairs of name and path."""

    def pair(word: str) -> tuple[str, Path]:
        benchmark, _, path = word.partition("=")
        if not benchmark or not path:
            raise argparse.ArgumentTypeError(f"expected name={content}.parquet, found {word}")
        return benchmark, Path(path)

    shown = f"name={content}.parquet"
    stage_parser.add_argument(f"--{name}", type=pair, nargs="+", required=True, help=shown)


def store_of(arguments: argparse.Namespace) -> Store:
    """The store of a command line.

    Raises ValueError where an input that came from it was changed since.
    """
    mode = arguments.mode
    store = Store(arguments.store, refresh=mode == "refresh", explain=mode == "explain")
    for path in _inputs(arguments):
        store.require_unchanged(path)
    return store


def _inputs(arguments: argparse.Namespace) -> Iterator[Path]:
    """The paths of a command line, also those in lists and behind names, but for the output."""
    for name, value in vars(arguments).items():
        values = value if isinstance(value, list) else [value]
        paths = (item[-1] if isinstance(item, tuple) else item for item in values)
        if name not in ("output", "store"):
            yield from (path for path in paths if isinstance(path, Path))


def label(name: str, argv: Sequence[str]) -> str:
    """What a job calls itself in its log, by its output: sample mpd/seed_0/round_1/shard_0.

    Of jobs side by side, it tells their lines apart. The name alone where the output is not in
    the results of an experiment.
    """
    if "--output" not in argv[:-1]:
        return name
    place = place_in_experiment(Path(argv[argv.index("--output") + 1])).split("/")
    said = [part for part in place if part not in (name, "student", "manifest")]
    return f"{name} {'/'.join(said)}".strip()


def run(main: Callable[[], Any], name: str) -> None:
    """Run a stage's `main`; what the user can fix ends in one sentence, not in a traceback."""
    name = label(name, sys.argv)
    logging.basicConfig(level=logging.INFO, format=f"{name}: %(message)s", stream=sys.stderr)
    logging.getLogger().setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack the signs of a text
    try:
        settle()
        main()
    except Explained as explained:
        print(explained)
    except ValueError as error:
        sys.exit(f"{name}: error: {error}")
    except Exception as error:
        if isinstance(error, OSError) and is_refusal(error):
            sys.exit(f"{name}: error: {refusal(error)}")
        if not _is_full_disk(error):
            raise
        cause = str(error).splitlines()[0]
        left = room_left(*_folders(sys.argv))
        sys.exit(
            f"{name}: error: no room to write ({cause}); left are {left}: "
            "free some space and run again: finished parts are kept"
        )


def _folders(argv: Sequence[str]) -> list[Path]:
    """The folder of the output and the store, as far as a command line names them."""
    given = dict(pairwise(argv))
    output, store = given.get("--output"), given.get("--store", STORE)
    return [*([Path(output).parent] if output else []), Path(store)]


def view(main: Callable[[], Any], name: str) -> None:
    """Run the `main` of a command that only prints, as `run` does.

    A reader that closes the pipe, such as `head`, has seen what it wanted: that is no error.
    """

    def printed() -> None:
        try:
            main()
            sys.stdout.flush()
        except BrokenPipeError:
            # At exit, Python flushes standard output once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    run(printed, name)


def _is_full_disk(error: Exception) -> bool:
    """Whether an error is that of a full disk, or what a library that writes makes of it."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return True
    said = "|".join(re.escape(os.strerror(number)) for number in DISK_ERRORS)
    return re.search(rf"{said}|{TORCH_CANNOT_WRITE}", str(error)) is not None
