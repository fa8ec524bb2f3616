"""The plan of a training run: the rows of every step, and how processes share them."""

import pytest

from mpd.config.distill import DistillSettings
from mpd.training.steps import BLOCK, WINDOW, Limits, extent, plan_steps, split_step
from tests.changes import with_changes

SETTINGS = DistillSettings(learning_rate=1e-3, warmup=0, epochs=2, batch_size=8)


def planned(num_rows, lengths=None, seed=0, **budget):
    settings = with_changes(SETTINGS, seed=seed, **budget)
    return plan_steps(lengths or [1] * num_rows, settings)


def test_a_budget_of_steps_or_tokens_is_the_beginning_of_the_same_order():
    lengths = list(range(1, 13))
    whole = planned(12, batch_size=4, epochs=10)
    steps = planned(12, batch_size=4, budget="steps", amount=7)
    assert steps == whole[:7]
    tokens = [sum(lengths[row] for row in step) for step in whole]
    limit = sum(tokens[:5])
    assert sum(tokens) == 10 * sum(lengths)
    for amount, count in ((1, 1), (limit, 5), (limit + 1, 6), (limit - 1, 5)):
        found = planned(12, lengths, batch_size=4, budget="tokens", amount=amount)
        assert found == whole[:count]


def test_every_row_stands_once_in_every_epoch():
    steps = planned(12, batch_size=4, epochs=3)
    assert [len(step) for step in steps] == [4] * 9
    order = [row for step in steps for row in step]
    epochs = [order[start : start + 12] for start in (0, 12, 24)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != list(range(12))
    assert planned(12, batch_size=4, epochs=3) == steps
    assert planned(12, batch_size=4, epochs=3, seed=1) != steps


def test_batches_are_full_across_epochs():
    steps = planned(10, batch_size=4, epochs=2)
    assert [len(step) for step in steps] == [4] * 5
    order = [row for step in steps for row in step]
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert [sorted(step) for step in planned(3, batch_size=32, epochs=2)] == [[0, 1, 2]] * 2
    assert len(planned(100, batch_size=10, epochs=0.01)) == 1
    assert len(planned(100, batch_size=10, epochs=0.5)) == 5


def test_a_window_is_of_few_blocks_of_rows():
    num_rows = 3 * WINDOW * BLOCK - BLOCK // 2  # the last block is a short one
    (order,) = planned(num_rows, batch_size=num_rows, epochs=1)
    assert sorted(order) == list(range(num_rows))
    blocks = []
    start = 0
    while start < num_rows:
        size = WINDOW * BLOCK
        if (num_rows - 1) // BLOCK in {row // BLOCK for row in order[start : start + size]}:
            size -= BLOCK // 2
        blocks.append({row // BLOCK for row in order[start : start + size]})
        start += size
    assert [len(window) for window in blocks] == [WINDOW] * 3
    assert set.union(*blocks) == set(range(3 * WINDOW))
    assert order[: WINDOW * BLOCK] != sorted(order[: WINDOW * BLOCK])


def test_the_order_is_of_the_number_of_rows_and_the_seed_alone():
    lengths = [1 + row % 7 for row in range(1000)]
    assert planned(1000) == planned(1000, lengths) == planned(1000, lengths[::-1])
    assert planned(1000) != planned(1000, seed=1)


def test_a_step_is_shared_in_equal_numbers_of_micro_batches():
    sizes = [50, 10, 40, 20, 30, 60, 70, 5, 15, 25]
    rows = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    for num_rows, num_processes in [(1, 1), (2, 1), (3, 2), (2, 2), (8, 4), (99, 3)]:
        parts = split_step(rows, sizes, Limits(num_rows, 1000), num_processes)
        assert len(parts) % num_processes == 0
        assert all(0 < len(part) <= num_rows for part in parts)
        assert sorted(row for part in parts for row in part) == sorted(rows)
    # The longest first, each to the part with the fewest tokens.
    assert split_step(rows, sizes, Limits(5, 1000), 1) == [[6, 2, 4, 8, 1], [5, 0, 9, 3, 7]]
    assert split_step(rows, sizes, Limits(99, 1000), 1) == [[6, 5, 0, 2, 4, 9, 3, 8, 1, 7]]


def test_micro_batches_hold_no_more_tokens_than_they_may():
    sizes = [50, 10, 40, 20, 30, 60, 70, 5, 15, 25]
    for num_tokens, num_parts in [
        (325, 1),
        (324, 2),
        (165, 2),
        (164, 3),
        (75, 5),
        (70, 5),
        (1, 10),
    ]:
        parts = split_step(range(10), sizes, Limits(99, num_tokens), 1)
        assert len(parts) == num_parts
        totals = [sum(sizes[row] for row in part) for part in parts]
        fits = [
            len(part) == 1 or total <= num_tokens for part, total in zip(parts, totals, strict=True)
        ]
        assert all(fits)
    # A long trajectory is a micro-batch of its own, and each process has as many as the others.
    assert split_step([0, 1, 2], [900, 10, 10], Limits(99, 100), 1) == [[0], [1, 2]]
    assert len(split_step(range(10), sizes, Limits(99, 164), 2)) == 4
    assert len(split_step(range(10), sizes, Limits(99, 1), 4)) == 8


@pytest.mark.parametrize(("num_rows", "micro", "processes"), [(3, 8, 4), (3, 1, 2)])
def test_a_step_that_cannot_be_shared_is_refused(num_rows, micro, processes):
    message = f"{num_rows} trajectories cannot be shared by {processes} processes"
    with pytest.raises(ValueError, match=message):
        split_step(range(num_rows), [1] * num_rows, Limits(micro, 1000), processes)


def test_extent_of_a_training():
    assert extent([[0, 1], [2, 0], [1, 2]]) == "3 steps: 2.0 passes over 3 trajectories"
    assert extent([[0, 1, 2], [2, 4, 0]]) == "2 steps: 1.5 passes over 4 trajectories"
