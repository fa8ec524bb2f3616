"""The local files that models and problems come from."""

import importlib.util
from pathlib import Path

from mpd.config.models import FolderModel, GgufModel, ModelSource
from mpd.config.problems import Source


def model_files(source: ModelSource) -> list[Path]:
    """The local files that a model comes from; none for the hub and the embedded world.

    Raises ValueError where they are missing.
    """
    if isinstance(source, FolderModel):
        folder = Path(source.path)
        kinds = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
        files = sorted(path for kind in kinds for path in folder.glob(kind))
        if not files:
            raise ValueError(f"{folder}: not a model folder; give one with safetensors weights")
        lost = next((path for path in files if not path.is_file()), None)
        if lost is not None:
            raise ValueError(f"{lost}: no file, or a link to nothing; copy the model again")
        return [path for path in files if path.name != "manifest.json"]
    if isinstance(source, GgufModel):
        path = Path(source.path)
        if source.path.startswith("package:"):
            package, _, name = source.path.removeprefix("package:").partition("/")
            # The name of a package within another would import the other one.
            spec = importlib.util.find_spec(package) if package.isidentifier() else None
            if spec is None or not spec.submodule_search_locations:
                raise ValueError(f"{source.path}: no such package; pip install {package}")
            path = Path(spec.submodule_search_locations[0]) / name
        if not path.is_file():
            raise ValueError(f"{path}: no such GGUF file; fix models.*.path")
        return [path]
    return []


def problem_files(source: Source) -> list[Path]:
    """The local file that problems come from; none for the hub and the embedded world.

    Raises ValueError where it is missing or empty.
    """
    if source.source != "file":
        return []
    if source.path is None:
        raise ValueError("source: file needs a path; set it")
    path = Path(source.path)
    if not path.is_file() or not path.stat().st_size:
        state = "an empty file" if path.is_file() else "no such file"
        state = "a folder, not a file" if path.is_dir() else state
        raise ValueError(f"{path}: {state}; fix the path of this problem source in the config")
    return [path]
