import itertools

import numpy as np
import polars as pl
import pytest

from mpd.report import bootstrap, compare
from mpd.report.compare import comparison_frame, efficiency, is_significant, means, per_problem
from mpd.store import schema, table


def test_per_problem():
    rows = [
        *[("a", True, 10, "stop"), ("a", False, 30, "length")],
        *[("b", False, 8, "stop"), ("b", False, 0, "too_long")],
        *[("c", False, 0, "too_long"), ("c", False, 0, "too_long")],
    ]
    columns = ["problem_id", "correct", "num_tokens", "finish_reason"]
    answered = pl.DataFrame(rows, schema=columns, orient="row")
    assert per_problem(answered).rows() == [
        ("a", 0.5, 20.0, 10.0, [10, 30]),
        ("b", 0.0, 8.0, None, [8]),
        ("c", 0.0, None, None, []),
    ]


def problems_of(*students, benchmark="one"):
    """Students given as method, round, seed and (accuracy, tokens, solved tokens) by problem."""
    return pl.DataFrame(
        [
            (method, number, seed, benchmark, f"p{index}", *values)
            for method, number, seed, problems in students
            for index, values in enumerate(problems)
        ],
        schema={
            "method": pl.String,
            "round": pl.Int32,
            "seed": pl.Int32,
            "benchmark": pl.String,
            "problem_id": pl.String,
            "accuracy": pl.Float64,
            "tokens": pl.Float64,
            "solved_tokens": pl.Float64,
        },
        orient="row",
    ).with_columns(lengths=pl.concat_list("tokens").list.drop_nulls())


BASE = ("base", 0, 0, [(1.0, 100.0, 100.0), (0.0, 200.0, None), (1.0, 60.0, 60.0)])
MPD = ("mpd", 1, 0, [(1.0, 40.0, 40.0), (1.0, 140.0, 140.0), (0.0, 0.0, None)])
OPD = ("opd", 1, 0, [(1.0, 41.0, 41.0), (1.0, 141.0, 139.0), (0.0, 1.0, None)])


def test_what_is_not_trained_stands_beside_the_last_round_of_mpd():
    method, _, seed, values = MPD
    prompted = ("prompt_only", 0, seed, values)
    second = (method, 2, seed, [(0.0, tokens, None) for _, tokens, _ in values])
    found = comparison_frame(problems_of(BASE, MPD, second, prompted)).filter(method="prompt_only")
    accuracy = sum(row[0] for row in values) / len(values)
    rows = found.filter(against="mpd").select("round", "accuracy", "tokens").rows()
    assert rows == [(0, pytest.approx(accuracy), 0.0)]


def test_differences_to_base_and_to_mpd():
    found = comparison_frame(problems_of(BASE, OPD, MPD))
    keys = found.select("method", "round", "benchmark", "against", "num_seeds", "num_solved")
    assert keys.rows() == [
        ("mpd", 1, "one", "base", 1, 1),
        ("opd", 1, "one", "base", 1, 1),
        ("opd", 1, "one", "mpd", 1, 2),
    ]
    # Against base, mpd differs by (0, 1, -1) in accuracy and by -60 in every problem's tokens.
    # Both solve the first problem alone; an interval over what one problem says has no width.
    mpd, _, opd = found.to_dicts()
    assert [mpd[f"accuracy{end}"] for end in ("", "_low", "_high")] == [
        pytest.approx(0.0, abs=1e-15),
        pytest.approx(-1.0),
        pytest.approx(1.0),
    ]
    assert [mpd[f"tokens{end}"] for end in ("", "_low", "_high")] == pytest.approx([-60.0] * 3)
    assert [mpd[f"solved_tokens{end}"] for end in ("", "_low", "_high")] == [-60.0] * 3
    assert [opd[f"accuracy{end}"] for end in ("", "_low", "_high")] == [0.0] * 3
    assert [opd[f"tokens{end}"] for end in ("", "_low", "_high")] == pytest.approx([1.0] * 3)
    assert [opd[f"solved_tokens{end}"] for end in ("", "_low", "_high")] == [0.0, -1.0, 1.0]
    # Tokens of base, mpd and opd: 60 100 200, 0 40 140, 1 41 141.
    quantiles = [mpd[f"tokens_{name}"] for name in ("p10", "median", "p90", "max")]
    assert quantiles == pytest.approx([8 - 68, 40 - 100, 120 - 180, 140 - 200])
    assert [opd[f"longer{end}"] for end in ("", "_low", "_high")] == [1.0] * 3
    assert [mpd[f"longer{end}"] for end in ("", "_low", "_high")] == [0.0] * 3
    assert table.arrow_schema(schema.COMPARISON) == found.to_arrow().schema
    marked = [
        [name for name in compare.MEASURES if is_significant(row, name)] for row in found.to_dicts()
    ]
    assert marked[0] == ["tokens", "solved_tokens"]
    assert marked[2] == ["tokens"]


