r"""The word-level tokenizer of the embedded world, with a chat template like Qwen's.

Text is cut greedily into pieces: `\boxed{`, a number 0 to 99, a known word or a punctuation mark
with the space that follows it, other letters, or one character. A piece outside the vocabulary
becomes `<unk>`. Known words are tried before other letters, so that whatever a model samples can be
encoded again: `Yes` and `Wait` in a row are two tokens, not the unknown word `YesWait`. Control
tokens are added tokens with ids after the vocabulary: text that is encoded without added tokens
cannot produce them.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNKNOWN = "<unk>"
INSTRUCTIONS = ("concise", "rewrite", "refine")
KNOWN_WORDS = (
    *("So", "the", "question", "answer", "is", "Start", "with", "Now", "add", "to", "take", "from"),
    *("Wait", "no", "Yes", "Let", "me", "verify", "all"),
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINK = ("<think>", "</think>")
CHAT_ROLES = ("system", "user", "assistant")

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '<|im_start|>assistant\\n' -}}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{- '<think></think>' -}}"
    "{%- endif -%}"
    "{%- endif -%}"
)


def vocabulary() -> list[str]:
    """The pieces in the order of their ids, without the control tokens."""
    words = [*CHAT_ROLES, *INSTRUCTIONS, *KNOWN_WORDS]
    spaced = [piece for word in [*words, *".,:?"] for piece in (word, f"{word} ")]
    return [UNKNOWN, *map(str, range(100)), *spaced, *"+-=}() \n", r"\boxed{"]


def pieces() -> str:
    """The regular expression that cuts text into pieces."""
    words = "|".join(sorted((*CHAT_ROLES, *INSTRUCTIONS, *KNOWN_WORDS), key=len, reverse=True))
    return rf"\\boxed\{{|[1-9][0-9]|[0-9]|(?:{words}) ?|[A-Za-z]+ ?|[.,:?] ?|[\s\S]"


def unknown_piece(text: str) -> str | None:
    """The first piece of a text that is outside the vocabulary; None where there is none."""
    known = set(vocabulary())
    control = "|".join(re.escape(token) for token in (*SPECIAL, *THINK))
    for part in re.split(control, text):
        for piece in re.findall(pieces(), part):
            if piece not in known:
                return piece.strip() or piece
    return None


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """The tokenizer; decode(encode(text)) == text for every text without unknown pieces."""
    from tokenizers import AddedToken, Regex, Tokenizer
    from tokenizers.decoders import Fuse
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    ids = {piece: number for number, piece in enumerate(vocabulary())}
    backend = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    backend.pre_tokenizer = Split(Regex(pieces()), "isolated")
    backend.decoder = Fuse()  # without a decoder pieces are joined by spaces
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    backend.add_tokens([AddedToken(token, normalized=False) for token in THINK])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=UNKNOWN,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
