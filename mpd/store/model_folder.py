"""Folders of models: their manifests, and loading.

A model folder is an ordinary Hugging Face folder with a manifest.json beside the weights. The
manifest is written once, with the folder. Every stage quotes its digests, and none hashes weights
again.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpd.store.digests import digest_of, file_digest
from mpd.store.files import read_json
from mpd.store.turns import probe_turn_end

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_FILES = (
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_SPACE, _WORD = re.compile(r"[\s▁]*"), re.compile(r"[\s▁]*\\?\w+[\s▁]*")
CONFIG_FILES = ("config.json", "generation_config.json")


def write_manifest(folder: Path) -> None:
    """Describe the model in `folder`.

    Keys: `weights`, `chat_template` and `token_map` are digests, as is `tokenizer`, which covers
    how text is cut and what ends a completion; `digest` covers all files; `context_length` in
    tokens; `turn_end` is the id that the chat template puts behind an assistant's turn, or null;
    `files` maps names to sizes in bytes.
    Raises ValueError where the folder lacks weights, a tokenizer or a chat template, and where
    weights or one of its JSON files is damaged.
    """
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    for path in files:
        if path.name in (*CONFIG_FILES, *TOKENIZER_FILES) or path.name.endswith(".index.json"):
            _object_in(path)  # libraries would end in a traceback
    _check_weights(folder)
    digests = {path.name: file_digest(path) for path in files}
    weights = {name: value for name, value in digests.items() if name.endswith(".safetensors")}
    tokenizer = {name: digests[name] for name in TOKENIZER_FILES if name in digests}
    manifest = {
        "weights": digest_of(weights),
        "tokenizer": digest_of([tokenizer, _generation_stop_ids(folder)]),
        "token_map": digest_of(token_map(folder)),
        "chat_template": digest_of(chat_template(folder)),
        "digest": digest_of(digests),
        "context_length": _context_length(folder),
        "turn_end": _probed_turn_end(folder, load_tokenizer(folder)),
        "files": {path.name: path.stat().st_size for path in files},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest, after a check that its model is beside it.

    Raises ValueError where the manifest or a file is missing, or a file has another size.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such manifest; give the manifest.json of a resolved model")
    manifest = _object_in(path, "delete it and run again")
    for name, size in manifest["files"].items():
        file = path.parent / name
        if not file.is_file() or file.stat().st_size != size:
            raise ValueError(
                f"{file}: missing, or not the {size} bytes of its manifest; "
                f"delete {path} and run again"
            )
    return manifest


def require_same_tokens(student: dict[str, Any], teacher: dict[str, Any]) -> None:
    """Raise ValueError unless two manifests map the same tokens to the same ids."""
    if student["token_map"] != teacher["token_map"]:
        raise ValueError(
            "student and teacher have different token maps "
            f"({student['token_map'][:12]} and {teacher['token_map'][:12]}): the teacher cannot "
            "score the student's ids; take both from one model family"
        )


def chat_template(folder: Path) -> str:
    """The folder's chat template. Raises ValueError where it has none."""
    template = folder / "chat_template.jinja"
    if template.is_file():
        try:
            return template.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{template}: not UTF-8 ({error}); copy it again") from None
    config = folder / "tokenizer_config.json"
    text = _object_in(config).get("chat_template") if config.is_file() else None
    if not text:
        raise ValueError(
            f"{folder}: no chat template (chat_template.jinja, or chat_template in "
            "tokenizer_config.json); add that of the model's instruct version"
        )
    return text


