"""The rows of the report's browser of held-out answers. Pure functions on frames.

A cell is what one student answered to one problem: one or more answers. A line is a cell beside
that of the base student of its seed. The list has all cells; texts come with a fixed sample of
lines: first those that the base student answers better, then every student and outcome in turn,
ordered within each by a digest of the problem, so that the same problems come for all students.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import polars as pl

from mpd.config.base import BASE, DEV
from mpd.report.browser import RECORD_TOKENS, indices, named
from mpd.report.difficulty import BINS, bins_of
from mpd.store.signs import SIGNS

# Of a line, by what the base student of its seed answered; with several answers to a problem,
# "right" are the shares of correct ones, and "longer" compares the means of the correct ones.
OUTCOMES = {
    "lost": "right before, wrong now",
    "gained": "wrong before, right now",
    "longer": "both right, now longer",
    "none": "no answer",
    "cut": "cut at the limit",
}
ANSWER_COLUMNS = ["problem_id", "sample_index", "gold", "finish_reason", "num_tokens", "answer"]
ANSWER_COLUMNS += ["verdict", "correct"]
STUDENT = ["method", "seed", "round"]
PROBLEM = ["benchmark", "problem_id"]
MAX_ANSWERS = 300_000  # in the list: about 6 bytes each in the page
QUESTION_CHARACTERS, SHOWN_CHARACTERS = 1_000_000, 4000  # of all questions, and of one of them
ANSWER_CHARACTERS, SHOWN_ANSWER_CHARACTERS = 1_000_000, 100  # the same of final answers


def cells_of(answers: pl.DataFrame) -> pl.DataFrame:
    """One row for each student and problem: how many answers, how right, and how long.

    `answers` are rows of `evaluate` with method, round, seed and benchmark. `tokens` is the sum,
    `solved_tokens` the mean over correct answers, null where there is none.
    """
    tokens = pl.col("num_tokens")
    return answers.group_by(*STUDENT, *PROBLEM, maintain_order=True).agg(
        num_answers=pl.len(),
        accuracy=pl.col("correct").mean(),
        tokens=tokens.sum().cast(pl.Int64),
        solved_tokens=tokens.filter(pl.col("correct")).mean(),
        none=(pl.col("verdict") == "none").any(),
        cut=(pl.col("finish_reason") == "length").any(),
    )


def with_outcomes(cells: pl.DataFrame) -> pl.DataFrame:
    """Add a column of bools for each of OUTCOMES.

    Without a base student of the same seed, and for it, nothing was lost, gained or longer.
    """
    base = cells.filter(pl.col("method") == BASE).select(
        *("seed", *PROBLEM),
        base_accuracy="accuracy",
        base_solved_tokens="solved_tokens",
    )
    rows = cells.join(base, on=["seed", *PROBLEM], how="left", maintain_order="left")
    compared = {
        "lost": pl.col("accuracy") < pl.col("base_accuracy"),
        "gained": pl.col("accuracy") > pl.col("base_accuracy"),
        "longer": pl.col("solved_tokens") > pl.col("base_solved_tokens"),
    }
    outcomes = [expression.fill_null(False).alias(name) for name, expression in compared.items()]
    return rows.with_columns(outcomes).drop("base_accuracy", "base_solved_tokens")


def difficulties(cells: pl.DataFrame) -> pl.DataFrame:
    """`bin` of every problem, an index into BINS; null where no base student answered it."""
    frames = [pl.DataFrame(schema={**dict.fromkeys(PROBLEM, pl.String), "bin": pl.Int64})]
    base = cells.filter(pl.col("method") == BASE).sort("benchmark", "seed", "problem_id")
    for (benchmark,), rows in base.group_by("benchmark", maintain_order=True):
        names = rows["problem_id"].unique(maintain_order=True)
        accuracy = rows["accuracy"].to_numpy().reshape(-1, len(names))
        bins = pl.Series(bins_of(accuracy), dtype=pl.Int64)
        columns = {"benchmark": [benchmark] * len(names), "problem_id": names, "bin": bins}
        frames.append(pl.DataFrame(columns))
    return pl.concat(frames)


def listed(cells: pl.DataFrame) -> pl.DataFrame:
    """The cells in the list, numbered: students in order, the base students first, then problems.

    All of them where there are at most MAX_ANSWERS answers. Otherwise those of so many problems,
    those first that a student lost.
    """
    problems = cells.group_by(PROBLEM).agg(pl.col("lost").any(), pl.col("num_answers").sum())
    problems = _with_digests(problems).sort(~pl.col("lost"), "digest", "benchmark")
    kept = problems.filter(pl.col("num_answers").cum_sum() <= MAX_ANSWERS)
    return (
        cells.join(kept, on=PROBLEM, how="semi")
        .sort(pl.col("method") != BASE, *STUDENT, pl.col("benchmark") == DEV, *PROBLEM)
        .with_row_index("line")
    )


def in_turn(cells: pl.DataFrame) -> pl.DataFrame:
    """The cells in the order in which their texts are taken; each comes once.

    Each line brings the cell of its base student. After what was lost come the other rounds of the
    same branches on the same problems, to be read beside it.
    """
    outcome = pl.coalesce(pl.when(name).then(pl.lit(name)) for name in OUTCOMES)
    lines = _with_digests(cells.filter(pl.col("method") != BASE))
    lines = lines.with_columns(
        outcome=outcome.fill_null(""),
        rank=pl.when("lost").then(0).when(pl.col("lost").any().over("method", "seed", *PROBLEM))
        .then(1)
        .otherwise(2),
    )  # fmt: skip
    ordered = (
        lines.sort("digest", "benchmark")
        .with_columns(turn=pl.int_range(pl.len()).over("benchmark", *STUDENT, "outcome"))
        .sort("rank", "turn", "digest", "benchmark", *STUDENT)
    )
    bases = cells.filter(pl.col("method") == BASE)
    base_lines = ordered.select("seed", *PROBLEM).join(
        bases.select("seed", *PROBLEM, base="line"),
        on=["seed", *PROBLEM],
        how="left",
        maintain_order="left",
    )["base"]
    pairs = pl.DataFrame({"base": base_lines, "own": ordered["line"]})
    first = pairs.select(line=pl.concat_list("base", "own")).explode("line").drop_nulls()
    order = pl.concat([first, bases.select("line")]).unique(keep="first", maintain_order=True)
    return order.join(cells, on="line", how="left", maintain_order="left")


def text_cost() -> pl.Expr:
    """The room in the page that the texts of a cell take, in proportion."""
    return RECORD_TOKENS + pl.col("tokens")


def _with_digests(rows: pl.DataFrame) -> pl.DataFrame:
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in rows["problem_id"]]
    return rows.with_columns(digest=pl.Series(digests, dtype=pl.String))


def index_of(
    cells: pl.DataFrame,
    answers: pl.DataFrame,
    problems: pl.DataFrame,
    folders: Mapping[tuple[Any, ...], str],
) -> dict[str, Any]:
    """What the list shows, by columns. A cell has the number student · problems + problem.

    `cells` are those of `listed`, `answers` all rows with their columns, `problems` have benchmark,
    problem_id, question and gold; `folders` are those of the rounds by method, seed and round.
    Verdicts and reasons are digits that stand for names, one for each answer, cell by cell.
    """
    students = cells.select(STUDENT).unique(maintain_order=True)
    asked = cells.select(PROBLEM).unique(maintain_order=True)
    asked = asked.join(problems, on=PROBLEM, how="left", maintain_order="left").join(
        difficulties(cells), on=PROBLEM, how="left", maintain_order="left"
    )
    rows = (
        answers.join(cells.select("line", *STUDENT, *PROBLEM), on=[*STUDENT, *PROBLEM])
        .sort("line", "sample_index")
        .with_columns(pl.col("answer").str.slice(0, _length(answers["answer"])))
    )
    length = min(SHOWN_CHARACTERS, QUESTION_CHARACTERS // max(len(asked), 1))
    benchmarks = asked["benchmark"].unique(maintain_order=True)
    return {
        "signs": SIGNS,
        "outcomes": OUTCOMES,
        "difficulties": list(BINS),
        "students": [[*student, folders[student]] for student in students.iter_rows()],
        "bases": _bases(students),
        "benchmarks": benchmarks.to_list(),
        "problems": {
            "benchmark": indices(asked["benchmark"], benchmarks),
            "id": asked["problem_id"].to_list(),
            "question": asked["question"].fill_null("").str.slice(0, length).to_list(),
            "gold": asked["gold"].str.slice(0, SHOWN_ANSWER_CHARACTERS).to_list(),
            "difficulty": asked["bin"].to_list(),
        },
        "counts": cells["num_answers"].to_list(),
        "cell_outcomes": cells.select(
            pl.sum_horizontal(
                pl.col(name).cast(pl.Int64) * 2**place for place, name in enumerate(OUTCOMES)
            )
        )
        .to_series()
        .to_list(),
        "tokens": rows["num_tokens"].to_list(),
        **{name: _digits(rows[name]) for name in ("verdict", "finish_reason")},
        "answer": named(rows["answer"]),
    }


def _bases(students: pl.DataFrame) -> list[int | None]:
    """The number of the base student of the same seed, for each student; None without one."""
    rows = list(students.iter_rows())
    bases = {seed: number for number, (method, seed, _) in enumerate(rows) if method == BASE}
    return [bases.get(seed) for _, seed, _ in rows]


def _length(answers: pl.Series) -> int:
    return min(SHOWN_ANSWER_CHARACTERS, ANSWER_CHARACTERS // max(answers.n_unique(), 1))


def _digits(values: pl.Series) -> dict[str, Any]:
    """As `named`, of at most ten names: one digit for each value."""
    columns = named(values)
    assert len(columns["names"]) <= 10
    return {**columns, "lines": "".join(map(str, columns["lines"]))}
