"""What model folders bring along beside weights: no code is run, and no other folder is read.

Libraries run Python code that a folder or the hub has for a model where `auto_map` names it, unless
they are told not to; they ask on the terminal where they are told nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpd.store.files import json_object

# How every folder is loaded: no code but the library's, and nothing from the hub.
NO_CODE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
SAFE_WEIGHTS: dict[str, Any] = {**NO_CODE, "use_safetensors": True}

# Keys of config.json that may name code of the hub, such as kernels-community/flash-attn.
_IMPLEMENTATIONS = ("attn_implementation", "_attn_implementation", "experts_implementation")


@contextmanager
def code_refused(folder: Path) -> Iterator[None]:
    """Raise ValueError with one sentence where a model is loaded that needs code of its own."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"{folder}: its auto_map names Python code of its own, which is never run; take a "
            "model whose architecture and tokenizer the library transformers has"
        ) from error


def require_no_code(folder: Path) -> None:
    """Raise ValueError where files of a model would lead to code, pickles or other folders."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        raise ValueError(
            f"{adapter}: an adapter, whose model is elsewhere; merge it into its model, and give "
            "the folder of the result"
        )
    for index in folder.glob("*.safetensors.index.json"):
        parts = json_object(index).get("weight_map")
        for name in parts.values() if isinstance(parts, dict) else ():
            if Path(str(name)).name != name or not name.endswith(".safetensors"):
                raise ValueError(
                    f"{index}: weight_map has {str(name)[:200]!r}, which is no name of a "
                    "*.safetensors file beside it; save the model again"
                )
    path = folder / "config.json"
    config = json_object(path) if path.is_file() else {}
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key in _IMPLEMENTATIONS:
            if "/" in str(part.get(key, "")):
                raise ValueError(
                    f"{path}: {key} is {str(part[key])[:200]!r}, code of the hub, which is never "
                    "run; remove the key"
                )
