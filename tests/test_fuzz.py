"""Random rubbish for readers, chat code, answer checker, page and messages: none crashes.

The targets are in benchmarks/fuzz.py, which has texts of its own and measures. More cases, which
shrink where one fails:

    FUZZ_CASES=100000 pytest tests/test_fuzz.py
"""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import PIECES, outcome, targets

CASES = int(os.environ.get("FUZZ_CASES", "300"))
NAMES = [
    *("extract", "gold", "exact rules", "split", "thinking", "jsonl", "json", "csv", "question"),
    *("prompt", "completion", "plain text", "page", "message"),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=30).map("".join)


@pytest.fixture(scope="module")
def all_targets(tmp_path_factory):
    return targets(tmp_path_factory.mktemp("fuzz"))


def test_every_target_is_tested(all_targets):
    assert list(all_targets) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_rubbish_is_taken_or_refused(all_targets, name):
    target = all_targets[name]

    @settings(max_examples=CASES, derandomize=True, database=None, deadline=None)
    @given(TEXTS)
    def check(text):
        outcome(target, text)

    check()
