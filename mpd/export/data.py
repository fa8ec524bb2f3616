"""The trajectories, rewrites and verdicts of a student's rounds, as a data set of the hub."""

from pathlib import Path

import polars as pl

from mpd.job.layout import Round
from mpd.store import schema, table
from mpd.store.joins import joined

FOLDER = "data"
# Columns of the data set by artifact, and what they are called there.
COLUMNS = {
    schema.SAMPLE: {
        "sample_id": "sample_id",
        "problem_id": "problem_id",
        "text": "trajectory",
        "finish_reason": "finish_reason",
    },
    schema.PROBLEMS: {"problem_id": "problem_id", "question": "question"},
    schema.COMPRESS: {
        "sample_id": "sample_id",
        "candidate": "candidate",
        "status": "status",
        "rewrite": "teacher_text",
        "text": "rewrite",
    },
    schema.FILTER: {
        **{name: name for name in ("sample_id", "candidate", "gold", "sample_answer")},
        **{name: name for name in ("sample_verdict", "answer", "verdict", "sample_tokens")},
        **{name: name for name in ("num_tokens", "ratio", "overlap", "keep", "reason")},
    },
}
# Their order, and what they mean where the name does not say it.
MEANINGS = {
    "problem_id": "digest of the question",
    "question": "the problem",
    "gold": "gold answer",
    "sample_id": "the trajectory",
    "trajectory": "what the student wrote, control tokens shown",
    "finish_reason": "stop, length (cut by the token limit), or why there is no trajectory",
    "sample_answer": "final answer of the trajectory",
    "sample_verdict": "of the trajectory: correct, wrong, none, unparsed or timeout",
    "sample_tokens": "tokens of the trajectory",
    "candidate": "number of the rewrite among those of its trajectory",
    "status": "ok, or why the trajectory could not be rewritten",
    "teacher_text": "the teacher's text, verbatim",
    "rewrite": "the rewrite in the student's format, which is trained on",
    "answer": "final answer of the rewrite",
    "verdict": "of the rewrite",
    "num_tokens": "tokens of the rewrite",
    "ratio": "num_tokens over sample_tokens",
    "overlap": "share of the rewrite's token trigrams that occur in the trajectory",
    "keep": "whether the student was trained on it",
    "reason": "kept, or the first check that failed",
}


def rows_of(place: Round, shard: int) -> pl.DataFrame:
    """The rewrites of a shard of a round with their trajectories and problems, one a row."""
    paths = {
        artifact: place.shards(artifact.name, shard + 1)[shard]
        for artifact in (schema.SAMPLE, schema.COMPRESS, schema.FILTER)
    }
    paths[schema.PROBLEMS] = place.experiment.train_shards(shard + 1)[shard]
    rows = None
    for artifact, columns in COLUMNS.items():
        table.verify(paths[artifact], artifact)
        others = table.read_columns(paths[artifact], list(columns)).rename(columns)
        rows = others if rows is None else joined(rows, others, artifact)
    assert rows is not None
    return rows.select(list(MEANINGS))


def write_data(rounds: list[Round], folder: Path) -> dict[str, int]:
    """Write the rows of each round into `folder`, a Parquet file for each shard.

    Returns the number of rows by round, such as round_1. Raises ValueError where a file is missing
    or damaged.
    """
    counts: dict[str, int] = {}
    for place in rounds:
        name = f"round_{place.number}"
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        for shard in range(num_shards := place.experiment.num_train_shards()):
            rows = rows_of(place, shard)
            file = f"{name}-{shard:05d}-of-{num_shards:05d}.parquet"
            rows.write_parquet(folder / FOLDER / file, compression="zstd")
            counts[name] = counts.get(name, 0) + len(rows)
    return counts
