"""The layout of the cache: hand-written rows, there and back."""

import math
from itertools import chain

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpd.config.logits import Logits
from mpd.scoring.cache import DecodedRows, complete_columns, encode, list_column
from mpd.scoring.cache_layout import ENTRY_BITS, POSITION_BITS, TAIL_BITS, mean_overlap
from mpd.scoring.divergence import LOGPROB_FLOOR, forward_kl, jensen_shannon, reverse_kl
from mpd.scoring.outcomes import outcomes_of
from mpd.scoring.support import score
from mpd.store import schema, table

CONTROL = [8, 9]
# Two rows, of two positions and of one, over the ids 0 to 9 in tail buckets 0-4 and 5-9.
#   realised 3 with the entries 1, 4;  realised 8, a control id, with 7;  realised 5 with none.
LENGTHS = [2, 1]
REALISED = [[3, 8], [5]]
CANDIDATES = [[3, 1, 4], [7, 8, 9], [9, 5, 8]]
KEPT = [[False, True, True], [True, False, False], [False, False, False]]
PROBABILITIES = torch.tensor(
    [
        [0.01, 0.20, 0.01, 0.50, 0.10, 0.02, 0.02, 0.02, 0.08, 0.04],
        [0.00, 0.00, 0.00, 0.05, 0.00, 0.05, 0.00, 0.50, 0.30, 0.10],
        [0.05, 0.05, 0.05, 0.05, 0.05, 0.25, 0.05, 0.05, 0.10, 0.30],
    ]
)
OUTCOMES = [
    {3: 0.50, 8: 0.08, 9: 0.04, 1: 0.20, 4: 0.10, "low": 0.02, "high": 0.06},
    {8: 0.30, 9: 0.10, 7: 0.50, "low": 0.05, "high": 0.05},
    {5: 0.25, 8: 0.10, 9: 0.30, "low": 0.25, "high": 0.10},
]
# The largest relative error of a log-probability of at most 3 nats; tails are the coarsest.
ROUNDING = 3 * 2.0 ** -(TAIL_BITS + 1)


def scores_by_hand(control=CONTROL):
    logprobs = PROBABILITIES.log().clamp(min=LOGPROB_FLOOR)
    places = torch.arange(3)
    candidates = torch.tensor(CANDIDATES)
    tails = torch.tensor([[outcomes["low"], outcomes["high"]] for outcomes in OUTCOMES])
    return {
        "realised_logprob": logprobs[places, torch.tensor(list(chain(*REALISED)))],
        "control_logprobs": logprobs[:, control],
        "student_logprob": torch.tensor([-1.0, -2.0, -3.0]),
        "divergence": torch.tensor([0.0, 0.5, 1.0]),
        "teacher_entropy": torch.tensor([1.0, 0.25, 2.0]),
        "candidates": candidates,
        "logprobs": logprobs.gather(1, candidates),
        "kept": torch.tensor(KEPT),
        "tail_logprobs": tails.log(),
        "overlap": torch.tensor([0.5, 1.0, 0.25]),
        "student_mass": torch.tensor([0.75, 0.25, 1.0]),
        "teacher_mass": torch.tensor([0.5, 0.75, 0.875]),
    }


def frame_of(scores, completions, control=CONTROL):
    """A frame of the artifact from scores of positions."""
    integers, count = pl.List(pl.Int32), len(completions)
    frame = pl.DataFrame(
        {
            "sample_id": [f"{letter}-0" for letter in "abcdefgh"[:count]],
            "candidate": pl.Series([0] * count, dtype=pl.Int32),
            "prompt_ids": pl.Series([[1, 2]] * count, dtype=integers),
            "completion_ids": pl.Series(completions, dtype=integers),
            "num_tokens": pl.Series([len(ids) for ids in completions], dtype=pl.Int32),
            "ids_digest": [""] * count,
            "control_ids": pl.Series([control] * count, dtype=integers),
            "mean_teacher_logprob": [0.0] * count,
            "stop_logprob": [0.0] * count,
        }
    ).with_columns(encode(scores, [len(ids) for ids in completions]))
    return complete_columns(frame)


@pytest.fixture
def frame():
    return frame_of(scores_by_hand(), REALISED)


