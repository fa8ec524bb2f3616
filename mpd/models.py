"""models: resolve student, teacher and embedder once, and write the manifest of their digests.

A model comes from a local folder, from the hub at a pinned revision or from a GGUF file, or it is
pretrained here (the embedded world). The result is an ordinary model folder; every later stage
quotes its manifest.

    python -m mpd.models --output results/tiny/models/teacher/manifest.json \\
        --settings '{"source": "tiny", "role": "teacher", "seed": 0, "num_steps": null}'
"""

import logging
import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mpd.config.files import model_files
from mpd.config.models import (
    FolderSettings,
    GgufModel,
    HubModel,
    HubSettings,
    ModelSource,
    ModelsSettings,
    TinySettings,
)
from mpd.config.resources import ModelResources
from mpd.job import command
from mpd.store import hub, schema
from mpd.store.digests import file_digest
from mpd.store.foreign_code import NO_CODE, code_refused
from mpd.store.manifest import MANIFEST
from mpd.store.model_folder import write_manifest
from mpd.store.notes import PROVENANCE
from mpd.store.outputs import FolderOutput, Outputs
from mpd.store.tokenizer_files import chat_template
from mpd.text.embedding import require_embeddings

log = logging.getLogger("mpd")

HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
SUBFOLDERS = ["*/*"]  # such as the same weights in another format


def resolve(settings: ModelsSettings, folder: Path, scratch: Path, threads: int) -> None:
    """Fill `folder` with the model that `settings` name, and write its manifest.

    What is in `scratch` is kept when the stage is killed. Raises ValueError where the source is no
    complete model, naming it as the user did.
    """
    name, advice = getattr(settings, "path", settings.source), ""
    try:
        if isinstance(settings, TinySettings):
            _pretrain(settings, folder, scratch, threads)
        elif isinstance(settings, HubSettings):
            local = _download(settings, scratch / "download")
            if local != scratch / "download":
                name, advice = str(local), f"; {hub.advice('model', name, settings.revision)}"
            _copy(FolderSettings(source="folder", path=str(local), embeds=settings.embeds), folder)
        elif isinstance(settings, GgufModel):
            _unpack(settings, folder, threads)
        else:
            _copy(settings, folder)
        write_manifest(folder, is_chat_model=not _embeds(settings))
        if _embeds(settings):
            require_embeddings(folder / MANIFEST, threads)
    except ValueError as error:
        message = str(error)
        for path in (scratch / "download", folder):  # the user knows the source, not the store
            message = message.replace(str(path), name)
        raise ValueError(message + advice) from error


def _embeds(settings: ModelsSettings) -> bool:
    """Whether it is the embedder, which nobody talks to."""
    return isinstance(settings, FolderSettings | HubSettings) and settings.embeds


def _copy(settings: FolderSettings, folder: Path) -> None:
    if not settings.embeds:
        chat_template(Path(settings.path))  # raises before the weights are copied
    # Not linked: an edit of the user's files would change the stored ones through a hard link.
    for path in _files(settings):
        shutil.copy(path, folder / path.name)


def _files(settings: ModelSource) -> list[Path]:
    """The files of the model, without the note of where a student of this workflow came from."""
    return [path for path in model_files(settings) if path.name != PROVENANCE]


def _download(settings: HubModel, local: Path) -> Path:
    """The folder of a model of the hub: `local`, or one in the Hugging Face cache.

    The cache takes the place of a hub that cannot be reached. Raises ValueError where it lacks the
    model.
    """
    from huggingface_hub import snapshot_download

    name, revision = settings.path, settings.revision
    try:
        snapshot_download(
            name,
            revision=revision,
            local_dir=local,
            allow_patterns=HUB_FILES,
            ignore_patterns=SUBFOLDERS,
        )
    except Exception as error:
        if not hub.is_unreachable(error):
            raise
        local = hub.complete_snapshot("model", name, revision, error, HUB_FILES, SUBFOLDERS)
        log.info("%s is taken from the cache, %s", name, local)
    return local


def _unpack(settings: GgufModel, folder: Path, threads: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.set_num_threads(threads)
    (path,) = model_files(settings)
    log.info("unpacking %s to float32", path.name)
    with TemporaryDirectory() as alone, code_refused(path):
        # Libraries would take a configuration or an adapter beside the file for its own.
        (Path(alone) / path.name).symlink_to(path.resolve())
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=path.name, **NO_CODE)
        model: Any = AutoModelForCausalLM.from_pretrained(
            alone,
            gguf_file=path.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            **NO_CODE,
        )
    tokenizer.save_pretrained(folder)
    model.to(torch.bfloat16).save_pretrained(folder)


def _pretrain(settings: TinySettings, folder: Path, scratch: Path, threads: int) -> None:
    import torch

    from mpd.tiny.pretrain import train_student, train_teacher

    torch.set_num_threads(threads)
    steps = {} if settings.num_steps is None else {"num_steps": settings.num_steps}
    checkpoint, world = scratch / "checkpoint.pt", settings.world
    if settings.role == "teacher":
        train_teacher(folder, world=world, checkpoint=checkpoint, **steps)
    else:
        train_student(folder, settings.seed, world=world, checkpoint=checkpoint, **steps)


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    return command.parser(__doc__, "models", ModelsSettings, ModelResources)


def outputs(arguments: Namespace) -> Outputs:
    """The folder of one model. Its local files are read to the end, for their digests."""
    settings: ModelsSettings = arguments.settings
    threads = command.resources_of(arguments).threads
    yield FolderOutput(
        "models",
        schema.MODELS_VERSION,
        arguments.output.parent,
        settings.meaning(),
        {path.name: file_digest(path) for path in _files(settings)},
        lambda folder, scratch: resolve(settings, folder, scratch, threads),
    )


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    command.publish(command_line(), outputs, argv)


if __name__ == "__main__":
    command.run(main, "models")
