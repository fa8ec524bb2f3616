"""What the teacher would have said: decoded as training decodes it, for terminal and page."""

import math

import numpy as np
import pytest
from test_browser import CACHED

from mpd import schema, table
from mpd.candidates import candidates, decoded


def test_candidates_are_the_most_probable_of_support_realised_and_control():
    found = candidates(CACHED)
    # 1/2, 1/4, 1/8, 1/16 and a tail of 2/32 in two buckets: they sum to one.
    first = [1, 693, 2, 1386, 5, 2079, 3, 2773]
    assert found == {"candidates": [first, [5, 0]], "tail": [2773, 27631]}


def test_candidates_are_at_most_five_and_none_improbable():
    row = {
        **CACHED,
        "completion_ids": [9],
        "support_size": [6],
        "support_ids": [10, 11, 12, 13, 14, 15],
        "support_logprobs": [math.log(0.16)] * 5 + [math.log(0.0001)],
        "tail_logprobs": [-60.0],
        "realised_logprob": [math.log(0.1)],
        "control_logprobs": [math.log(0.0999)],
    }
    found = candidates(row)["candidates"][0]
    assert found[::2] == [10, 11, 12, 13, 14]
    less = {**row, "support_size": [1], "support_ids": [15], "support_logprobs": [math.log(0.0001)]}
    # Of the mass that is there: 0.1, 0.0999 and 0.0001, so that 0.0001 is 0.05 %.
    less["control_logprobs"] = [math.log(0.2)]
    assert candidates(less)["candidates"][0][::2] == [5, 9]


def test_candidates_undo_the_rounding_of_the_cache():
    halved = {
        name: [value - math.log(2) for value in CACHED[name]]
        for name in ("support_logprobs", "tail_logprobs", "realised_logprob", "control_logprobs")
    }
    halved["control_logprobs"][1] = halved["realised_logprob"][1]
    assert candidates({**CACHED, **halved}) == candidates(CACHED)


def test_decoded_is_what_the_training_decodes(cached):
    from mpd.cache import Rows

    frame = table.read(cached, schema.LOGITS)
    rows = Rows(frame)
    for number, row in enumerate(frame.iter_rows(named=True)):
        expected = rows.support(number)
        ids, logprobs, tails = decoded(row)
        distinct, width = expected.distinct.numpy(), ids.shape[1]
        assert (np.isfinite(logprobs) == distinct).all()
        assert (ids == expected.ids.numpy())[distinct].all()
        found = expected.logprobs[:, :width].numpy()[distinct]
        assert logprobs[distinct] == pytest.approx(found, abs=1e-5)
        assert tails == pytest.approx(expected.logprobs[:, width:].exp().sum(1).numpy(), abs=1e-6)