def slow_efficiency(own, base):
    """AES and its interval in plain Python, from the same random numbers.

    `own` and `base`: by seed the (accuracy, tokens) of each problem.
    """

    def score(accuracy, tokens, base_accuracy, base_tokens):
        saved = (base_tokens - tokens) / base_tokens
        gained = (accuracy - base_accuracy) / base_accuracy
        return saved + 3 * abs(gained) if gained >= 0 else saved - 5 * abs(gained)

    def pooled(pairs):
        columns = []
        for answers in (own, base):
            for index in (0, 1):
                values = [answers[seed][problem][index] for seed, problem in pairs]
                columns.append(sum(values) / len(values))
        return score(*columns)

    num_seeds, num_problems = len(own), len(own[0])
    whole = [(seed, problem) for seed in range(num_seeds) for problem in range(num_problems)]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(bootstrap.NUM_DRAWS // bootstrap.DRAWS_AT_ONCE):
        size = bootstrap.DRAWS_AT_ONCE
        seeds = rng.integers(num_seeds, size=(size, num_seeds)).tolist()
        problems = rng.integers(num_problems, size=(size, num_problems)).tolist()
        for of_seeds, of_problems in zip(seeds, problems, strict=True):
            drawn.append(pooled([(seed, each) for seed in of_seeds for each in of_problems]))
    return [pooled(whole), *np.percentile(drawn, [2.5, 97.5])]


def test_aes_agrees_with_a_slow_one():
    rng = np.random.default_rng(9)
    base = [[(rng.integers(1, 5) / 4, rng.uniform(50, 200)) for _ in range(6)] for _ in range(3)]
    own = [
        [(rng.integers(0, 5) / 4, tokens * rng.uniform(0.2, 1.1)) for _, tokens in problems]
        for problems in base
    ]
    students = [
        (method, number, seed, [(*values, None) for values in answers[seed]])
        for method, number, answers in (("base", 0, base), ("mpd", 1, own))
        for seed in range(3)
    ]
    (row,) = comparison_frame(problems_of(*students)).to_dicts()
    found = [row[f"aes{end}"] for end in ("", "_low", "_high")]
    expected = slow_efficiency(own, base)
    assert found == pytest.approx(expected, rel=1e-12)
    assert expected[1] < expected[0] < expected[2]


def test_aes_is_against_the_base_student_alone():
    base = ("base", 0, 0, [(0.5, 100.0, 100.0)] * 3)
    mpd = ("mpd", 1, 0, [(0.75, 40.0, 40.0)] * 3)
    opd = ("opd", 1, 0, [(0.25, 40.0, 40.0)] * 3)
    found = comparison_frame(problems_of(base, opd, mpd))
    columns = ("method", "against", "aes", "aes_low", "aes_high")
    assert found.select(columns).rows() == [
        ("mpd", "base", *[pytest.approx(0.6 + 3 * 0.5)] * 3),
        ("opd", "base", *[pytest.approx(0.6 - 5 * 0.5)] * 3),
        ("opd", "mpd", None, None, None),
    ]
    assert "aes" not in means(problems_of(base, mpd)).columns


def test_aes_takes_tokens_of_problems_that_both_were_asked():
    base = ("base", 0, 0, [*[(0.5, 100.0, 100.0)] * 9, (0.5, 700.0, 700.0)])
    mpd = ("mpd", 1, 0, [*[(0.5, 50.0, 50.0)] * 9, (0.5, None, None)])
    (row,) = comparison_frame(problems_of(base, mpd)).to_dicts()
    assert (row["tokens"], row["aes"], row["aes_low"], row["aes_high"]) == (-50.0, 0.5, 0.5, 0.5)


def test_aes_is_null_where_the_base_student_solves_nothing():
    base = ("base", 0, 0, [(0.0, 100.0, None)] * 3)
    found = comparison_frame(problems_of(base, MPD)).select("aes", "aes_low", "aes_high")
    assert found.rows() == [(None, None, None)]


def test_aes_has_no_interval_where_too_many_draws_have_no_score():
    # Of three problems the base student solves two: a draw has none of them with 1/27 > 2.5 %.
    (row,) = comparison_frame(problems_of(BASE, MPD)).to_dicts()
    assert (row["aes"], row["aes_low"], row["aes_high"]) == (pytest.approx(0.5), None, None)
    assert not is_significant(row, "aes")
    drawn = np.full((4, 1 + 1000), 0.5)
    drawn[2, 1:26] = 0.0  # 25 of 1000 are just the tail
    assert np.isnan(efficiency(drawn)).sum() == 25
    drawn[2, 26] = 0.0
    assert np.isnan(efficiency(drawn)).tolist() == [False] + [True] * 1000


def test_differences_are_within_a_seed():
    """Seeds far apart, each with the same difference: nothing is uncertain."""
    students = [
        student
        for seed, offset in enumerate((0.0, 1000.0, 5000.0))
        for student in (
            ("base", 0, seed, [(0.0, 100.0 + offset, None), (0.0, 300.0 + offset, None)]),
            ("mpd", 1, seed, [(0.0, 90.0 + offset, None), (0.0, 290.0 + offset, None)]),
        )
    ]
    (row,) = comparison_frame(problems_of(*students)).to_dicts()
    assert row["num_seeds"] == 3
    assert [row[f"tokens{end}"] for end in ("", "_low", "_high")] == [-10.0] * 3
    assert [row[f"solved_tokens{end}"] for end in ("", "_low", "_high")] == [None] * 3
    assert not is_significant(row, "solved_tokens")


def test_problems_are_paired_by_id_whatever_their_order():
    frame = problems_of(BASE, MPD)
    expected = comparison_frame(frame)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=3)
    assert comparison_frame(shuffled).equals(expected)


