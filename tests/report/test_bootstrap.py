import numpy as np
import pytest

from mpd.report import bootstrap
from mpd.report.bootstrap import draws, percentile_interval


def intervals(values, num_draws=bootstrap.NUM_DRAWS):
    """Mean and interval of each quantity; three arrays of Q."""
    drawn = draws(values, num_draws)
    lows, highs = zip(*(percentile_interval(column) for column in drawn[1:].T), strict=True)
    return drawn[0], np.array(lows), np.array(highs)


def slow_bootstrap(values, num_draws):
    """One quantity, S × P without gaps, by loops and other random numbers."""
    rng = np.random.default_rng(1234)
    num_seeds, num_problems = values.shape
    drawn = []
    for _ in range(num_draws):
        problems = rng.integers(num_problems, size=num_problems)
        rows = [values[rng.integers(num_seeds)] for _ in range(num_seeds)]
        drawn.append(np.mean([row[problems] for row in rows]))
    return np.percentile(drawn, [2.5, 97.5])


def test_constant_differences_have_no_width():
    found = intervals(np.full((1, 1, 7), -3.0))
    assert [end.tolist() for end in found] == [[-3.0], [-3.0], [-3.0]]


def test_bootstrap_of_one_seed_draws_problems_alone():
    # Of four problems that give 0, 0, 0 and 4, a draw has k fours with the binomial probability
    # of (4, 1/4), and the mean k. P(k = 0) = 0.316 and P(k > 3) = 0.004: the ends are 0 and 3.
    mean, low, high = intervals(np.array([[[0.0, 0.0, 0.0, 4.0]]]))
    assert (mean.tolist(), low.tolist(), high.tolist()) == ([1.0], [0.0], [3.0])


def test_seeds_that_disagree_widen_the_interval():
    # Without any spread in a seed, a draw is the mean of three of -1, 0 and 4: the ends are those
    # of the seeds themselves, each with probability 1/27 > 2.5 %.
    seeds = np.repeat(np.array([[-1.0], [0.0], [4.0]]), 50, axis=1)
    mean, low, high = intervals(seeds[None])
    assert (mean.tolist(), low.tolist(), high.tolist()) == ([1.0], [-1.0], [4.0])
    one = intervals(seeds.reshape(1, 1, -1))  # the same numbers as problems of one seed
    assert one[2][0] - one[1][0] < 1.5


def test_seeds_that_agree_make_no_more_problems_than_there_are():
    one = np.random.default_rng(7).normal(size=(1, 1, 40))
    width, as_wide = (high[0] - low[0] for _, low, high in map(intervals, (one, one.repeat(3, 1))))
    assert as_wide == pytest.approx(width, rel=0.05)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_bootstrap_agrees_with_a_slow_one(spread):
    rng = np.random.default_rng(5)
    values = rng.normal(size=(4, 30)) + spread * np.arange(4)[:, None]
    _, low, high = intervals(values[None], num_draws=20_000)
    expected = slow_bootstrap(values, 20_000)
    # Monte-Carlo errors of such ends are about 0.004.
    assert [low[0], high[0]] == pytest.approx(expected, abs=0.02)
    mean = intervals(values[None])[0]
    assert mean[0] == pytest.approx(values.mean(), rel=1e-12)


def test_quantities_are_independent_of_their_neighbours_and_of_calls():
    rng = np.random.default_rng(6)
    values = rng.normal(size=(3, 2, 40))
    together = np.array(intervals(values))
    alone = np.concatenate([np.array(intervals(column[None])) for column in values], axis=1)
    assert together == pytest.approx(alone, rel=1e-12)
    assert np.array_equal(together, np.array(intervals(values)))


def test_what_does_not_count_is_left_out():
    gap = np.nan
    values = np.array([[[2.0, gap, 2.0, gap]], [[gap, gap, gap, gap]], [[gap, gap, 5.0, gap]]])
    found = np.array(intervals(values))
    assert found[:, 0].tolist() == [2.0, 2.0, 2.0]
    assert np.isnan(found[:, 1]).all()
    assert found[:, 2].tolist() == [5.0, 5.0, 5.0]  # of the draws that have it


def test_every_pair_of_seed_and_problem_counts_the_same():
    values = np.array([[[1.0, 1.0, 1.0], [5.0, np.nan, np.nan]]])
    assert intervals(values)[0].tolist() == [2.0]
