"""What the files of a tokenizer say: token map, control tokens, chat template, stop ids."""

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mpd.store.files import json_object
from mpd.store.foreign_code import NO_CODE, code_refused

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER = "tokenizer.json"
TOKENIZER_FILES = (
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_SPACE, _WORD = re.compile(r"[\s▁]*"), re.compile(r"[\s▁]*\\?\w+[\s▁]*")


def chat_template(folder: Path) -> str:
    """The folder's chat template. Raises ValueError where it has none."""
    template = folder / "chat_template.jinja"
    if template.is_file():
        try:
            return template.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{template}: not UTF-8 ({error}); copy it again") from None
    config = folder / "tokenizer_config.json"
    text = json_object(config).get("chat_template") if config.is_file() else None
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
    state = json_object(path, advice)
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
    added = json_object(folder / TOKENIZER)["added_tokens"]
    return tuple(
        token["content"] for token in added if is_control(token["content"], token["special"])
    )


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerFast":
    """The tokenizer of a folder. Raises ValueError where it is not a fast one, or needs code."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    with code_refused(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, **NO_CODE)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"{folder}: a {type(tokenizer).__name__}; a fast tokenizer is needed")
    return tokenizer


def vocabulary_size(tokenizer: "PreTrainedTokenizerFast") -> int:
    """The number of token ids. Output rows of the model from here on are padding, not tokens."""
    return max(tokenizer.get_vocab().values()) + 1


def stop_ids(folder: Path, tokenizer: "PreTrainedTokenizerFast") -> list[int]:
    """Ids that end a completion: the tokenizer's, then those of the generation config.

    Raises ValueError where there are none.
    """
    ids = [tokenizer.eos_token_id, *generation_stop_ids(folder)]
    stop = list(dict.fromkeys(token for token in ids if token is not None))
    if not stop:
        raise ValueError(f"{folder}: neither tokenizer nor generation config names a stop id")
    return stop


def generation_stop_ids(folder: Path) -> list[int]:
    """The ids that end a completion by the generation config, if there is one."""
    path = folder / "generation_config.json"
    listed = json_object(path).get("eos_token_id") if path.is_file() else None
    if listed is None:
        return []
    return listed if isinstance(listed, list) else [listed]
