"""Dropout that depends on the trajectory alone."""

import pytest
import torch

from mpd.training.dropout import DropoutPlan, PlannedDropout

A, B, C = (0, 5), (0, 2), (1, 5)  # step and row
LENGTHS = {A: 7, B: 4, C: 7}


def dropped(*keys, probability=0.25, name="layer", seed=0, width=64):
    """What becomes of ones, by sequence."""
    plan = DropoutPlan(seed)
    module = PlannedDropout(probability, name, plan).train()
    lengths = [LENGTHS[key] for key in keys]
    plan.set(keys, lengths)
    rows = module(torch.ones(1, sum(lengths), width))
    assert module(torch.ones(1, sum(lengths), width)).equal(rows)  # as a recomputed layer does
    return dict(zip(keys, rows[0].split(lengths), strict=True))


def test_a_sequence_loses_the_same_whatever_is_beside_it():
    together = dropped(A, B, C)
    for key in (A, B, C):
        assert together[key].equal(dropped(key)[key])
    assert together[B].equal(dropped(C, B)[B])


def test_steps_rows_adapters_and_seeds_lose_others():
    one = dropped(A)[A]
    assert not one.equal(dropped(C)[C])
    assert not one.equal(dropped(A, name="another")[A])
    assert not one.equal(dropped(A, seed=1)[A])
    assert not one[:4].equal(dropped(B)[B])


def test_so_many_are_lost_and_the_others_scaled():
    rows = dropped(A, width=10_000)[A]
    assert rows.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (rows == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)


def test_nothing_is_lost_outside_training():
    module = PlannedDropout(0.5, "layer", DropoutPlan(0)).eval()
    inputs = torch.ones(1, 3, 8)
    assert module(inputs).equal(inputs)


def test_inputs_that_are_no_micro_batch_are_dropped_at_random():
    """A pass that measures memory knows of no trajectory."""
    module = PlannedDropout(0.5, "layer", DropoutPlan(0)).train()
    rows = module(torch.ones(1, 100, 8))
    assert 0.3 < (rows == 0).float().mean() < 0.7
