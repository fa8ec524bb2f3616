"""The identity of a question, and its overlap with others."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

OVERLAP_WORDS = 13
# Shared boilerplate: so many words in a row that so large a share of the problems of a set has, and
# so many that are no near-copies of each other; near-copies do not matter where most of the set has
# the words. Of GSM8K's and MATH-500's questions, no five words in a row are in 6 %.
BOILERPLATE_WORDS = 5
MIN_BOILERPLATE_PROBLEMS = 5
MIN_BOILERPLATE_SHARE = 0.1
MOST = 0.5  # also the share of their runs of words that near-copies have in common
MAX_COUNTED = 10_000  # questions of a set, evenly spaced, in which runs are counted

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


def boilerplate_runs(sets: Iterable[Sequence[str]]) -> set[Run]:
    """The runs of five words that a large share of the questions of one of the sets has.

    Of a large set, the share is that of MAX_COUNTED questions: counts of more take too much memory.
    """
    boilerplate = set()
    for whole_set in sets:
        questions = whole_set[:: -(-len(whole_set) // MAX_COUNTED) or 1]
        runs = [set(_runs(_words(question), BOILERPLATE_WORDS)) for question in questions]
        counts = Counter(run for of_question in runs for run in of_question)
        least = max(MIN_BOILERPLATE_PROBLEMS, MIN_BOILERPLATE_SHARE * len(questions))
        common = {run for run, count in counts.items() if count >= least}
        most = {run for run in common if counts[run] > MOST * len(questions)}
        boilerplate |= most | _in_different_questions(common - most, runs)
    return boilerplate


def _in_different_questions(candidates: set[Run], runs: Sequence[set[Run]]) -> set[Run]:
    """The candidates that enough questions have, of which no two are near-copies.

    `runs` has those of each question.
    """
    different: dict[Run, list[set[Run]]] = {run: [] for run in candidates}
    for of_question in runs:
        for run in candidates & of_question:
            others = different[run]
            if len(others) < MIN_BOILERPLATE_PROBLEMS and not any(
                len(of_question & other) > MOST * min(len(of_question), len(other))
                for other in others
            ):
                others.append(of_question)
    return {run for run, others in different.items() if len(others) >= MIN_BOILERPLATE_PROBLEMS}


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
