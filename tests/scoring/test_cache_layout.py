"""The rounding of cached values, and supports laid out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpd.scoring.cache_layout import fixed_entries, round_to_bits, support_arrays
from mpd.scoring.divergence import LOGPROB_FLOOR


@pytest.mark.parametrize(
    ("bits", "value", "expected"),
    [
        (6, 0.0, 0.0),
        (6, -1.0, -1.0),
        (6, -(1 + 1 / 64), -(1 + 1 / 64)),
        (6, -(1 + 1 / 256), -1.0),
        (6, -(1 + 3 / 256), -(1 + 1 / 64)),
        (6, -(1 + 1 / 128), -(1 + 1 / 64)),  # half is rounded away from zero
        (6, -1.999, -2.0),  # carried into the exponent
        (4, -0.3, -0.296875),  # 1.2 / 4 to 19/16 / 4
        (4, -11.7, -11.5),
        (4, LOGPROB_FLOOR, LOGPROB_FLOOR),
        (7, LOGPROB_FLOOR, LOGPROB_FLOOR),
        (7, -2.718281828, -2.71875),
        (7, 1e-3, 131 / 128 * 2.0**-10),
    ],
)
def test_rounded_by_hand(bits, value, expected):
    found = round_to_bits(np.array([value], np.float32), bits)
    assert found.dtype == np.float32
    assert found.tolist() == [expected]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1), st.integers(1, 12))
def test_rounded_values_have_few_bits_and_are_the_nearest(values, bits):
    values = np.array(values, np.float32)
    found = round_to_bits(values, bits)
    assert not (found.view(np.uint32) & ((1 << (23 - bits)) - 1)).any()
    normal = np.abs(values) >= np.finfo(np.float32).tiny
    error = np.abs(np.float64(found) - values)
    # Half a step of the binary order of magnitude that the value is in.
    _, exponent = np.frexp(values)
    assert (error <= 2.0 ** (exponent - 1 - bits - 1))[normal].all()


def test_a_support_by_hand():
    """Two positions: the second realised id is a control id, and has one entry fewer."""
    realised, control = np.array([3, 8], np.int32), np.array([8, 9], np.int32)
    controls = np.array([-3.0, -4.0, -9.0, -5.0], np.float32)
    fixed = fixed_entries(realised, control, np.array([-1.0, -2.0], np.float32), controls, -80.0)
    assert fixed.dtype == np.float32
    assert fixed.tolist() == [[-1.0, -3.0, -4.0], [-2.0, -80.0, -5.0]]
    entries = np.array([1, 4, 7], np.int32), np.array([-6.0, -7.0, -8.0], np.float32)
    tails = np.array([[-10.0, -11.0], [-12.0, -13.0]], np.float32)
    ids, distinct, logprobs = support_arrays(
        realised, control, fixed, np.array([2, 1]), entries, tails, -80.0
    )
    assert ids.tolist() == [[3, 8, 9, 1, 4], [8, 8, 9, 7, 8]]
    assert distinct.tolist() == [[True] * 5, [True, False, True, True, False]]
    assert logprobs.dtype == np.float32
    assert logprobs.tolist() == [
        [-1.0, -3.0, -4.0, -6.0, -7.0, -10.0, -11.0],
        [-2.0, -80.0, -5.0, -8.0, -80.0, -12.0, -13.0],
    ]
