"""Measures of token sequences: how much two overlap, and whether one repeats itself."""

import numpy as np

MIN_RUN = 4  # tokens: a shorter run that repeats is a number or an ellipsis


def overlap(rewrite: list[int], sample: list[int]) -> float:
    """Share of the rewrite's token trigrams that occur in the sample; 0 without trigrams."""

    def trigrams(ids: list[int]) -> list[tuple[int, ...]]:
        return [tuple(ids[start : start + 3]) for start in range(len(ids) - 2)]

    rewrite_trigrams, sample_trigrams = trigrams(rewrite), set(trigrams(sample))
    num_shared = sum(trigram in sample_trigrams for trigram in rewrite_trigrams)
    return num_shared / len(rewrite_trigrams) if rewrite_trigrams else 0.0


def repeats_more_than(limit: int, ids: list[int]) -> bool:
    """Whether a run of at least 4 tokens occurs more than `limit` times in a row."""
    tokens = np.asarray(ids)
    for width in range(MIN_RUN, len(ids) // (limit + 1) + 1):
        # Where the sequence differs from itself shifted by `width`, a repetition ends.
        breaks = np.flatnonzero(tokens[width:] != tokens[:-width])
        longest = np.diff(breaks, prepend=-1, append=len(ids) - width).max() - 1
        if longest // width + 1 > limit:
            return True
    return False
