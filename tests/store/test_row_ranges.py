"""Ranges of rows that refer to another table, and readers that go forwards."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpd.store import schema, table
from mpd.store.row_ranges import ForwardReader, ranges_of, ranges_within, regrouped


@pytest.mark.parametrize(
    ("num_rows", "rows_per_part", "expected"),
    [
        (5, 2, [(0, 2), (2, 4), (4, 5)]),
        (4, 2, [(0, 2), (2, 4)]),
        (4, None, [(0, 4)]),
        (0, None, [(0, 0)]),
        (0, 3, [(0, 0)]),
    ],
)
def test_ranges_of_rows(num_rows, rows_per_part, expected):
    assert ranges_of(num_rows, rows_per_part) == expected


@pytest.mark.parametrize(
    ("places", "costs", "limit", "expected"),
    [
        ([0, 1, 2, 3], [1, 1, 1, 1], 2, [(0, 2), (2, 4)]),
        ([0, 0, 0, 1], [1, 1, 1, 1], 2, [(0, 3), (3, 4)]),  # one place stays together
        ([0, 1, 1, 2], [1, 1, 1, 1], 2, [(0, 1), (1, 3), (3, 4)]),
        ([0, 1, 2], [9, 9, 1], 4, [(0, 1), (1, 2), (2, 3)]),
        ([1, 0, 2, 3], [1, 1, 1, 1], 1, [(0, 2), (2, 3), (3, 4)]),
        ([3, 2, 1, 0], [1, 1, 1, 1], 1, [(0, 4)]),
        ([0, 1, 0, 2], [1, 1, 1, 1], 1, [(0, 3), (3, 4)]),
        ([], [], 1, [(0, 0)]),
    ],
)
def test_ranges_share_no_place(places, costs, limit, expected):
    assert ranges_within(np.array(places), np.array(costs), limit) == expected


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1), st.integers(1, 12))
def test_ranges_can_be_read_forwards(rows, limit):
    places, costs = (np.array(column) for column in zip(*rows, strict=True))
    ranges = ranges_within(places, costs, limit)
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
    assert ranges[-1][1] == len(places)
    highest = -1
    for start, stop in ranges:
        assert places[start:stop].min() > highest
        highest = places[start:stop].max()


def write_problems(path, groups):
    """Problems in row groups of these sizes."""
    numbers = iter(range(sum(groups)))
    parts = []
    for part, size in enumerate(groups):
        rows = [
            {"problem_id": str(row), "question": "?", "gold": "1", "source_row": row}
            for _, row in zip(range(size), numbers, strict=False)
        ]
        parts.append(path.with_name(f"part_{part}"))
        table.write(parts[-1], table.frame_of(rows, schema.PROBLEMS), schema.PROBLEMS, {})
    table.concatenate(path, parts, schema.PROBLEMS, {})


@pytest.mark.parametrize("groups", [[10], [1] * 10, [3, 4, 3], [9, 1]])
def test_a_reader_gives_the_rows_of_ranges(tmp_path, groups):
    write_problems(tmp_path / "rows.parquet", groups)
    for ranges in ([(0, 10)], [(0, 3), (3, 4), (4, 10)], [(2, 3), (6, 6), (6, 9)], [(9, 10)]):
        reader = ForwardReader(tmp_path / "rows.parquet", ["source_row"])
        for start, stop in ranges:
            assert reader.read(start, stop)["source_row"].to_list() == list(range(start, stop))
    with pytest.raises(IndexError, match=r"rows\.parquet: it has no row 10"):
        ForwardReader(tmp_path / "rows.parquet", ["source_row"]).read(8, 11)


@pytest.mark.parametrize("groups", [[], [0]])
def test_a_reader_of_no_rows_has_the_columns(tmp_path, groups):
    write_problems(tmp_path / "rows.parquet", groups)
    rows = ForwardReader(tmp_path / "rows.parquet", ["source_row"]).read(0, 0)
    assert (rows.columns, len(rows)) == (["source_row"], 0)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([2, 2, 2], [3, 3]),
        ([7], [3, 3, 1]),
        ([1, 0, 1], [2]),
        ([0, 0], [0]),
        ([3, 0], [3]),
        ([], []),
    ],
)
def test_rows_are_grouped_again(sizes, expected):
    rows = iter(range(sum(sizes)))
    frames = [pl.DataFrame({"row": [next(rows) for _ in range(size)]}, {"row": pl.Int64})
              for size in sizes]  # fmt: skip
    groups = list(regrouped(frames, 3))
    assert [len(group) for group in groups] == expected
    assert [row for group in groups for row in group["row"]] == list(range(sum(sizes)))
