"""Folders of models: their manifests, and loading.

A model folder is an ordinary Hugging Face folder with a manifest.json beside the weights. The
manifest is written once, with the folder. Every stage quotes its digests; the files are compared
with it whenever it is read, and weights before they are loaded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpd.store.digests import digest_of
from mpd.store.files import json_object, read_json
from mpd.store.foreign_code import SAFE_WEIGHTS, code_refused, require_no_code
from mpd.store.known_digests import fresh_digest
from mpd.store.manifest import (
    MANIFEST,
    described,
    parse_manifest,
    require_files,
    require_weights_of,
)
from mpd.store.tokenizer_files import (
    TOKENIZER_FILES,
    chat_template,
    generation_stop_ids,
    load_tokenizer,
    token_map,
)
from mpd.store.turns import probe_turn_end

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONFIG_FILES = ("config.json", "generation_config.json")


def write_manifest(folder: Path, *, is_chat_model: bool = True) -> None:
    """Describe the model in `folder`; one that only embeds texts needs no chat template.

    Keys: `weights`, `chat_template` and `token_map` are digests, as is `tokenizer`, which covers
    how text is cut and what ends a completion; `digest` covers all files; `context_length` in
    tokens; `turn_end` is the id that the chat template puts behind an assistant's turn, or null;
    `files` maps names to sizes in bytes and `digests` to SHA-256; `checksum` is that of the other
    keys.
    Raises ValueError where the folder lacks weights, a tokenizer or a chat template, where
    weights or one of its JSON files is damaged, and where they would lead to code.
    """
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    for path in files:
        if path.name in (*CONFIG_FILES, *TOKENIZER_FILES) or path.name.endswith(".index.json"):
            json_object(path)  # libraries would end in a traceback
    require_no_code(folder)
    _check_weights(folder)
    digests = {path.name: fresh_digest(path) for path in files}
    weights = {name: value for name, value in digests.items() if name.endswith(".safetensors")}
    tokenizer = {name: digests[name] for name in TOKENIZER_FILES if name in digests}
    manifest = {
        "weights": digest_of(weights),
        "tokenizer": digest_of([tokenizer, generation_stop_ids(folder)]),
        "token_map": digest_of(token_map(folder)),
        "chat_template": digest_of(chat_template(folder) if is_chat_model else None),
        "digest": digest_of(digests),
        "context_length": _context_length(folder),
        "turn_end": _probed_turn_end(folder, load_tokenizer(folder)) if is_chat_model else None,
        "files": {path.name: path.stat().st_size for path in files},
    }
    text = json.dumps(described(manifest, digests), indent=1, sort_keys=True)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest, after a check that its model is beside it.

    Raises ValueError where the manifest is missing, damaged or edited, and where a file is missing
    or is another one. Of weights only the size is compared; see `require_weights`.
    """
    manifest = parse_manifest(path)
    require_files(path, manifest)
    return manifest


def require_weights(folder: Path) -> None:
    """Raise ValueError where weights are not those of the manifest beside them, if there is one.

    For every program before it loads them: a flipped byte would be computed with.
    """
    path = folder / MANIFEST
    if path.is_file():
        manifest = read_manifest(path)
        require_weights_of(path, manifest)


def require_same_tokens(student: dict[str, Any], teacher: dict[str, Any]) -> None:
    """Raise ValueError unless two manifests map the same tokens to the same ids."""
    if student["token_map"] != teacher["token_map"]:
        raise ValueError(
            "student and teacher have different token maps "
            f"({student['token_map'][:12]} and {teacher['token_map'][:12]}): the teacher cannot "
            "score the student's ids; take both from one model family"
        )


def load_model(
    folder: Path,
    dtype: str,
    attention: str | None = None,
    device: str | Mapping[str, Any] | None = None,
) -> Any:
    """The model in evaluation mode, read straight to the GPU where there is one, or to `device`.

    `dtype` as torch names it; `attention` is a function that transformers knows by this name.
    `device` may map names of modules to several.
    Raises ValueError where its files are not those of its manifest, and where it needs code of its
    own.
    """
    require_weights(folder)
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    gpu = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    with code_refused(folder):
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            device_map=device if isinstance(device, Mapping) else {"": device or gpu},
            attn_implementation=attention,
            **SAFE_WEIGHTS,
        )
    return model.eval()


def empty_model(folder: Path, attention: str) -> Any:
    """The model of a folder in float32, without values: only its buffers have memory."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    with code_refused(folder), init_empty_weights(include_buffers=False):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=attention
        )
    model.tie_weights()  # each module got a weight of its own
    return model


def turn_end(folder: Path, tokenizer: "PreTrainedTokenizerFast") -> int | None:
    """The id behind an assistant's turn, of the manifest; older manifests do not say it."""
    manifest = read_json(folder / MANIFEST)
    return manifest["turn_end"] if "turn_end" in manifest else _probed_turn_end(folder, tokenizer)


def _probed_turn_end(folder: Path, tokenizer: "PreTrainedTokenizerFast") -> int | None:
    return probe_turn_end(tokenizer, [tokenizer.eos_token_id, *generation_stop_ids(folder)])


def _check_weights(folder: Path) -> None:
    """Raise ValueError where weights are missing, or a file of them is none, or is cut."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder}: no *.safetensors in it; save the weights as safetensors")
    for path in files:
        try:
            with safe_open(path, framework="np"):
                pass
        except SafetensorError as error:
            raise ValueError(
                f"{path}: damaged, or only the pointer of Git LFS ({error}); copy it again"
            ) from None
    for index in folder.glob("*.safetensors.index.json"):
        parts = json_object(index).get("weight_map")
        for name in sorted(set(parts.values())) if isinstance(parts, dict) else ():
            if not (folder / name).is_file():
                raise ValueError(f"{folder}: no {name}, which {index.name} names; copy it again")


def _context_length(folder: Path) -> int:
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no config.json; is this a model folder?")
    config = json_object(path)
    config = config.get("text_config") or config
    length = config.get("max_position_embeddings") if isinstance(config, dict) else None
    if type(length) is not int:
        raise ValueError(f"{path}: no max_position_embeddings; add the model's context length")
    return length
