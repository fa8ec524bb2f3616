"""The model folder of a student, as transformers and vLLM load it."""

import shutil
from pathlib import Path

from mpd.job.layout import Round
from mpd.store.model_folder import load_model, read_manifest, require_weights

CARD = "README.md"


def write_model(place: Round, folder: Path, dtype: str | None) -> None:
    """Copy the student at the end of a round into `folder`, without its card and metrics.

    `dtype`, such as bfloat16, is what weights are stored in; None keeps that of training. Adapters
    were merged when the student was trained. Raises ValueError where a file is not what the
    manifest says.
    """
    manifest = place.student
    names = read_manifest(manifest)["files"]
    require_weights(manifest.parent)
    folder.mkdir(parents=True)
    for name in names:
        if name not in (CARD, place.metrics.name):
            shutil.copyfile(manifest.with_name(name), folder / name)
    if dtype is not None:
        model = load_model(manifest.parent, dtype, device="cpu")
        for path in folder.glob("*.safetensors*"):
            path.unlink()
        model.save_pretrained(folder)
