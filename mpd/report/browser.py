"""The data of the report's trajectory browser: a line for every rewrite; texts and tokens of some.

Lines are rows of `filter` with what the cache says of them. Which lines come with texts, and which
of these with tokens, is a sample: every method, round, seed and reason in turn, within each by a
digest, so that equal inputs give the same one. Pure functions on frames.

Log-probabilities go to the page as whole thousandths of a nat, their sign turned, as those of
tokens do (mpd/scoring/token_records.py).
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import polars as pl

from mpd.text.token_texts import SIGNS

KEY = ["sample_id", "candidate"]
BRANCH = ["method", "seed", "round"]
SAMPLE_COLUMNS = ["sample_id", "text", "finish_reason"]
COMPRESS_COLUMNS = [*KEY, "status", "rewrite", "text"]
FILTER_COLUMNS = [
    *(*KEY, "problem_id", "sample_verdict", "verdict", "sample_tokens", "num_tokens", "reason"),
]
ANSWER_COLUMNS = [*KEY, "gold", "sample_answer", "answer", "overlap"]
SCORE_COLUMNS = [*KEY, "divergence", "mean_teacher_logprob"]
LOGITS_COLUMNS = [
    *(*KEY, "completion_ids", "control_ids", "support_size", "support_ids", "support_logprobs"),
    *("tail_logprobs", "realised_logprob", "control_logprobs", "student_logprob", "divergence"),
]
MAX_LINES = 100_000  # about 20 bytes each in the page
QUESTION_CHARACTERS = 1_000_000  # of all questions in the list
SHOWN_CHARACTERS = 300  # of one of them
OWN_TOKENS = 40  # a record's names and answers take as much as so many tokens of it


def scores_of(cached: pl.DataFrame) -> pl.DataFrame:
    """Mean `divergence`, null where it was not computed, and `teacher_logprob` of cached rows."""
    return cached.select(
        *KEY,
        divergence=pl.col("divergence").list.mean().cast(pl.Float64),
        teacher_logprob="mean_teacher_logprob",
    )


def lines_of(
    place: Mapping[str, Any], verdicts: pl.DataFrame, scores: pl.DataFrame
) -> pl.DataFrame:
    """The lines of one round of a branch, in the order of the verdicts.

    Added are method, seed, round, and `scored`: whether the cache has the row.
    """
    return (
        verdicts.select(FILTER_COLUMNS)
        .join(scores.with_columns(scored=pl.lit(True)), on=KEY, how="left", maintain_order="left")
        .with_columns(
            pl.col("scored").fill_null(False),
            method=pl.lit(place["method"]),
            seed=pl.lit(place["seed"], pl.Int32),
            round=pl.lit(place["round"], pl.Int32),
        )
    )


def with_solved(lines: pl.DataFrame) -> pl.DataFrame:
    """Add `solved`: the share of correct trajectories of the problem, over the seeds of a round.

    Each trajectory counts once, however many rewrites it has.
    """
    group = ["method", "round", "problem_id"]
    solved = (
        lines.unique(["method", "seed", "round", "sample_id"])
        .group_by(group)
        .agg(solved=(pl.col("sample_verdict") == "correct").mean())
    )
    return lines.join(solved, on=group, how="left", maintain_order="left")


def in_turn(lines: pl.DataFrame) -> pl.DataFrame:
    """The lines in the order in which they are taken into a sample.

    One of each method, round, seed and reason, then a second one of each, and so on.
    """
    keys = lines.select("method", "round", "seed", *KEY).iter_rows()
    digests = [hashlib.sha256(repr(key).encode()).hexdigest() for key in keys]
    stratum = ["method", "round", "seed", "reason"]
    return (
        lines.with_columns(digest=pl.Series(digests, dtype=pl.String))
        .sort("digest")
        .with_columns(turn=pl.int_range(pl.len()).over(stratum))
        .sort("turn", "digest")
        .drop("turn", "digest")
    )


def within(lines: pl.DataFrame, cost: pl.Expr, budget: int) -> pl.DataFrame:
    """The first lines, as many as cost no more than the budget together."""
    return lines.filter(cost.cum_sum() <= budget)


def text_cost() -> pl.Expr:
    """What the texts of a line take in the page, in proportion."""
    return (OWN_TOKENS + pl.col("sample_tokens") + pl.col("num_tokens").fill_null(0)).cast(pl.Int64)


def token_cost() -> pl.Expr:
    """What the tokens of a scored line take, in proportion."""
    return (OWN_TOKENS + pl.col("num_tokens")).cast(pl.Int64)


def index(lines: pl.DataFrame, problems: pl.DataFrame, experiment: str) -> dict[str, Any]:
    """What the list shows, by columns; names, questions and golds once each.

    `branches` are method, seed and round; of a long question the beginning is there. `signs` are
    written for letters that cannot be seen.
    """
    branches = lines.select(BRANCH).unique().sort(BRANCH)
    lines = lines.join(
        branches.with_row_index("branch"), on=BRANCH, how="left", maintain_order="left"
    )
    known = lines.select("problem_id").unique().sort("problem_id")
    known = known.join(problems, on="problem_id", how="left", maintain_order="left")
    length = min(SHOWN_CHARACTERS, QUESTION_CHARACTERS // max(len(known), 1))
    id_without_problem = pl.col("sample_id").str.strip_prefix(pl.col("problem_id") + pl.lit("-"))
    return {
        "experiment": experiment,
        "signs": SIGNS,
        "branches": [list(branch) for branch in branches.iter_rows()],
        "problems": {
            "id": known["problem_id"].to_list(),
            "question": known["question"].fill_null("").str.slice(0, length).to_list(),
        },
        "branch": lines["branch"].to_list(),
        "problem": _places(lines["problem_id"], known["problem_id"]),
        "sample": lines.select(id_without_problem).to_series().to_list(),
        "candidate": lines["candidate"].to_list(),
        "sample_tokens": lines["sample_tokens"].to_list(),
        "num_tokens": lines["num_tokens"].to_list(),
        "divergence": _thousandths(lines["divergence"]),
        "teacher_logprob": _thousandths(-lines["teacher_logprob"]),
        "solved": lines["solved"].round(3).to_list(),
        **{name: _named(lines[name]) for name in ("reason", "verdict", "sample_verdict")},
    }


def _places(values: pl.Series, names: pl.Series) -> list[int]:
    places = {name: place for place, name in enumerate(names.to_list())}
    return [places[name] for name in values.to_list()]


def _named(values: pl.Series) -> dict[str, list[Any]]:
    names = values.unique().sort()
    return {"names": names.to_list(), "lines": _places(values, names)}


def _thousandths(values: pl.Series) -> list[int | None]:
    return (values * 1000).round().cast(pl.Int64).to_list()


def text_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """The texts of a line. `rewrite` is null where it is the trajectory, letter by letter.

    Where the rewrite could not be put in the student's format, it is what the teacher said.
    """
    rewrite = row["text"] if row["text"] is not None else row["rewrite"]
    same = row["text"] == row["sample_text"]
    return {
        "question": row["question"],
        "gold": row["gold"],
        "sample_answer": row["sample_answer"],
        "answer": row["answer"],
        "finish_reason": row["finish_reason"],
        "status": row["status"],
        "overlap": row["overlap"],
        "trajectory": row["sample_text"],
        "same": same,
        "rewrite": None if same else rewrite,
    }
