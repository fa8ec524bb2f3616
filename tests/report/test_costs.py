import math

import polars as pl
import pytest

from mpd.job.layout import Round
from mpd.report import costs
from mpd.store import schema, table
from tests.notes import write_note


def frames(kept=(True, False), tokens=(10, 30), steps=(5, 9), logprobs=((-1.0, -0.5),)):
    """What `costs_of` reads of a round: a candidate and a verdict for each sample."""
    close = [close for _, close in logprobs]
    return {
        "sample": pl.DataFrame({"num_tokens": pl.Series(tokens, dtype=pl.Int32)}),
        "compress": pl.DataFrame({"rewrite_tokens": pl.Series([3, 4], dtype=pl.Int32)}),
        "filter": pl.DataFrame({"keep": list(kept)}),
        "logits": pl.DataFrame(
            {
                "num_tokens": pl.Series([7] * len(logprobs), dtype=pl.Int32),
                # One token more in each completion.
                "divergence": pl.Series(
                    [[0.5] * (number + 1) for number in range(len(logprobs))],
                    dtype=pl.List(pl.Float32),
                ),
                "mean_teacher_logprob": [mean for mean, _ in logprobs],
                "think_close_logprob": pl.Series(close, dtype=pl.Float64),
                "stop_logprob": [-0.25] * len(logprobs),
                "overlap": [0.5] * len(logprobs),
            }
        ),
        "metrics": pl.DataFrame(
            {
                "step": range(1, len(steps) + 1),
                "tokens_seen": pl.Series(steps, dtype=pl.Int64),
            }
        ),
    }


@pytest.mark.parametrize(
    ("sampler", "student", "teacher"), [("student", 40, 7), ("teacher", 0, 47), (None, 0, 7)]
)
def test_who_generated_pays(sampler, student, teacher):
    assert costs.costs_of(frames(), sampler) == {
        "num_samples": 2,
        "student_tokens": student,
        "teacher_tokens": teacher,
        "kept_rows": 1,
        "scored_tokens": 7,
        "num_steps": 2,
        "trained_tokens": 9,
    }


def test_tokens_of_a_large_round_are_counted_in_64_bits():
    counted = costs.costs_of(frames(tokens=(2**31 - 1, 2**31 - 1)), "student")
    assert counted["student_tokens"] == 2**32 - 2


def test_nothing_trained_costs_no_steps():
    found = costs.costs_of(frames(steps=()), "student")
    assert (found["num_steps"], found["trained_tokens"]) == (0, 0)


NO_TIME = {"wall_seconds": None, "evaluation_seconds": None}


def test_costs_are_sums_and_diagnostics_means_over_seeds():
    rounds = {
        ("sft", 1): [frames()],
        ("mpd", 1): [
            frames(logprobs=((-1.0, -0.5), (-2.0, None))),
            frames(kept=(True, True), steps=(4, 8, 20), logprobs=((-6.0, -1.5),)),
        ],
    }
    seconds = {
        ("sft", 1): [NO_TIME],
        ("mpd", 1): [
            {"wall_seconds": 2.5, "evaluation_seconds": 1.0},
            {"wall_seconds": 4.0, "evaluation_seconds": None},
        ],
    }
    found = costs.costs_by_student(
        rounds, seconds, {"mpd": "student", "sft": "teacher"}, given=False
    )
    assert table.arrow_schema(schema.COSTS) == found.to_arrow().schema
    mpd, sft = found.to_dicts()
    assert mpd == {
        "method": "mpd",
        "round": 1,
        "num_seeds": 2,
        "num_samples": 4,
        "student_tokens": 80,
        "teacher_tokens": 14,
        "kept_rows": 3,
        "scored_tokens": 21,
        "num_steps": 5,
        "trained_tokens": 29,
        "share_kept": 0.75,
        "wall_seconds": 6.5,
        "evaluation_seconds": 1.0,
        "mean_teacher_logprob": -3.0,  # of -1, -2 and -6: over completions, not over seeds
        "think_close_logprob": -1.0,
        "stop_logprob": -0.25,
        "think_close_mass": pytest.approx((math.exp(-0.5) + math.exp(-1.5)) / 2, rel=1e-14),
        "divergence": 0.5,
        "overlap": 0.5,
    }
    assert (sft["method"], sft["student_tokens"], sft["teacher_tokens"]) == ("sft", 0, 47)
    assert (sft["wall_seconds"], sft["evaluation_seconds"]) == (None, None)


