"""The identity of a question, and its overlap with others."""

import hashlib
import re
import unicodedata

OVERLAP_WORDS = 13

# What NFKC would lose: 3² is not 32, x₂ is not x2, and 3½ is not 31/2.
MARKS = {"<super>": "^", "<sub>": "_", "<fraction>": " "}
# Several encodings of one sign: apostrophes and primes, dashes and minus, the fraction slash.
SAME = str.maketrans("‘’′‐‒–—−⁄", "'''-----/")
# Punctuation of prose, math delimiters of LaTeX, and characters of no width. A point before a
# digit is none of it: .5 is not 5.
PROSE = re.compile(r'[,;:?"“”„«»¿¡。、`\u00ad\u200b\u2060\ufeff]|\.(?!\d)|\\?\$|(?<!\\)\\[()\[\]]')


def normalise_question(question: str) -> str:
    """A question without differences of case, encoding, space and punctuation.

    Signs that mathematics uses stay: 1+2 and 1-2, 5! and 5, (1+2)*3 and 1+2*3 are different.
    """
    marked = (
        MARKS.get(unicodedata.decomposition(sign).split(" ")[0], "") + sign for sign in question
    )
    text = unicodedata.normalize("NFKC", "".join(marked)).casefold().translate(SAME)
    return " ".join(PROSE.sub(" ", text).split())


def problem_id(question: str) -> str:
    """Digest of the normalised question; 16 hexadecimal digits."""
    return hashlib.sha256(normalise_question(question).encode()).hexdigest()[:16]


def word_runs(question: str) -> set[tuple[str, ...]]:
    """All runs of 13 words of the normalised question; none for a shorter one.

    Brackets and the like are ignored: a copy with other brackets is still a copy.
    """
    words = re.sub(r"[^\w\s+\-*/^=<>%.]", " ", normalise_question(question)).split()
    return {
        tuple(words[start : start + OVERLAP_WORDS])
        for start in range(len(words) - OVERLAP_WORDS + 1)
    }
