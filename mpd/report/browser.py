"""The rows of the report's trajectory browser. Pure functions on frames.

A line is a rewrite: a row of `filter`, with what the cache says of it. Some lines come with their
texts, and some of these with their tokens. Which ones is a fixed sample: every method, round, seed
and reason in turn, ordered within each by a digest.

Log-probabilities go to the page in whole thousandths of a nat with their sign turned, as those of
tokens do (mpd/scoring/token_records.py).
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import polars as pl

from mpd.job.layout import RESULTS, Experiment
from mpd.report.students import with_place
from mpd.store import schema
from mpd.store.joins import joined
from mpd.store.signs import SIGNS

KEY = ["sample_id", "candidate"]
ROUND_COLUMNS = ["method", "seed", "round"]
# What is read of each artifact: for the list, then for texts and tokens.
LINE_COLUMNS = [
    *(*KEY, "problem_id", "sample_verdict", "verdict", "sample_tokens", "num_tokens", "reason"),
]
SCORE_COLUMNS = [*KEY, "divergence", "mean_teacher_logprob"]
TEXT_COLUMNS = {
    schema.COMPRESS: [*KEY, "status", "rewrite", "text"],
    schema.FILTER: [*KEY, "gold", "sample_answer", "answer", "overlap"],
    schema.SAMPLE: ["sample_id", "text", "finish_reason"],
}
TOKEN_COLUMNS = [
    *(*KEY, "completion_ids", "control_ids", "support_size", "support_ids", "support_logprobs"),
    *("tail_logprobs", "realised_logprob", "control_logprobs", "student_logprob", "divergence"),
]
MAX_LINES = 100_000  # about 20 bytes each in the page
QUESTION_CHARACTERS = 1_000_000  # of all questions in the list
SHOWN_CHARACTERS = 300  # of one of them
RECORD_TOKENS = 40  # the names and answers of a record take as much room as this many tokens


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
    """The lines of one round, in the order of the verdicts, with the columns of its place.

    `scores` are those of `scores_of`; `scored` says whether the cache has the row.
    """
    scored = scores.with_columns(scored=pl.lit(True))
    lines = joined(verdicts.select(LINE_COLUMNS), scored, schema.LOGITS)
    return with_place(lines.with_columns(pl.col("scored").fill_null(False)), place)


def with_solved(lines: pl.DataFrame) -> pl.DataFrame:
    """Add `solved`: the share of correct trajectories of the problem, over the seeds of a round.

    Each trajectory counts once, however many rewrites it has.
    """
    group = ["method", "round", "problem_id"]
    solved = (
        lines.unique([*ROUND_COLUMNS, "sample_id"])
        .group_by(group)
        .agg(solved=(pl.col("sample_verdict") == "correct").mean())
    )
    return lines.join(solved, on=group, how="left", maintain_order="left")


def in_turn(lines: pl.DataFrame) -> pl.DataFrame:
    """The lines in the order in which they are taken into a sample.

    That is one line of each method, round, seed and reason, then a second one of each, and so on.
    The order is the same whatever the order of `lines`.
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


def within(lines: pl.DataFrame, cost: pl.Expr, budget: float) -> pl.DataFrame:
    """The first lines, as many as together cost no more than the budget."""
    return lines.filter(cost.cum_sum() <= budget)


def text_cost() -> pl.Expr:
    """The room in the page that the texts of a line take, in proportion."""
    tokens = pl.col("sample_tokens") + pl.col("num_tokens").fill_null(0)
    return (RECORD_TOKENS + tokens).cast(pl.Int64)


def token_cost() -> pl.Expr:
    """The room in the page that the tokens of a scored line take, in proportion."""
    return (RECORD_TOKENS + pl.col("num_tokens")).cast(pl.Int64)


def index_of(lines: pl.DataFrame, problems: pl.DataFrame, experiment: str) -> dict[str, Any]:
    """What the list shows, by columns; rounds, problems and words are named once.

    `rounds` are method, seed, round and folder. Long questions are cut. `signs` stand for
    characters that cannot be seen.
    """
    rounds = lines.select(ROUND_COLUMNS).unique().sort(ROUND_COLUMNS)
    layout = Experiment(RESULTS / experiment)
    lines = lines.join(
        rounds.with_row_index("place"), on=ROUND_COLUMNS, how="left", maintain_order="left"
    )
    questions = lines.select("problem_id").unique().sort("problem_id")
    questions = joined(questions, problems, schema.PROBLEMS)
    length = min(SHOWN_CHARACTERS, QUESTION_CHARACTERS // max(len(questions), 1))
    id_without_problem = pl.col("sample_id").str.strip_prefix(pl.col("problem_id") + pl.lit("-"))
    return {
        "signs": SIGNS,
        "rounds": [
            [method, seed, number, layout.round(method, seed, number).folder.as_posix()]
            for method, seed, number in rounds.iter_rows()
        ],
        "problems": {
            "id": questions["problem_id"].to_list(),
            "question": questions["question"].fill_null("").str.slice(0, length).to_list(),
        },
        "round": lines["place"].to_list(),
        "problem": indices(lines["problem_id"], questions["problem_id"]),
        "sample": lines.select(id_without_problem).to_series().to_list(),
        "candidate": lines["candidate"].to_list(),
        "sample_tokens": lines["sample_tokens"].to_list(),
        "num_tokens": lines["num_tokens"].to_list(),
        "divergence": _thousandths(lines["divergence"]),
        "teacher_logprob": _thousandths(-lines["teacher_logprob"]),
        "solved": lines["solved"].round(3).to_list(),
        **{name: named(lines[name]) for name in ("reason", "verdict", "sample_verdict")},
    }


def indices(values: pl.Series, names: pl.Series) -> list[int]:
    """The index of each value among the names."""
    numbers = {name: index for index, name in enumerate(names.to_list())}
    return [numbers[name] for name in values.to_list()]


def named(values: pl.Series) -> dict[str, list[Any]]:
    """The different values, sorted, and the index of each value among them."""
    names = values.unique().sort()
    return {"names": names.to_list(), "lines": indices(values, names)}


def _thousandths(values: pl.Series) -> list[int | None]:
    return (values * 1000).round().cast(pl.Int64).to_list()


def text_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """The texts of a line, from its columns of TEXT_COLUMNS and the question.

    `rewrite` is the rewrite in the student's format; where it could not be put in that, the
    teacher's own text. It is null where it equals the trajectory (`same`).
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
