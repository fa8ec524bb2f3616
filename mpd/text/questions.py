"""The identity of a question, and its overlap with others."""

import hashlib
import re
import unicodedata

OVERLAP_WORDS = 13

# What normalising to NFKC would lose: 3² is not 32, x₂ is not x2, and 3½ is not 31/2.
MARKS = {"<super>": "^", "<sub>": "_", "<fraction>": " "}
# One sign in several encodings: apostrophes and primes, dashes and minus, the fraction's stroke.
SAME = str.maketrans("‘’′‐‒–—−⁄", "'''-----/")
# Punctuation of prose, delimiters of LaTeX's mathematics, and what has no width. Not a point
# before a digit: .5 is not 5.
PROSE = re.compile(r'[,;:?"“”„«»¿¡。、`\u00ad\u200b\u2060\ufeff]|\.(?!\d)|\\?\$|(?<!\\)\\[()\[\]]')


def normalise(question: str) -> str:
    """A question without case, and without differences of encoding, space and punctuation.

    Signs that mathematics uses stay: 1+2 and 1-2, 5! and 5, (1+2)*3 and 1+2*3 are different.
    """
    marked = (
        MARKS.get(unicodedata.decomposition(sign).split(" ")[0], "") + sign for sign in question
    )
    text = unicodedata.normalize("NFKC", "".join(marked)).casefold().translate(SAME)
    return " ".join(PROSE.sub(" ", text).split())


def problem_id(question: str) -> str:
    """Digest of the normalised question; 16 hexadecimal digits."""
    return hashlib.sha256(normalise(question).encode()).hexdigest()[:16]


def word_runs(question: str) -> set[tuple[str, ...]]:
    """All runs of 13 words of the normalised question; empty for a shorter one.

    Brackets and the like are left out: a copy that sets them differently is a copy still.
    """
    words = re.sub(r"[^\w\s+\-*/^=<>%.]", " ", normalise(question)).split()
    return {
        tuple(words[start : start + OVERLAP_WORDS])
        for start in range(len(words) - OVERLAP_WORDS + 1)
    }