def outcomes(support, position):
    """Id to probability of the entries that count, and the tails' under low and high."""
    entries = list(
        zip(
            support.ids[position].tolist(),
            support.distinct[position].tolist(),
            support.logprobs[position, :-2].exp().tolist(),
            strict=True,
        )
    )
    found = {token: value for token, distinct, value in entries if distinct}
    assert len(found) == sum(distinct for _, distinct, _ in entries)  # no id counts twice
    low, high = support.logprobs[position, -2:].exp().tolist()
    return {**found, "low": low, "high": high}


def test_lists_cuts_flat_values():
    column = list_column("numbers", np.array([1, 2, 3], np.int32), [2, 0, 1])
    assert column.equals(
        pl.Series("numbers", [[1, 2], [], [3]], pl.List(pl.Int32)), check_names=True
    )


def test_the_columns_of_hand_written_scores(frame):
    assert frame["support_size"].to_list() == [[2, 1], [0]]
    assert frame["support_ids"].to_list() == [[1, 4, 7], []]
    assert frame["tail_logprobs"].list.len().to_list() == [4, 2]
    assert frame["control_logprobs"].list.len().to_list() == [4, 2]
    assert frame["student_logprob"].to_list() == [[-1.0, -2.0], [-3.0]]
    assert frame["divergence"].to_list() == [[0.0, 0.5], [1.0]]
    assert frame["teacher_entropy"].to_list() == [[1.0, 0.25], [2.0]]
    assert frame["overlap"].to_list() == [0.75, 0.25]
    assert frame["student_mass"].to_list() == [0.5, 1.0]
    assert frame["teacher_mass"].to_list() == [0.625, 0.875]
    assert frame["teacher_hidden"].to_list() == [None, None]
    bits = {"support_logprobs": ENTRY_BITS, "tail_logprobs": TAIL_BITS}
    bits |= dict.fromkeys(("realised_logprob", "control_logprobs"), POSITION_BITS)
    expected = {
        "support_logprobs": [0.2, 0.1, 0.5],
        "tail_logprobs": [0.02, 0.06, 0.05, 0.05, 0.25, 0.1],
        "realised_logprob": [0.5, 0.3, 0.25],
        "control_logprobs": [0.08, 0.04, 0.3, 0.1, 0.1, 0.3],
    }
    for name, values in expected.items():
        found = frame[name].explode().drop_nulls().to_numpy()
        np.testing.assert_allclose(found, np.log(values), rtol=2.0 ** -(bits[name] + 1))
        raw = found.view(np.uint32)
        assert not (raw & ((1 << (23 - bits[name])) - 1)).any()


def test_a_file_opens_with_any_reader(frame, tmp_path):
    path = tmp_path / "shard_0.parquet"
    table.write(path, frame, schema.LOGITS, {})
    assert table.read(path, schema.LOGITS).equals(frame)
    assert pl.read_parquet(path).equals(frame)
    assert (
        pl.scan_parquet(path)
        .select("support_size")
        .collect()
        .equals(frame["support_size"].to_frame())
    )
    found = pq.read_table(path, columns=["sample_id", "support_ids", "tail_logprobs"])
    assert found.to_pydict() == frame.select(found.column_names).to_dict(as_series=False)
    # Decoded from the file it is the same, whole or as a part of a frame.
    for rows, number in ((DecodedRows(pl.read_parquet(path)), 1), (DecodedRows(frame[1:]), 0)):
        assert rows.support(number).logprobs.equal(DecodedRows(frame).support(1).logprobs)


def test_supports_come_back(frame):
    rows = DecodedRows(frame)
    assert not rows.has_hidden
    first, second = rows.support(0), rows.support(1)
    assert first.ids.dtype == torch.int32
    assert first.logprobs.dtype == torch.float32
    assert first.ids.tolist() == [[3, 8, 9, 1, 4], [8, 8, 9, 7, 8]]
    assert first.distinct.tolist() == [[True] * 5, [True, False, True, True, False]]
    assert second.ids.tolist() == [[5, 8, 9]]
    assert second.distinct.tolist() == [[True] * 3]
    assert first.logprobs.shape == (2, 7)
    assert second.logprobs.shape == (1, 5)
    for support, position, expected in zip(
        (first, first, second), (0, 1, 0), OUTCOMES, strict=True
    ):
        found = outcomes(support, position)
        assert found == pytest.approx(expected, rel=2 * ROUNDING)
        assert sum(found.values()) == pytest.approx(1.0, abs=1e-6)
    assert (first.logprobs[:, :-2][~first.distinct] < LOGPROB_FLOOR + 0.1).all()
    assert rows.frame["think_end"].to_list() == [None, None]


