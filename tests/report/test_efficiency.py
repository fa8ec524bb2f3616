import re

import numpy as np
import pytest

from mpd.report.efficiency import FORMULA, aes
from mpd.store import schema


@pytest.mark.parametrize(
    ("accuracy", "tokens", "score"),
    [
        (0.5, 100.0, 0.0),
        (0.5, 25.0, 0.75),
        (0.5, 150.0, -0.5),
        (0.75, 100.0, 1.5),  # 3 · 0.5
        (0.25, 100.0, -2.5),  # 5 · 0.5
        (0.25, 50.0, -2.0),
        (1.0, 0.0, 4.0),
    ],
)
def test_aes(accuracy, tokens, score):
    assert aes(*np.array([accuracy, tokens, 0.5, 100.0])) == score


def test_aes_is_undefined_where_the_base_student_solves_nothing_or_says_nothing():
    accuracy, tokens = np.array([0.0, 0.5, 0.5, np.nan]), np.array([1.0, 1.0, 1.0, 1.0])
    base_accuracy, base_tokens = np.array([0.0, 0.0, 0.5, 0.5]), np.array([1.0, 1.0, 0.0, 1.0])
    assert np.isnan(aes(accuracy, tokens, base_accuracy, base_tokens)).tolist() == [True] * 4


def test_aes_goes_element_by_element():
    found = aes(np.array([0.5, 0.4]), np.array([50.0, 100.0]), np.array(0.5), np.array(100.0))
    assert found.tolist() == pytest.approx([0.5, -1.0])


def test_the_weights_stand_with_the_formula():
    assert FORMULA.startswith("AES = 1·ΔL + 3·|ΔA| where")
    assert "else 1·ΔL − 5·|ΔA|" in FORMULA
    (column,) = (column for column in schema.SUMMARY.columns if column.name == "aes")
    assert re.search(r"\(a, b, g\) = \(1, 3, 5\)", column.description)
