r"""The word-level tokenizer of the embedded world, with a chat template like Qwen's.

Text is cut greedily into pieces: `\boxed{`, a number 0 to 99, a known word or a punctuation mark
with the space that follows it, other letters, or one character. A piece outside the vocabulary
becomes `<unk>`. Known words are tried before other letters, so that whatever a model samples can be
encoded again: `Yes` and `Wait` in a row are two tokens, not the unknown word `YesWait`. Control
tokens are added tokens with ids after the vocabulary: text that is encoded without added tokens
cannot produce them.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNKNOWN = "<unk>"
INSTRUCTIONS = ("concise", "rewrite", "refine")


@dataclass(frozen=True)
class Lexicon:
    """The vocabulary of a world, without the control tokens.

    Attributes:
        numbers: how many numbers, from 0, are one token each: 10 or 100.
        words: words, each with and without the space that follows it.
        marks: punctuation, likewise.
        signs: other single characters.
    """

    numbers: int
    words: tuple[str, ...]
    marks: str
    signs: str


KNOWN_WORDS = (
    *("So", "the", "question", "answer", "is", "Start", "with", "Now", "add", "to", "take", "from"),
    *("Wait", "no", "Yes", "Let", "me", "verify", "all"),
)
CHAINS = Lexicon(100, (*INSTRUCTIONS, *KNOWN_WORDS), ".,:?", "+-=}() \n")
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


def vocabulary(lexicon: Lexicon = CHAINS) -> list[str]:
    """The pieces in the order of their ids, without the control tokens."""
    words = [*CHAT_ROLES, *lexicon.words, *lexicon.marks]
    spaced = [piece for word in words for piece in (word, f"{word} ")]
    numbers = map(str, range(lexicon.numbers))
    return [UNKNOWN, *numbers, *spaced, *lexicon.signs, r"\boxed{"]


def token_ids(lexicon: Lexicon = CHAINS) -> dict[str, int]:
    """The ids of all tokens: of the pieces, then of the control tokens."""
    tokens = [*vocabulary(lexicon), *SPECIAL, *THINK]
    return {token: number for number, token in enumerate(tokens)}


def pieces(lexicon: Lexicon = CHAINS) -> str:
    """The regular expression that cuts text into pieces."""
    words = "|".join(sorted((*CHAT_ROLES, *lexicon.words), key=len, reverse=True))
    numbers = "[1-9][0-9]|[0-9]" if lexicon.numbers > 10 else "[0-9]"
    marks = f"[{lexicon.marks}] ?"
    return rf"\\boxed\{{|{numbers}|(?:{words}) ?|[A-Za-z]+ ?|{marks}|[\s\S]"


def unknown_piece(text: str, lexicon: Lexicon = CHAINS) -> str | None:
    """The first piece of a text that is outside the vocabulary; None where there is none."""
    known = set(vocabulary(lexicon))
    control = "|".join(re.escape(token) for token in (*SPECIAL, *THINK))
    for part in re.split(control, text):
        for piece in re.findall(pieces(lexicon), part):
            if piece not in known:
                return piece.strip() or piece
    return None


def build_tokenizer(lexicon: Lexicon = CHAINS) -> "PreTrainedTokenizerFast":
    """The tokenizer; decode(encode(text)) == text for every text without unknown pieces."""
    from tokenizers import AddedToken, Regex, Tokenizer
    from tokenizers.decoders import Fuse
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    ids = {piece: number for number, piece in enumerate(vocabulary(lexicon))}
    backend = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    backend.pre_tokenizer = Split(Regex(pieces(lexicon)), "isolated")
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