def test_only_a_common_factor_is_between_stored_and_decoded(frame):
    support = DecodedRows(frame).support(0)
    stored = frame["realised_logprob"][0].to_list()
    shift = [
        value - found for value, found in zip(stored, support.logprobs[:, 0].tolist(), strict=True)
    ]
    entries, tails = frame["support_logprobs"][0].to_list(), frame["tail_logprobs"][0].to_list()
    controls = frame["control_logprobs"][0].to_list()
    first, second = support.logprobs.tolist()
    plain = [[stored[0], *controls[:2], *entries[:2], *tails[:2]]]
    plain += [[stored[1], controls[3], entries[2], *tails[2:]]]
    decoded = [first, [second[place] for place in (0, 2, 3, 5, 6)]]
    for position in range(2):
        assert shift[position] == pytest.approx(math.log(np.exp(plain[position]).sum()), abs=1e-6)
        expected = [value - shift[position] for value in plain[position]]
        assert decoded[position] == pytest.approx(expected, abs=1e-6)


def row(**changes):
    """The first row alone, as a frame."""
    values = frame_of(scores_by_hand(), REALISED).row(0, named=True)
    return table.frame_of([{**values, **changes}], schema.LOGITS)


def test_rows_without_entries():
    rows = DecodedRows(row(support_size=[0, 0], support_ids=[], support_logprobs=[]))
    support = rows.support(0)
    assert support.ids.tolist() == [[3, 8, 9], [8, 8, 9]]
    assert support.distinct.tolist() == [[True] * 3, [True, False, True]]
    assert support.logprobs.logsumexp(-1).abs().max() < 1e-6


def test_a_format_without_control_ids():
    rows = DecodedRows(frame_of(scores_by_hand([]), REALISED, []))
    support = rows.support(0)
    assert support.ids.tolist() == [[3, 1, 4], [8, 7, 8]]
    assert support.distinct.tolist() == [[True] * 3, [True, True, False]]
    assert support.logprobs.logsumexp(-1).abs().max() < 1e-6
    assert rows.support(1).ids.tolist() == [[5]]


def test_no_rows():
    DecodedRows(table.frame_of([], schema.LOGITS))


def test_a_floored_tail_stays_at_the_floor():
    scores = {
        **scores_by_hand(),
        "tail_logprobs": torch.tensor([[LOGPROB_FLOOR, LOGPROB_FLOOR]] * 3),
    }
    support = DecodedRows(frame_of(scores, REALISED)).support(0)
    assert (support.logprobs[:, -2:] < LOGPROB_FLOOR + 1).all()
    assert support.logprobs.logsumexp(-1).abs().max() < 1e-6


@pytest.mark.parametrize(
    "changes",
    [
        {"support_size": [2]},
        {"support_size": [2, 1, 0]},
        {"support_size": [2, 2]},
        {"support_size": []},
        {"support_ids": [1, 4, 7, 6]},
        {"support_ids": [1, 4]},
        {"support_ids": []},
        {"support_logprobs": [-1.0]},
        {"support_logprobs": [-1.0] * 4},
        {"control_logprobs": [-1.0] * 3},
        {"control_logprobs": []},
        {"control_ids": [9]},
        {"completion_ids": [3]},
        {"completion_ids": [3, 8, 5]},
        {"realised_logprob": [-1.0]},
        {"realised_logprob": [-1.0] * 3},
        {"tail_logprobs": [-1.0] * 3},
        {"tail_logprobs": []},
    ],
    ids=str,
)
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "with another row"])
def test_lists_that_do_not_fit_are_refused(frame, changes, others):
    rows = pl.concat([frame[1 : 1 + others], row(**changes)])
    # Of two rows that contradict each other, either may be the one that is wrong.
    with pytest.raises(ValueError, match=r"cached row [ab]-0: its lists do not fit together"):
        DecodedRows(rows)


HIDDEN = torch.arange(12.0).view(3, 4) / 7


