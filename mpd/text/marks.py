"""The words that one text has and another lacks."""

import re
from difflib import SequenceMatcher

from rich.text import Text

# Pieces of one text times pieces of the other: comparing more would take longer than a second.
MAX_WORK = 12_000_000

WORDS = r"\s+|\w+|[^\w\s]"
SENTENCES = r"[^.?!\n]*[.?!\n]+\s*|[^.?!\n]+"


def marked(text: str, other: str, style: str) -> Text:
    """`text`, in which the words that `other` lacks in this order have a style.

    Long texts are compared by sentences, very long ones not at all.
    """
    for pattern in (WORDS, SENTENCES):
        pieces, other_pieces = re.findall(pattern, text), re.findall(pattern, other)
        if len(pieces) * len(other_pieces) <= MAX_WORK:
            break
    else:
        return Text(text)
    styled = Text()
    matcher = SequenceMatcher(None, pieces, other_pieces, autojunk=False)
    for operation, start, stop, _, _ in matcher.get_opcodes():
        styled.append("".join(pieces[start:stop]), None if operation == "equal" else style)
    return styled