def token_map(folder: Path) -> dict[str, int]:
    """The ids of all tokens, as the folder's tokenizer.json lists them.

    Raises ValueError where there is none, or it is not JSON. Loads no library of tokenizers, which
    the Snakefile does without.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        raise ValueError(f"{folder}: no {TOKENIZER}; save a fast tokenizer into it")
    advice = "save the tokenizer again"
    state = _object_in(path, advice)
    try:
        tokens, added = state["model"]["vocab"], state["added_tokens"]
    except (KeyError, TypeError):
        raise ValueError(f"{path}: no vocabulary or no added tokens in it; {advice}") from None
    if isinstance(tokens, list):  # a unigram model: pairs of token and score
        tokens = {token: number for number, (token, _) in enumerate(tokens)}
    return {**tokens, **{token["content"]: token["id"] for token in added}}


def is_control(text: str, special: bool) -> bool:
    """Whether an added token is a control token: no space, and no word that someone added.

    Some tokenizers write a space as ▁. Words may be commands of LaTeX.
    """
    return not (_SPACE.fullmatch(text) or (_WORD.fullmatch(text) and not special))


@cache
def control_texts(folder: Path) -> tuple[str, ...]:
    """The texts of the control tokens that the folder's tokenizer.json lists."""
    added = _object_in(folder / TOKENIZER)["added_tokens"]
    return tuple(
        token["content"] for token in added if is_control(token["content"], token["special"])
    )


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerFast":
    """The tokenizer of a folder. Raises ValueError where it is not a fast one."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"{folder}: a {type(tokenizer).__name__}; a fast tokenizer is needed")
    return tokenizer


def vocabulary_size(tokenizer: "PreTrainedTokenizerFast") -> int:
    """The number of token ids. Output rows of the model from here on are padding, not tokens."""
    return max(tokenizer.get_vocab().values()) + 1


def load_model(folder: Path, dtype: str, attention: str | None = None) -> Any:
    """The model in evaluation mode, read straight to the GPU where there is one.

    `dtype` as torch names it; `attention` is a function that transformers knows by this name.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    device = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), device_map={"": device}, attn_implementation=attention
    )
    return model.eval()


def stop_ids(folder: Path, tokenizer: "PreTrainedTokenizerFast") -> list[int]:
    """Ids that end a completion: the tokenizer's, then those of the generation config.

    Raises ValueError where there are none.
    """
    ids = [tokenizer.eos_token_id, *_generation_stop_ids(folder)]
    stop = list(dict.fromkeys(token for token in ids if token is not None))
    if not stop:
        raise ValueError(f"{folder}: neither tokenizer nor generation config names a stop id")
    return stop


def turn_end(folder: Path, tokenizer: "PreTrainedTokenizerFast") -> int | None:
    """The id behind an assistant's turn, of the manifest; older manifests do not say it."""
    manifest = read_json(folder / MANIFEST)
    return manifest["turn_end"] if "turn_end" in manifest else _probed_turn_end(folder, tokenizer)


def _probed_turn_end(folder: Path, tokenizer: "PreTrainedTokenizerFast") -> int | None:
    return probe_turn_end(tokenizer, [tokenizer.eos_token_id, *_generation_stop_ids(folder)])


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
        parts = _object_in(index).get("weight_map")
        for name in sorted(set(parts.values())) if isinstance(parts, dict) else ():
            if not (folder / name).is_file():
                raise ValueError(f"{folder}: no {name}, which {index.name} names; copy it again")


def _generation_stop_ids(folder: Path) -> list[int]:
    path = folder / "generation_config.json"
    listed = _object_in(path).get("eos_token_id") if path.is_file() else None
    if listed is None:
        return []
    return listed if isinstance(listed, list) else [listed]


def _context_length(folder: Path) -> int:
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no config.json; is this a model folder?")
    config = _object_in(path)
    config = config.get("text_config") or config
    length = config.get("max_position_embeddings") if isinstance(config, dict) else None
    if type(length) is not int:
        raise ValueError(f"{path}: no max_position_embeddings; add the model's context length")
    return length


def _object_in(path: Path, advice: str = "copy it again") -> dict[str, Any]:
    """The object in a JSON file. Raises ValueError, naming the file, where it has none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); {advice}") from None
    except RecursionError:
        raise ValueError(f"{path}: JSON that is nested too deep; {advice}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a JSON {type(content).__name__}, not an object; {advice}")
    return content
