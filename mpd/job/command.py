"""The command line of a program: its arguments, its errors, and what it does with its outputs."""

import argparse
import errno
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from mpd.config.keys import kinds_of, origins_of
from mpd.config.mistakes import sentences
from mpd.config.resources import Resources, ThreadResources
from mpd.config.words import help_of
from mpd.job.devices import take_devices
from mpd.job.inputs import require_sound_inputs
from mpd.job.layout import STORE, place_in_experiment
from mpd.job.messages import log_to_stderr
from mpd.job.places import room_left, settle
from mpd.job.shards import add_shards
from mpd.job.stopping import stopping
from mpd.store.outputs import Output, Outputs, take_each
from mpd.store.publishing import Store
from mpd.store.rights import is_refusal, refusal
from mpd.store.signs import harmless
from mpd.store.supervisor import watch

log = logging.getLogger("mpd")

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# torch.save keeps no error number; these are its messages where a write fails.
TORCH_CANNOT_WRITE = r"unexpected pos \d+ vs \d+|PytorchStreamWriter failed writing"


class Parser(argparse.ArgumentParser):
    """A parser that raises ValueError with one sentence, like everything that the user can fix."""

    def error(self, message: str) -> NoReturn:
        """Raise ValueError."""
        raise ValueError(f"{message}; see --help")


def parser(
    module_doc: str | None,
    prog: str,
    settings: Any,
    resources: type[Resources] = Resources,
    shards: Mapping[str, str] | None = None,
) -> argparse.ArgumentParser:
    """The parser of a stage, with the arguments that every stage has.

    `settings` is the model of its settings, or a union of models; `resources` the model of what its
    job may use. `shards` are the inputs of a stage of shards and what they contain: a job may take
    several shards, and has as many of each input as outputs.
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
    if shards is None:
        stage_parser.add_argument(
            "--output", type=Path, required=True, help="file or folder that the stage writes"
        )
    else:
        add_shards(stage_parser, shards)
    stage_parser.add_argument("--store", type=Path, default=STORE, help="folder of stored results")
    stage_parser.add_argument(
        "--mode",
        choices=["reuse", "refresh", "explain"],
        default="reuse",
        help="refresh: compute again what the store has, and compare; explain: compute nothing, "
        "print whether the store has it",
    )
    stage_parser.add_argument(
        "--resources",
        type=json_of(resources),
        default=resources(),
        help="a mapping, as JSON, which changes no result; its keys are below",
    )
    if issubclass(resources, ThreadResources):
        stage_parser.add_argument(
            "--threads", type=int, help="replaces the key threads of --resources"
        )
    return stage_parser


def json_of(model: Any) -> Callable[[str], Any]:
    """A type of argument: JSON of a pydantic model. Mistakes in it end in sentences."""
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
    """The keys of the settings, by kind of work, and of the resources, with their meanings."""
    paragraphs = [
        f"{kind.__doc__}\n{help_of(kind, origins_of(kind))}" for kind in kinds_of(settings)
    ]
    return "\n\n".join([*paragraphs, f"{resources.__doc__}\n{help_of(resources, {})}"])


def resources_of(arguments: argparse.Namespace) -> Any:
    """The resources of a job, with the number of threads that the scheduler gave it."""
    resources: ThreadResources = arguments.resources
    if arguments.threads is None:
        return resources
    return resources.model_copy(update={"threads": arguments.threads})


def benchmark_argument(stage_parser: argparse.ArgumentParser, name: str, content: str) -> None:
    """Add an argument that names a file for each benchmark, parsed to pairs of name and path."""

    def pair(word: str) -> tuple[str, Path]:
        benchmark, _, path = word.partition("=")
        if not benchmark or not path:
            raise argparse.ArgumentTypeError(f"expected name={content}.parquet, found {word}")
        return benchmark, Path(path)

    shown = f"name={content}.parquet"
    stage_parser.add_argument(f"--{name}", type=pair, nargs="+", required=True, help=shown)


def publish(
    stage_parser: argparse.ArgumentParser,
    outputs: Callable[[argparse.Namespace], Outputs],
    argv: Sequence[str] | None,
) -> argparse.Namespace:
    """Run a stage: publish its outputs, or in mode explain print whether the store has them.

    Returns the arguments. Raises ValueError where an input was changed, or belongs elsewhere.
    """
    arguments = stage_parser.parse_args(argv)
    store = Store(arguments.store, refresh=arguments.mode == "refresh")
    require_sound_inputs(store, arguments)

    def publish_on_devices(output: Output) -> Path:
        gpus = getattr(arguments.resources, "gpu", 0)
        # Before the lock of the entry: else one job could hold what the other one waits for.
        if gpus and (store.refresh or store.find(output) is None):
            take_devices(gpus)
        return store.publish(output)

    def explain(output: Output) -> Path | None:
        stored = store.find(output)
        print(f"{output.path}: {output.kind} is {'' if stored else 'not '}in the store")
        return stored

    take_each(outputs(arguments), explain if arguments.mode == "explain" else publish_on_devices)
    return arguments


def label(name: str, argv: Sequence[str]) -> str:
    """The name of a job in its log, by its output: sample mpd/seed_0/round_1/shard_0.

    It tells the lines of jobs apart that run side by side. It is the name of the stage alone where
    the output is not in the results of an experiment. Of several shards it has the first and last.
    """
    if "--output" not in argv[:-1]:
        return name
    words = argv[argv.index("--output") + 1 :]
    outputs = list(takewhile(lambda word: not word.startswith("--"), words))
    place = place_in_experiment(Path(outputs[0])).split("/")
    parts = [part for part in place if part not in (name, "student", "manifest")]
    last = f" to {Path(outputs[-1]).stem}" if len(outputs) > 1 else ""
    return f"{name} {'/'.join(parts)}".strip() + last


def run(main: Callable[[], Any], name: str) -> None:
    """Run a stage's `main`. What the user can fix ends in one sentence, not in a traceback.

    So does Ctrl-C, with code 130, and the end of the Snakemake that the program belongs to.
    """
    name = label(name, sys.argv)
    log_to_stderr(name)
    logging.getLogger().setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack the signs of a text
    watch()
    with stopping(name):
        _run_to_a_sentence(main, name)


def _run_to_a_sentence(main: Callable[[], Any], name: str) -> None:
    try:
        settle()
        main()
    except ValueError as error:
        sys.exit(harmless(f"{name}: error: {error}"))
    except Exception as error:
        if isinstance(error, OSError) and is_refusal(error):
            sys.exit(harmless(f"{name}: error: {refusal(error)}"))
        if not _is_full_disk(error):
            raise
        cause = str(error).splitlines()[0]
        left = room_left(*_folders(sys.argv))
        sys.exit(
            f"{name}: error: no room to write ({cause}); left are {left}: "
            "free some space and run again: finished parts are kept"
        )


def _folders(argv: Sequence[str]) -> list[Path]:
    """The folder of the output and the store, where a command line names them."""
    given = dict(pairwise(argv))
    output, store = given.get("--output"), given.get("--store", STORE)
    return [*([Path(output).parent] if output else []), Path(store)]


def view(main: Callable[[], Any], name: str) -> None:
    """Run the `main` of a program that only prints, as `run` does.

    It is no error that a reader closes the pipe, such as `head` does.
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
    """Whether an error says that a disk is full, also where a library raised another one for it."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return True
    messages = "|".join(re.escape(os.strerror(number)) for number in DISK_ERRORS)
    return re.search(rf"{messages}|{TORCH_CANNOT_WRITE}", str(error)) is not None
