"""The identity of a question, and its overlap with others."""

import hashlib
import re
import unicodedata

OVERLAP_WORDS = 13


def normalise(question: str) -> str:
    """A question without case, and without differences of encoding, space and punctuation.

    Signs of arithmetic stay: 1+2 and 1-2 are two questions.
    """
    text = unicodedata.normalize("NFKC", question).casefold()
    text = re.sub(r"(?<!\d)\.|\.(?!\d)", " ", text)  # a point inside a number stays
    return " ".join(re.sub(r"[^\w\s+\-*/^=<>%.]", " ", text).split())


def problem_id(question: str) -> str:
    """Digest of the normalised question; 16 hexadecimal digits."""
    return hashlib.sha256(normalise(question).encode()).hexdigest()[:16]


def word_runs(question: str) -> set[tuple[str, ...]]:
    """All runs of 13 words of the normalised question; empty for a shorter one."""
    words = normalise(question).split()
    return {
        tuple(words[start : start + OVERLAP_WORDS])
        for start in range(len(words) - OVERLAP_WORDS + 1)
    }
