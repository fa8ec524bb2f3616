"""The teacher's candidates: decoded as training decodes them, for terminal and page."""

import math

import numpy as np
import pytest

from mpd.scoring.token_records import candidates, decode, ids_of, token_record
from mpd.store import schema, table
from tests.report.test_browser import CACHED


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
    from mpd.scoring.cache import DecodedRows

    frame = table.read(cached, schema.LOGITS)
    rows = DecodedRows(frame)
    for number, row in enumerate(frame.iter_rows(named=True)):
        expected = rows.support(number)
        ids, logprobs, tails = decode(row)
        distinct, width = expected.distinct.numpy(), ids.shape[1]
        assert (np.isfinite(logprobs) == distinct).all()
        assert (ids == expected.ids.numpy())[distinct].all()
        found = expected.logprobs[:, :width].numpy()[distinct]
        assert logprobs[distinct] == pytest.approx(found, abs=1e-5)
        assert tails == pytest.approx(expected.logprobs[:, width:].exp().sum(1).numpy(), abs=1e-6)


def test_token_record():
    assert token_record(CACHED) == {
        "ids": [2, 5],
        "teacher": [1386, 0],
        "student": [2000, 500],
        "divergence": [1500, 250],
        **candidates(CACHED),
    }


def test_token_record_of_what_vllm_scored_has_no_control_ids_and_no_student():
    row = {**CACHED, "control_ids": [], "control_logprobs": []}
    row |= {"student_logprob": None, "divergence": None}
    record = token_record(row)
    assert (record["student"], record["divergence"]) == (None, None)
    assert record["candidates"][0][::2] == [1, 2, 3]


def test_token_record_of_hidden_states_has_no_candidates():
    lists = ("support_size", "support_ids", "support_logprobs", "tail_logprobs")
    record = token_record({**CACHED, **dict.fromkeys(lists)})
    assert (record["candidates"], record["tail"]) == (None, None)
    assert record["divergence"] == [1500, 250]
    assert ids_of([record]) == [2, 5]


def test_ids_of_are_those_of_completions_and_candidates():
    assert ids_of([token_record(CACHED)]) == [1, 2, 3, 5]
