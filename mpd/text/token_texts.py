"""The text of a token, as the terminal and the report show it."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def token_texts(tokenizer: "Tokenizer", ids: Iterable[int]) -> dict[int, str]:
    """What each id adds to a text.

    A part of a character is spelled as in the vocabulary, an id outside the vocabulary as a number.
    """

    def is_text(decoded: str) -> bool:
        return bool(decoded.strip()) and "\ufffd" not in decoded

    # Some decoders drop the space before the first token of a text: each is decoded after another.
    decode = partial(tokenizer.decode, skip_special_tokens=False)
    first = next((id for id in range(tokenizer.get_vocab_size()) if is_text(decode([id]))), 0)
    before = decode([first])

    def text(token: int) -> str:
        spelled = tokenizer.id_to_token(token)
        if spelled is None:
            return f"<{token}>"
        decoded = decode([first, token])
        return spelled if "\ufffd" in decoded else decoded.removeprefix(before)

    return {token: text(token) for token in ids}