def test_given_samples_cost_no_one_anything_in_the_first_round():
    rounds = {("mpd", 1): [frames()], ("mpd", 2): [frames()]}
    seconds = {student: [NO_TIME] for student in rounds}
    found = costs.costs_by_student(rounds, seconds, {"mpd": "student"}, given=True)
    assert found["student_tokens"].to_list() == [0, 40]
    assert found["teacher_tokens"].to_list() == [7, 7]


def test_nothing_kept_has_no_diagnostics():
    found = costs.costs_by_student(
        {("mpd", 1): [frames(kept=(False, False), logprobs=())]},
        {("mpd", 1): [NO_TIME]},
        {"mpd": "student"},
        given=False,
    )
    names = ("kept_rows", "share_kept", "mean_teacher_logprob", "think_close_logprob")
    names += ("think_close_mass", "divergence", "overlap")
    assert found.select(names).rows() == [(0, 0.0, None, None, None, None, None)]


def test_divergence_is_a_mean_over_tokens():
    logits = frames(logprobs=((-1.0, None), (-2.0, None)))["logits"]
    uneven = logits.with_columns(divergence=pl.Series([[1.0], [4.0, 4.0]]))
    assert costs.diagnostics_of(uneven)["divergence"] == 3.0
    unknown = logits.with_columns(divergence=pl.Series([None, None], dtype=pl.List(pl.Float32)))
    assert costs.diagnostics_of(unknown)["divergence"] is None  # where vLLM scored


def test_overlap_is_a_mean_over_tokens():
    logits = frames(logprobs=((-1.0, None), (-2.0, None), (-3.0, None)))["logits"]
    tokens = pl.Series([1, 3, 5], dtype=pl.Int32)
    shares = logits.with_columns(num_tokens=tokens, overlap=pl.Series([0.2, 0.6, None]))
    assert costs.diagnostics_of(shares)["overlap"] == pytest.approx(0.5)
    unknown = logits.with_columns(overlap=pl.lit(None, pl.Float64))
    assert costs.diagnostics_of(unknown)["overlap"] is None


SECONDS = {
    "sample/shard_0.json": 1.5,
    "sample/shard_1.json": 2.0,
    "student/provenance.json": 4.0,
    "answers/dev.json": 8.0,
    "answers/former.json": 100.0,
    "evaluate/dev.json": 0.5,
}


def write_notes(folder, seconds):
    for name, value in seconds.items():
        write_note(folder / name, spent={"seconds": value})


def test_seconds_are_those_of_the_notes(tmp_path):
    round = Round.at(tmp_path / "mpd/seed_0/round_1")
    assert (
        costs.seconds_of(costs.seconds_by_stage(costs.spent_by_stage(round, 1, ["dev"]))) == NO_TIME
    )
    write_notes(round.folder, SECONDS)
    found = costs.seconds_of(costs.seconds_by_stage(costs.spent_by_stage(round, 2, ["dev"])))
    assert found == {"wall_seconds": 7.5, "evaluation_seconds": 8.5}
    # A second shard, or a benchmark, of an earlier run does not count.
    by_stage = {"sample": 1.5, "distill": 4.0, "answers": 8.0, "evaluate": 0.5}
    assert costs.seconds_by_stage(costs.spent_by_stage(round, 1, ["dev"])) == by_stage


def test_a_stage_of_which_one_note_has_no_time_has_none(tmp_path):
    round = Round.at(tmp_path / "mpd/seed_0/round_1")
    write_notes(round.folder, SECONDS)
    write_note(round.folder / "sample/shard_1.json")  # as before times were kept
    assert set(costs.seconds_by_stage(costs.spent_by_stage(round, 2, ["dev"]))) == {
        "distill",
        "answers",
        "evaluate",
    }