def test_seeds_of_one_student_alone_are_left_out():
    more = [("mpd", 1, 1, MPD[3]), ("mpd", 2, 0, MPD[3]), ("opd", 2, 3, OPD[3])]
    found = comparison_frame(problems_of(BASE, MPD, *more))
    # opd has a round 2, but of another seed than the base student and mpd.
    assert found.select("method", "round", "against", "num_seeds").rows() == [
        ("mpd", 1, "base", 1),
        ("mpd", 2, "base", 1),
    ]


def test_an_untrained_method_is_compared_with_base_alone_where_there_is_no_mpd():
    opd, prompted = ("opd", *MPD[1:]), ("prompt_only", 0, 0, MPD[3])
    found = comparison_frame(problems_of(BASE, opd, prompted))
    assert found.select("method", "round", "against").rows() == [
        ("opd", 1, "base"),
        ("prompt_only", 0, "base"),
    ]


def test_nothing_but_the_base_student_has_no_differences():
    assert comparison_frame(problems_of(BASE)).rows() == []


def test_other_problems_are_refused():
    short = ("mpd", 1, 0, MPD[3][:2])
    with pytest.raises(ValueError) as caught:
        comparison_frame(problems_of(BASE, short))
    assert str(caught.value) == (
        "benchmark one: mpd, round 1, seed 0 answered other problems than the students before it; "
        "run answers and evaluate again"
    )


def test_benchmarks_may_have_other_problems():
    frame = pl.concat([problems_of(BASE, MPD), problems_of(BASE, benchmark="two")])
    assert comparison_frame(frame)["benchmark"].to_list() == ["one"]
    assert means(frame).select("benchmark", "method", "round", "num_seeds").rows() == [
        ("one", "base", 0, 1),
        ("one", "mpd", 1, 1),
        ("two", "base", 0, 1),
    ]


def test_means_come_with_intervals_over_seeds():
    seeds = [(1.0, 10.0), (0.0, 40.0)]
    students = [
        ("mpd", 1, seed, [(accuracy, tokens, None)] * 3)
        for seed, (accuracy, tokens) in enumerate(seeds)
    ]
    (row,) = means(problems_of(*students)).to_dicts()
    assert (row["num_seeds"], row["num_solved"]) == (2, 0)
    # Both draws fall on one seed a quarter of the time each.
    assert [row[f"accuracy{end}"] for end in ("", "_low", "_high")] == [0.5, 0.0, 1.0]
    assert [row[f"tokens{end}"] for end in ("", "_low", "_high")] == [25.0, 10.0, 40.0]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-2.0, -1.0, True),
        (1.0, 2.0, True),
        (-1.0, 1.0, False),
        (0.0, 1.0, False),
        (-1.0, 0.0, False),
    ],
)
def test_significant_is_what_excludes_zero(low, high, expected):
    row = {"tokens": 1.0, "tokens_low": low, "tokens_high": high}
    assert is_significant(row, "tokens") is expected


def test_a_grid_fits_in_memory_and_keeps_its_rows():
    """As many methods, rounds and seeds as a real grid has; exact where nothing varies."""
    methods = ["base", "mpd", *(f"m{number}" for number in range(8))]
    students = [
        (method, int(method != "base"), seed, [(1.0, float(number), float(number))] * 20)
        for number, method in enumerate(methods)
        for seed in range(3)
    ]
    found = comparison_frame(problems_of(*students))
    assert len(found) == 9 + 8
    expected = {("base", method): float(number) for number, method in enumerate(methods)}
    expected |= {("mpd", method): number - 1.0 for number, method in enumerate(methods)}
    for row, end in itertools.product(found.to_dicts(), ("", "_low", "_high")):
        assert row[f"tokens{end}"] == expected[row["against"], row["method"]]
