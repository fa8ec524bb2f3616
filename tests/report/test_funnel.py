import polars as pl

from mpd.report.funnel import funnel_of, summed

SAMPLES = pl.DataFrame(
    {"sample_id": ["a", "b", "c", "d"], "finish_reason": ["stop", "length", "stop", "too_long"]}
)
VERDICTS = pl.DataFrame(
    [
        ("a", 1, True, "correct", "correct", True, "kept", 100, 20),
        ("a", 0, True, "correct", "timeout", False, "longer_candidate", 100, 30),
        ("b", 0, False, "timeout", "none", False, "sample_truncated", 300, None),
        ("c", 1, True, "correct", "wrong", False, "wrong_answer", 50, 10),
        ("c", 0, False, "correct", "none", False, "format", 50, None),
        ("d", 0, False, "none", "none", False, "sample_too_long", 0, None),
    ],
    schema=["sample_id", "candidate", "format", "sample_verdict", "verdict", "keep", "reason",
            "sample_tokens", "num_tokens"],
    orient="row",
)  # fmt: skip
FUNNEL = {
    "sampled": 4,
    "complete": 2,
    "rewritten": 2,
    "correct": 1,
    "kept": 1,
    "reasons": {"format": 1, "sample_too_long": 1, "sample_truncated": 1},
    "timeouts": 2,
    "sample_tokens": 100.0,
    "num_tokens": 20.0,
}


def test_funnel_counts_trajectories_not_candidates():
    found = funnel_of(SAMPLES, VERDICTS)
    assert found == FUNNEL
    assert list(found["reasons"]) == list(FUNNEL["reasons"])


def test_a_trajectory_that_is_trained_on_as_it_was_cut_is_kept_but_not_complete():
    cut = VERDICTS[2:3].with_columns(keep=True, num_tokens=pl.lit(300))
    found = funnel_of(SAMPLES[1:2], cut)
    assert (found["complete"], found["rewritten"], found["correct"], found["kept"]) == (0, 0, 0, 1)
    assert found["reasons"] == {}


def test_funnel_of_nothing():
    assert funnel_of(SAMPLES[:0], VERDICTS[:0]) == {
        **dict.fromkeys(("sampled", "complete", "rewritten", "correct", "kept"), 0),
        "reasons": {},
        "timeouts": 0,
        "sample_tokens": None,
        "num_tokens": None,
    }


def test_means_of_several_seeds_are_over_all_that_were_kept():
    other = {
        **FUNNEL,
        "kept": 3,
        "reasons": {"wrong_answer": 2, "format": 2},
        "sample_tokens": 60.0,
        "num_tokens": 12.0,
    }
    nothing = {**FUNNEL, "kept": 0, "reasons": {}, "sample_tokens": None, "num_tokens": None}
    found = summed([FUNNEL, other, nothing])
    assert (found["sampled"], found["kept"], found["timeouts"]) == (12, 4, 6)
    assert (found["sample_tokens"], found["num_tokens"]) == (70.0, 14.0)
    assert list(found["reasons"].items()) == [
        ("format", 3),
        ("wrong_answer", 2),
        ("sample_too_long", 1),
        ("sample_truncated", 1),
    ]
    assert summed([nothing])["num_tokens"] is None
