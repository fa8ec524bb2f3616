import numpy as np
import pytest

from mpd.report.difficulty import BINS, bins_of, by_difficulty
from mpd.store import schema, table
from tests.report.test_compare import problems_of

# By problem, four samples: solved never, once, twice, thrice, always.
BASE = [(0.0, 200.0, None), (0.25, 150.0, 90.0), (0.5, 120.0, 80.0), (0.75, 90.0, 70.0)]
BASE += [(1.0, 60.0, 60.0)]
MPD = [(0.5, 100.0, 100.0), (0.5, 90.0, 90.0), (0.25, 60.0, 50.0), (1.0, 80.0, 80.0)]
MPD += [(0.75, 50.0, 50.0)]


def test_bins_of():
    accuracy = np.array([[0.0, 0.0, 0.25, 0.1, 0.75, 1.0, 1.0]])
    assert [BINS[number] for number in bins_of(accuracy)] == [
        *("never", "never", "up to half", "up to half"),
        *("more than half", "always", "always"),
    ]


def test_bins_are_by_the_rate_over_all_seeds():
    accuracy = np.array([[0.0, 1.0, 0.7, 1.0], [0.0, 0.0, 0.1, 1.0], [0.0, 0.5, 0.7, 0.9]])
    # (0.7 + 0.1 + 0.7) / 3 is half; 0.9 is no always.
    assert bins_of(accuracy).tolist() == [0, 1, 1, 2]


def test_by_difficulty():
    found = by_difficulty(problems_of(("mpd", 1, 0, MPD), ("base", 0, 0, BASE)))
    assert found.to_arrow().schema == table.arrow_schema(schema.DIFFICULTY)
    columns = ("method", "bin", "num_problems", "accuracy", "tokens", "saved_tokens")
    assert found.select(columns).rows() == [
        ("base", "never", 1, 0.0, 200.0, None),
        ("base", "up to half", 2, 0.375, 135.0, None),
        ("base", "more than half", 1, 0.75, 90.0, None),
        ("base", "always", 1, 1.0, 60.0, None),
        ("mpd", "never", 1, 0.5, 100.0, 100.0),
        ("mpd", "up to half", 2, 0.375, 75.0, 60.0),
        ("mpd", "more than half", 1, 1.0, 80.0, 10.0),
        ("mpd", "always", 1, 0.75, 50.0, 10.0),
    ]
    # Draws of a bin have its problems alone: one problem has no width, two have their own values.
    ends = found.select("saved_tokens_low", "saved_tokens_high").rows()
    assert ends == [(None, None)] * 4 + [(100, 100), (60, 60), (10, 10), (10, 10)]
    (row,) = found.filter(method="mpd", bin="up to half").to_dicts()
    assert (row["accuracy_low"], row["accuracy_high"]) == (0.25, 0.5)
    assert (row["tokens_low"], row["tokens_high"]) == (60.0, 90.0)


def test_savings_are_within_a_problem_and_a_seed():
    """A problem that one of the two could not be asked does not count, nor another seed's base."""
    base = [("base", 0, 0, [(1.0, 100.0, 100.0), (1.0, 900.0, 900.0)])]
    base += [("base", 0, 1, [(1.0, 500.0, 500.0), (1.0, 50.0, 50.0)])]
    own = [("mpd", 1, 1, [(1.0, 400.0, 400.0), (0.0, None, None)])]
    own += [("mpd", 1, 7, [(1.0, 1.0, 1.0), (1.0, 1.0, 1.0)])]  # no base student of this seed
    found = by_difficulty(problems_of(*base, *own)).filter(method="mpd").to_dicts()
    assert [(row["bin"], row["num_seeds"], row["num_problems"]) for row in found] == [
        ("always", 1, 2)
    ]
    assert (found[0]["accuracy"], found[0]["saved_tokens"]) == (0.5, 100.0)


def test_benchmarks_have_bins_of_their_own():
    frame = problems_of(("base", 0, 0, BASE[:1]))
    other = problems_of(("base", 0, 0, BASE[4:]), benchmark="two")
    found = by_difficulty(frame.vstack(other))
    assert found.select("benchmark", "bin").rows() == [("one", "never"), ("two", "always")]


@pytest.mark.parametrize("students", [[], [("mpd", 1, 0, MPD)]])
def test_without_a_base_student_there_are_no_bins(students):
    assert by_difficulty(problems_of(*students)).rows() == []
