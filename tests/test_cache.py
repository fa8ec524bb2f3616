"""The layout of the cache: hand-written rows, there and back."""

import math

import pytest
import torch

from mpd.cache import decode, encode
from mpd.divergence import FLOOR

CONTROL = [8, 9]
# Three positions over the ids 0 to 9: probabilities of what the cache holds, and of the tail.
#   realised 3: inside the top-k {3, 1};  realised 8: a control id;  realised 5: top-k {9, 5}.
REALISED = [3, 8, 5]
TOP = torch.tensor([[3, 1, 4], [7, 8, 9], [9, 5, 8]])
PROBABILITIES = torch.tensor(
    [
        [0.01, 0.20, 0.01, 0.50, 0.10, 0.02, 0.02, 0.02, 0.08, 0.04],
        [0.00, 0.00, 0.00, 0.05, 0.00, 0.05, 0.00, 0.50, 0.30, 0.10],
        [0.05, 0.05, 0.05, 0.05, 0.05, 0.25, 0.05, 0.05, 0.10, 0.30],
    ]
)


def row(**changes):
    logprobs = PROBABILITIES.log()
    fixed = [[realised, *CONTROL] for realised in REALISED]
    taken = torch.tensor(
        [[entry in ids for entry in top] for top, ids in zip(TOP.tolist(), fixed, strict=True)]
    )
    sizes, ids, values = encode(TOP, logprobs.gather(1, TOP), taken)
    return {
        "sample_id": "a-0",
        "completion_ids": REALISED,
        "control_ids": CONTROL,
        "support_size": sizes,
        "support_ids": ids,
        "support_logprobs": values,
        "realised_logprob": [logprobs[place, id].item() for place, id in enumerate(REALISED)],
        "control_logprobs": logprobs[:, CONTROL].flatten().tolist(),
        "tail_logprob": [math.log(0.08), math.log(0.10), math.log(0.35)],
        **changes,
    }


def outcomes(support, position):
    """Id to probability of the entries that count, and the tail's under None."""
    entries = zip(
        support.ids[position].tolist(),
        support.distinct[position].tolist(),
        support.logprobs[position, :-1].exp().tolist(),
        strict=True,
    )
    found = [(id, value) for id, distinct, value in entries if distinct]
    assert len(dict(found)) == len(found)  # no id counts twice
    return {**dict(found), None: support.logprobs[position, -1].exp().item()}


def test_encode_leaves_out_what_is_taken():
    made = row()
    assert made["support_size"] == [2, 1, 0]
    assert made["support_ids"] == [1, 4, 7]
    assert made["support_logprobs"] == pytest.approx([math.log(p) for p in (0.2, 0.1, 0.5)])


def test_decode_gives_the_supports_back():
    support = decode(row())
    assert support.ids.shape == support.distinct.shape == (3, 5)
    assert support.logprobs.shape == (3, 6)
    assert support.ids.tolist() == [[3, 8, 9, 1, 4], [8, 8, 9, 7, 8], [5, 8, 9, 5, 5]]
    assert support.distinct.tolist() == [
        [True, True, True, True, True],
        [True, False, True, True, False],
        [True, True, True, False, False],
    ]
    expected = [
        {3: 0.5, 8: 0.08, 9: 0.04, 1: 0.2, 4: 0.1, None: 0.08},
        {8: 0.3, 9: 0.1, 7: 0.5, None: 0.1},
        {5: 0.25, 8: 0.1, 9: 0.3, None: 0.35},
    ]
    for position, values in enumerate(expected):
        assert outcomes(support, position) == pytest.approx(values, abs=1e-6)
    assert support.logprobs[:, :-1][~support.distinct].tolist() == [FLOOR] * 4


def test_all_outcomes_of_a_support_sum_to_one():
    rounded = [value + 0.01 for value in row()["tail_logprob"]]
    for made in (row(), row(tail_logprob=rounded)):
        sums = decode(made).logprobs.exp().sum(-1)
        assert sums.tolist() == pytest.approx([1.0] * 3, abs=1e-6)


def test_empty_supports():
    support = decode(row(support_size=[0, 0, 0], support_ids=[], support_logprobs=[]))
    assert support.ids.tolist() == [[3, 8, 9], [8, 8, 9], [5, 8, 9]]
    assert support.distinct.tolist() == [[True] * 3, [True, False, True], [True] * 3]
    assert support.logprobs.exp().sum(-1).tolist() == pytest.approx([1.0] * 3, abs=1e-6)


def test_a_format_without_control_ids():
    support = decode(row(control_ids=[], control_logprobs=[]))
    assert support.ids.tolist() == [[3, 1, 4], [8, 7, 8], [5, 5, 5]]
    assert support.distinct.tolist() == [[True] * 3, [True, True, False], [True, False, False]]


@pytest.mark.parametrize(
    "changes",
    [
        {"support_size": [2, 1]},
        {"support_size": [2, 1, 0, 0]},
        {"support_size": [2, 1, 1]},
        {"support_ids": [1, 4, 7, 6]},
        {"support_ids": [1, 4]},
        {"support_logprobs": [-1.0]},
        {"support_logprobs": [-1.0] * 4},
        {"control_logprobs": [-1.0] * 5},
        {"control_ids": [9]},
        {"completion_ids": [3, 8]},
        {"realised_logprob": [-1.0]},
        {"realised_logprob": [-1.0] * 4},
        {"tail_logprob": [-1.0]},
        {"tail_logprob": [-1.0, -1.0]},
    ],
    ids=str,
)
def test_lists_that_do_not_fit_are_refused(changes):
    with pytest.raises(ValueError, match="cached row a-0: its lists do not fit together"):
        decode(row(**changes))
