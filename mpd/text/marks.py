"""Marks what one text has and another has not, word by word."""

import re
from difflib import SequenceMatcher

from rich.text import Text

# Words or sentences of one text times those of the other: more would take longer than a second.
MAX_WORK = 12_000_000

WORDS = r"\s+|\w+|[^\w\s]"
SENTENCES = r"[^.?!\n]*[.?!\n]+\s*|[^.?!\n]+"


def marked(text: str, other: str, style: str) -> Text:
    """`text`, in which the words that `other` lacks in this order have a style.

    Long texts are compared by sentences, very long ones not at all.
    """
    made = Text()
    for pattern in (WORDS, SENTENCES):
        own, others = re.findall(pattern, text), re.findall(pattern, other)
        if len(own) * len(others) <= MAX_WORK:
            break
    else:
        return Text(text)
    matcher = SequenceMatcher(None, own, others, autojunk=False)
    for kind, start, stop, _, _ in matcher.get_opcodes():
        made.append("".join(own[start:stop]), None if kind == "equal" else style)
    return made
