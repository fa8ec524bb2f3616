"""Cached rows by number over shards and row groups, and what a micro-batch holds of them."""

from itertools import chain

import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from mpd.config.distill import DistillSettings
from mpd.scoring.cache import DecodedRows
from mpd.scoring.divergence import LOGPROB_FLOOR
from mpd.store import schema, table, table_writer
from mpd.training import batches
from mpd.training import steps as steps_module
from mpd.training.batches import CachedRows, TrajectoryDataset, collate
from mpd.training.steps import Limits, plan_steps
from tests.changes import with_changes

SETTINGS = DistillSettings(learning_rate=1.0)


def epochs_of(batch_size, epochs):
    return with_changes(SETTINGS, batch_size=batch_size, epochs=epochs)


@pytest.fixture(scope="module")
def frame(cached):
    return table.read(cached, schema.LOGITS)


@pytest.fixture
def write(frame, tmp_path, monkeypatch):
    """A function that writes a shard of rows, so many of them in a row group.

    The rows are those of the tests' own cache over and over; their prompts say which they are.
    """

    def shard(name, first, count, rows_per_group=1, **columns):
        numbers = range(first, first + count)
        many = pl.concat([frame] * (1 + (first + count) // len(frame)))[first : first + count]
        many = many.with_columns(
            pl.Series("sample_id", [f"{number:03}-0" for number in numbers], pl.String),
            pl.Series("prompt_ids", [[number] for number in numbers], pl.List(pl.Int32)),
            **columns,
        )
        size = many.to_arrow().nbytes
        monkeypatch.setattr(
            table_writer, "ROW_GROUP_BYTES", (rows_per_group * size) // max(count, 1) + 1
        )
        path = tmp_path / f"{name}.parquet"
        table.write(path, many, schema.LOGITS, {})
        return path

    return shard


def numbers_of(cached, num_rows):
    found = []
    for row in range(num_rows):
        rows, place = cached.place(row)
        found += rows.frame["prompt_ids"][place].to_list()
    return found


def test_rows_are_found_over_shards_and_row_groups(write, frame):
    paths = [write("one", 0, 7, 3), write("two", 7, 1), write("three", 8, 9, 4)]
    cached = CachedRows(paths)
    assert cached.group_sizes == [3, 3, 1, 1, 4, 4, 1]
    assert numbers_of(cached, 17) == list(range(17))
    assert cached.lengths == [frame["num_tokens"][row % len(frame)] for row in range(17)]
    whole = DecodedRows(frame)
    for row in range(17):
        rows, place = cached.place(row)
        found, expected = rows.support(place), whole.support(row % len(frame))
        for name in ("ids", "distinct", "logprobs"):
            assert getattr(found, name).equal(getattr(expected, name))


def test_the_last_row_group_is_not_passed(write):
    cached = CachedRows([write("one", 0, 4, 2)])
    with pytest.raises(IndexError):
        cached.place(4)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_empty_shard_is_legal(write, place):
    paths = [write("one", 0, 3, 2), write("two", 3, 2, 2)]
    paths.insert(place, write("empty", 0, 0))
    assert pq.read_metadata(paths[place]).num_rows == 0
    cached = CachedRows(paths)
    assert sum(cached.group_sizes) == len(cached.lengths) == 5
    assert numbers_of(cached, 5) == list(range(5))
    steps = plan_steps(cached.lengths, epochs_of(2, 2))
    data = TrajectoryDataset(cached, steps, SETTINGS)
    items = [data[step, row] for step, rows in enumerate(steps) for row in rows]
    assert sorted(item["prompt"][0] for item in items) == sorted([*range(5)] * 2)


@pytest.fixture
def decoded(monkeypatch):
    """The numbers of rows of the row groups that were decoded, in this order."""
    sizes = []

    def decode(frame):
        sizes.append(len(frame))
        return DecodedRows(frame)

    monkeypatch.setattr(batches, "DecodedRows", decode)
    return sizes


def test_only_so_many_bytes_are_held(write, monkeypatch, decoded):
    cached = CachedRows([write("one", 0, 30), write("two", 30, 30)])
    assert cached.group_sizes == [1] * 60
    limit = sum(cached.group_bytes[50:])
    monkeypatch.setattr(batches, "HELD_BYTES", limit)
    for row in range(60):
        cached.place(row)
        assert row in cached.held
        assert sum(cached.group_bytes[number] for number in cached.held) <= limit
    assert decoded == [1] * 60
    assert list(cached.held) == list(range(50, 60))
    cached.place(50)  # used again, it stays longer than its neighbours
    cached.place(0)
    assert 50 in cached.held and 51 not in cached.held
    assert len(decoded) == 61
    monkeypatch.setattr(batches, "HELD_BYTES", 1)  # one row group there must be
    for row in (7, 8):
        cached.place(row)
        assert list(cached.held) == [row]


@pytest.mark.parametrize("rows_per_group", [1, 2, 7, 40])
def test_an_epoch_decodes_each_row_group_once(write, decoded, rows_per_group):
    paths = [write(name, first, 40, rows_per_group) for name, first in (("one", 0), ("two", 40))]
    cached = CachedRows(paths)
    steps = plan_steps(cached.lengths, epochs_of(8, 1))
    data = TrajectoryDataset(cached, steps, SETTINGS)
    seen = [
        data[key]["prompt"][0]
        for parts in data.plan(Limits(2, 1000), num_processes=1)
        for part in parts
        for key in part
    ]
    assert sorted(seen) == list(range(80))
    assert seen != sorted(seen)
    assert sorted(decoded) == sorted(cached.group_sizes)


def test_two_windows_of_memory_decode_each_row_group_about_once(write, decoded, monkeypatch):
    """Of a cache that is much larger: the blocks of a window lie anywhere in it."""
    cached = CachedRows([write("one", 0, 130, 3), write("two", 130, 70, 3)])
    monkeypatch.setattr(steps_module, "BLOCK", 6)
    monkeypatch.setattr(steps_module, "WINDOW", 4)
    window = 4 * 6 * sum(cached.group_bytes) // 200
    monkeypatch.setattr(batches, "HELD_BYTES", 2 * window)
    for row in chain(*plan_steps(cached.lengths, epochs_of(8, 1))):
        cached.place(row)
    assert len(cached.group_sizes) <= len(decoded) <= 1.5 * len(cached.group_sizes)


def test_row_groups_do_not_decide_the_order(write):
    """How many rows one has depends on resources.logits.rows_per_part."""
    plans = []
    for rows_per_group in (1, 3, 40):
        cached = CachedRows([write(f"of_{rows_per_group}", 0, 40, rows_per_group)])
        steps = plan_steps(cached.lengths, epochs_of(8, 2))
        data = TrajectoryDataset(cached, steps, SETTINGS)
        rows = [data[step, row]["prompt"] for step, rows in enumerate(steps) for row in rows]
        plans.append((len(cached.group_sizes), rows))
    assert [count for count, _ in plans] == [40, 14, 1]
    assert plans[0][1] == plans[1][1] == plans[2][1]


def test_weights_are_shares_of_the_step(write):
    cached = CachedRows([write("one", 0, 6)])
    lengths, steps = cached.lengths, [[4, 0, 5], [1, 2, 3]]
    for loss in ("token_mean", "sequence_mean"):
        data = TrajectoryDataset(cached, steps, with_changes(SETTINGS, loss=loss))
        for step, rows in enumerate(steps):
            num_tokens = sum(lengths[row] for row in rows)
            items = [data[step, row] for row in rows]
            for row, item in zip(rows, items, strict=True):
                of_sequence = 1 / (3 * lengths[row])
                expected = {"token_mean": 1 / num_tokens, "sequence_mean": of_sequence}[loss]
                assert item["weight"] == pytest.approx(expected)
                assert item["sequence_weight"] == pytest.approx(of_sequence)
                assert item["prompt"] == [row]
            batch = collate(items)
            assert batch.places["weight"].sum().item() == pytest.approx(1.0)
            assert batch.places["sequence_weight"].sum().item() == pytest.approx(1.0)


def test_a_micro_batch_by_hand(write, frame):
    cached = CachedRows([write("one", 0, 3, 3)])
    data = TrajectoryDataset(cached, [[0, 1, 2]], SETTINGS)
    batch = collate([data[0, row] for row in (1, 2)])
    completions = [frame["completion_ids"][row].to_list() for row in (1, 2)]
    assert batch.places["realised"].tolist() == list(chain(*completions))
    assert batch.packed.ids[0, batch.packed.predicts + 1].equal(batch.places["realised"])
    used = 2 + sum(map(len, completions))
    assert batch.packed.ids.shape == (1, used)
    first = len(completions[0])
    ends = [frame["think_end"][1], first + frame["think_end"][2]]
    assert batch.places["closes"].nonzero()[:, 0].tolist() == ends
    assert batch.places["stops"].nonzero()[:, 0].tolist() == [first - 1, used - 3]
    # Each position has its outcomes, whatever the width of its neighbours.
    width = batch.places["support_ids"].shape[1]
    assert batch.places["teacher"].logsumexp(-1).abs().max() < 1e-5
    assert batch.places["support_ids"][:, 0].equal(batch.places["realised"].int())
    assert batch.places["distinct"][:, 0].all()
    filled = ~batch.places["distinct"][:, 3:]
    assert filled.any()
    same = batch.places["realised"].int()[:, None].expand(-1, width - 3)
    assert batch.places["support_ids"][:, 3:][filled].equal(same[filled])
    assert (batch.places["teacher"][:, 3:width][filled] <= LOGPROB_FLOOR + 0.1).all()


def test_a_sequence_that_never_ends_its_thinking(write):
    cached = CachedRows([write("one", 0, 2, 2, think_end=pl.lit(None, pl.Int32))])
    data = TrajectoryDataset(cached, [[0, 1]], SETTINGS)
    batch = collate([data[0, 0], data[0, 1]])
    assert not batch.places["closes"].any()
    assert batch.places["stops"].sum() == 2


def test_hidden_states_stand_behind_each_other(write, frame):
    lengths = frame["num_tokens"].to_list()
    states = [[row + place / 8 for place in range(3 * lengths[row])] for row in range(4)]
    nulls = {
        name: pl.lit(None, frame.schema[name])
        for name in ("support_size", "support_ids", "support_logprobs", "tail_logprobs")
    }
    hidden = pl.Series(states, dtype=pl.List(pl.Float32))
    cached = CachedRows([write("one", 0, 4, 2, teacher_hidden=hidden, **nulls)])
    data = TrajectoryDataset(cached, [[0, 1, 2, 3]], SETTINGS)
    batch = collate([data[0, row] for row in (3, 0)])
    expected = torch.tensor(states[3] + states[0]).view(-1, 3)
    assert batch.places["teacher_hidden"].equal(expected)
    assert len(expected) == len(batch.places["realised"]) == lengths[3] + lengths[0]
    assert "teacher" not in batch.places


def test_cross_entropy_needs_no_teacher(write):
    cached = CachedRows([write("one", 0, 2, 2)])
    data = TrajectoryDataset(cached, [[0, 1]], with_changes(SETTINGS, divergence="cross_entropy"))
    batch = collate([data[0, 0], data[0, 1]])
    assert not {"teacher", "support_ids", "distinct", "teacher_hidden"} & batch.places.keys()
    assert len(batch.places["realised"]) == sum(cached.lengths)
