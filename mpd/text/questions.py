"""The identity of a question, and its overlap with others."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from itertools import groupby

OVERLAP_WORDS = 13
# Shared boilerplate: so many words in a row that so many problems of a set, and so large a share of
# them, have. Of GSM8K's and MATH-500's questions, no five words in a row are in 6 %.
BOILERPLATE_WORDS = 5
MIN_BOILERPLATE_PROBLEMS = 5
MIN_BOILERPLATE_SHARE = 0.1

Run = tuple[str, ...]  # of words

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


def word_runs(question: str, boilerplate: Collection[Run] = frozenset()) -> set[Run]:
    """All runs of 13 words of the normalised question; none for a shorter one.

    Brackets and the like are ignored: a copy with other brackets is still a copy. Words in a run of
    `boilerplate` are left out.
    """
    words = _words(question)
    if boilerplate:
        common = _is_boilerplate(words, boilerplate)
        words = [word for word, is_common in zip(words, common, strict=True) if not is_common]
    return set(_runs(words, OVERLAP_WORDS))


def boilerplate_runs(sets: Iterable[Collection[str]]) -> set[Run]:
    """The runs of five words that a large share of the questions of one of the sets has."""
    boilerplate = set()
    for questions in sets:
        counts = Counter(
            run for question in questions for run in set(_runs(_words(question), BOILERPLATE_WORDS))
        )
        least = max(MIN_BOILERPLATE_PROBLEMS, MIN_BOILERPLATE_SHARE * len(questions))
        boilerplate |= {run for run, count in counts.items() if count >= least}
    return boilerplate


def boilerplate_texts(question: str, boilerplate: Collection[Run]) -> list[str]:
    """What `word_runs` leaves out of a question."""
    words = _words(question)
    common = zip(_is_boilerplate(words, boilerplate), words, strict=True)
    parts = groupby(common, key=lambda pair: pair[0])
    return [" ".join(word for _, word in part) for is_common, part in parts if is_common]


def _words(question: str) -> list[str]:
    return re.sub(r"[^\w\s+\-*/^=<>%.]", " ", normalise_question(question)).split()


def _runs(words: list[str], length: int) -> list[Run]:
    return [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]


def _is_boilerplate(words: list[str], boilerplate: Collection[Run]) -> list[bool]:
    """Whether each word is in a run of `boilerplate`."""
    common = [False] * len(words)
    for start, run in enumerate(_runs(words, BOILERPLATE_WORDS)):
        if run in boilerplate:
            common[start : start + BOILERPLATE_WORDS] = [True] * BOILERPLATE_WORDS
    return common
