"""head: the output head of the teacher, which training on a cache of hidden states needs.

    python -m mpd.head --settings '{"dtype": "float32"}' --teacher .../manifest.json \\
        --output results/tiny/models/head/head.safetensors
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mpd.config.logits import HeadSettings
from mpd.config.resources import ModelResources
from mpd.job import command
from mpd.store import schema
from mpd.store.model_folder import read_manifest
from mpd.store.outputs import FileOutput, Outputs
from mpd.store.tokenizer_files import load_tokenizer, vocabulary_size


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    parser = command.parser(__doc__, "head", HeadSettings, ModelResources)
    parser.add_argument("--teacher", type=Path, required=True, help="manifest of the teacher")
    return parser


def outputs(arguments: Namespace) -> Outputs:
    """The head as one file."""
    teacher = read_manifest(arguments.teacher)
    settings: HeadSettings = arguments.settings

    def write(path: Path) -> None:
        import torch

        from mpd.scoring.output_head import head_of, save_head
        from mpd.scoring.packed_model import load_packed_model

        torch.set_num_threads(command.resources_of(arguments).threads)
        folder = arguments.teacher.parent
        model = load_packed_model(folder, settings.dtype, "none")
        size = vocabulary_size(load_tokenizer(folder))
        save_head(head_of(model, size), path, teacher["digest"])

    yield FileOutput(
        "head",
        schema.HEAD_VERSION,
        arguments.output,
        settings.meaning(),
        {"teacher": teacher["digest"]},
        write,
    )


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    command.publish(command_line(), outputs, argv)


if __name__ == "__main__":
    command.run(main, "head")