def test_hidden_states_come_back_as_they_are(tmp_path):
    names = ("realised_logprob", "control_logprobs", "student_logprob", "divergence")
    scores = {name: scores_by_hand()[name] for name in (*names, "teacher_entropy")}
    frame = frame_of({**scores, "teacher_hidden": HIDDEN}, REALISED)
    path = tmp_path / "shard_0.parquet"
    table.write(path, frame, schema.LOGITS, {})
    for name in ("support_size", "support_ids", "support_logprobs", "tail_logprobs", "overlap"):
        assert frame[name].null_count() == 2
    for rows in (DecodedRows(frame), DecodedRows(pl.read_parquet(path))):
        assert rows.has_hidden
        assert rows.hidden(0).equal(HIDDEN[:2])
        assert rows.hidden(1).equal(HIDDEN[2:])
    assert DecodedRows(frame[1:]).hidden(0).equal(HIDDEN[2:])


def test_realised_logprobs_come_back_unrounded(tmp_path):
    names = ("control_logprobs", "divergence", "teacher_entropy")
    exact = torch.tensor([-1.2345678, -0.1234567, -7.654321])
    scores = {name: scores_by_hand()[name] for name in names} | {
        "realised_logprob": exact,
        "student_logprob": 2 * exact,
        "overlap": torch.tensor([0.5, 0.25, 1.0]),
    }
    frame = frame_of(scores, REALISED)
    path = tmp_path / "shard_0.parquet"
    table.write(path, frame, schema.LOGITS, {})
    for name in ("support_size", "support_ids", "tail_logprobs", "teacher_hidden", "teacher_mass"):
        assert frame[name].null_count() == 2
    assert frame["overlap"].to_list() == [0.375, 1.0]
    assert mean_overlap(frame) == pytest.approx(1.75 / 3)
    rows = DecodedRows(pl.read_parquet(path))
    assert not rows.has_hidden
    assert not rows.has_support
    for row, part in enumerate((exact[:2], exact[2:])):
        logprobs = rows.logprobs_of(row)
        assert logprobs["teacher_logprob"].equal(part)
        assert logprobs["old_logprob"].equal(2 * part)
    without = frame.with_columns(student_logprob=pl.lit(None, frame["student_logprob"].dtype))
    assert DecodedRows(without).logprobs_of(0).keys() == {"teacher_logprob"}
    short = frame.with_columns(realised_logprob=pl.col("realised_logprob").list.head(1))
    with pytest.raises(ValueError, match="cached row a-0: its lists do not fit together"):
        DecodedRows(short)


def test_the_overlap_of_rows_without_one_is_not_known(frame):
    assert mean_overlap(frame.with_columns(overlap=pl.lit(None, pl.Float64))) is None


SCORING = Logits(top_k=6, student_top_k=6, tail_buckets=3)


@st.composite
def scored(draw):
    """Logits of a teacher over 40 ids, completions, and the supports of it alone."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.01, 1.0, 4.0, 12.0, 40.0]))
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    logits = torch.randn(sum(lengths), 40, generator=generator) * scale
    realised = torch.randint(40, (sum(lengths),), generator=generator)
    scores = score(logits.clone(), logits.clone(), realised, torch.tensor(CONTROL), SCORING)
    completions = [part.tolist() for part in realised.split(lengths)]
    return logits, completions, scores


@settings(max_examples=50, deadline=None)
@given(scored())
def test_a_round_trip_is_the_teacher_within_the_rounding(drawn):
    logits, completions, scores = drawn
    rows = DecodedRows(frame_of(scores, completions))
    start = 0
    for number, completion in enumerate(completions):
        support = rows.support(number)
        part = slice(start, start + len(completion))
        start = part.stop
        assert support.logprobs.logsumexp(-1).abs().max() < 1e-5
        exact, _ = outcomes_of(logits[part].double(), support.ids.long(), support.distinct, 3)
        counting = torch.cat([support.distinct, torch.ones(len(completion), 3).bool()], 1)
        # Each value is off by its own rounding, and all of a position by that of their sum.
        bits = torch.full_like(exact, ENTRY_BITS)
        bits[:, :3], bits[:, -3:] = POSITION_BITS, TAIL_BITS
        own = exact.abs() * 2.0 ** -(bits + 1)
        common = (own * exact.exp()).sum(-1, keepdim=True) * 1.5
        error = (support.logprobs - exact).abs()
        assert (error <= own + common + 2e-5)[counting].all()
        # Equal distributions: what rounding does never looks like less than nothing.
        for divergence in (reverse_kl, forward_kl, lambda p, q: jensen_shannon(p, q, 0.5)):
            found = divergence(exact, support.logprobs)
            assert found.min() > -1e-6
            assert found.max() < 0.01
