"""filter: grade every sample and rewrite, and choose what is trained on.

Every row stays, with its verdicts and a reason. Of each trajectory the shortest candidate that
passes every check is kept.

    python -m mpd.filter --settings JSON --problems .../problems/train/shard_0.parquet \\
        --sample .../sample/shard_0.parquet --compress .../compress/shard_0.parquet \\
        --output .../filter/shard_0.parquet
"""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mpd.config.filter import FilterSettings
from mpd.config.resources import ThreadResources
from mpd.job import command
from mpd.store import schema, table
from mpd.store.lineage import require_made_from
from mpd.store.outputs import Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.text.grading.extraction import extract
from mpd.text.grading.grader import Grader

log = logging.getLogger("mpd")

TOO_LONG = ("sample_too_long", "rewriting_prompt_too_long", "rewrite_too_long")
MIN_RUN = 4  # tokens: a shorter run that repeats is a number or an ellipsis


def overlap(rewrite: list[int], sample: list[int]) -> float:
    """Share of the rewrite's token trigrams that occur in the sample; 0 where it has none."""

    def trigrams(ids: list[int]) -> list[tuple[int, ...]]:
        return [tuple(ids[start : start + 3]) for start in range(len(ids) - 2)]

    own, others = trigrams(rewrite), set(trigrams(sample))
    return sum(trigram in others for trigram in own) / len(own) if own else 0.0


def repeats_more_than(limit: int, ids: list[int]) -> bool:
    """Whether a run of at least 4 tokens stands more than `limit` times in a row."""
    tokens = np.asarray(ids)
    for width in range(MIN_RUN, len(ids) // (limit + 1) + 1):
        # Where the sequence differs from itself shifted by `width`, a repetition ends.
        breaks = np.flatnonzero(tokens[width:] != tokens[:-width])
        longest = np.diff(breaks, prepend=-1, append=len(ids) - width).max() - 1
        if longest // width + 1 > limit:
            return True
    return False


def verdicts(rows: pl.DataFrame, settings: FilterSettings, grader: Grader) -> pl.DataFrame:
    """Filter rows of joined problem, sample and candidate columns; keys are those of compress."""
    delimiter = settings.chat.delimiter
    sample_answers = [extract(text, delimiter) for text in rows["sample_text"]]
    own_answers = [None if text is None else extract(text, delimiter) for text in rows["text"]]
    golds = rows["gold"].to_list()
    graded = grader.grade(golds * 2, sample_answers + own_answers)
    sample_graded, own_graded = graded[: len(golds)], graded[len(golds) :]
    made = []
    for row, sample_answer, answer, sample_verdict, verdict in zip(
        rows.iter_rows(named=True),
        sample_answers,
        own_answers,
        sample_graded,
        own_graded,
        strict=True,
    ):
        found = _checks(row, verdict, settings)
        made.append(
            {
                **{key: row[key] for key in ("sample_id", "candidate", "problem_id", "gold")},
                "sample_answer": sample_answer,
                "sample_verdict": sample_verdict,
                "answer": answer,
                "verdict": verdict,
                "correct": verdict == "correct",
                **found,
                "sample_tokens": row["sample_tokens"],
                "num_tokens": row["num_tokens"],
                "keep": False,
            }
        )
    return choose_shortest(table.frame_of(made, schema.FILTER))


def _checks(row: Mapping[str, Any], verdict: str, settings: FilterSettings) -> dict[str, Any]:
    """The verdict columns of one candidate, and as reason the first check that failed."""
    ids, sample_ids, status = row["completion_ids"] or [], row["sample_ids"], row["status"]
    ratio = len(ids) / len(sample_ids) if ids and sample_ids else None
    shared = overlap(ids, sample_ids) if ids else None
    limit = settings.max_tokens
    text = (row["rewrite"] or "").casefold()
    rewritten, kept = settings.rewriter != "none", settings.kept
    shortened = rewritten and settings.instruction == "rewrite"
    # What was cut has no answer, but some methods are trained on all that was sampled.
    usable = status == "ok" or (kept == "all" and status == "sample_truncated" and bool(ids))
    checks = {
        "truncated": status in ("sample_truncated", "rewrite_truncated"),
        "too_long": status in TOO_LONG or (limit is not None and len(ids) > limit),
        "format": status == "ok",
        "leak": any(phrase.casefold() in text for phrase in settings.leaks),
        "copy": bool(ids) and ids == sample_ids,
        "repetition": repeats_more_than(settings.max_repeats, ids),
    }
    failures = {
        # A status says more than the column it falls under.
        status: not usable,
        "too_long": checks["too_long"],
        "wrong_answer" if verdict == "wrong" else f"answer_{verdict}": (
            kept == "correct" and verdict != "correct"
        ),
        "right_answer": kept == "incorrect" and verdict == "correct",
        # What follows compares a rewrite with its trajectory; a refinement may be as long.
        "ratio_too_high": shortened and ratio is not None and ratio > settings.max_ratio,
        "ratio_too_low": shortened and ratio is not None and ratio < settings.min_ratio,
        "overlap": shortened and shared is not None and shared > settings.max_overlap,
        "leak": rewritten and checks["leak"],
        "copy": shortened and checks["copy"] and settings.copies == "drop",
        # All is all, loops too, unless it is what a rewriter wrote.
        "repetition": (rewritten or kept != "all") and checks["repetition"],
    }
    reason = next((name for name, failed in failures.items() if failed), "kept")
    return {**checks, "ratio": ratio, "overlap": shared, "reason": reason}


def choose_shortest(rows: pl.DataFrame) -> pl.DataFrame:
    """Set keep on the shortest passing candidate of each sample, the first among equals.

    The other passing ones get the reason longer_candidate.
    """
    passing = pl.col("reason") == "kept"
    best = (
        rows.filter(passing)
        .sort("sample_id", "num_tokens", "candidate")
        .group_by("sample_id", maintain_order=True)
        .agg(pl.col("candidate").first().alias("best"))
    )
    chosen = pl.col("candidate").eq_missing(pl.col("best"))
    return (
        rows.join(best, "sample_id", how="left", maintain_order="left")
        .with_columns(
            keep=passing & chosen,
            reason=pl.when(passing & ~chosen)
            .then(pl.lit("longer_candidate"))
            .otherwise(pl.col("reason")),
        )
        .select(schema.FILTER.names)
    )


def joined(problems: pl.DataFrame, samples: pl.DataFrame, candidates: pl.DataFrame) -> pl.DataFrame:
    """One row per candidate. Raises ValueError where the shards do not belong together."""
    rows = candidates.join(
        samples.select(
            "sample_id",
            "problem_id",
            pl.col("text").alias("sample_text"),
            pl.col("completion_ids").alias("sample_ids"),
            pl.col("num_tokens").alias("sample_tokens"),
        ),
        on="sample_id",
        validate="m:1",
        maintain_order="left",
    ).join(problems, on="problem_id", validate="m:1", maintain_order="left")
    if len(rows) != len(candidates) or candidates["sample_id"].n_unique() != len(samples):
        raise ValueError(
            f"{len(samples)} samples, {candidates['sample_id'].n_unique()} of them with "
            f"candidates, {len(rows)} of {len(candidates)} candidates with sample and problem: "
            "problems, sample and compress are not of one shard"
        )
    return rows


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    parser = command.parser(__doc__, "filter", FilterSettings, ThreadResources)
    parser.add_argument("--problems", type=Path, required=True, help="problems of this shard")
    parser.add_argument("--sample", type=Path, required=True, help="trajectories of this shard")
    parser.add_argument("--compress", type=Path, required=True, help="rewrites of this shard")
    return parser


def outputs(arguments: Namespace) -> Outputs:
    """The verdicts on one shard."""
    settings: FilterSettings = arguments.settings
    paths: dict[str, Any] = {
        "problems": (arguments.problems, schema.PROBLEMS),
        "sample": (arguments.sample, schema.SAMPLE),
        "compress": (arguments.compress, schema.COMPRESS),
    }
    contents = {name: table.content_digest(*shard) for name, shard in paths.items()}
    require_made_from(*paths["compress"], sample=contents["sample"])

    def compute(parts: Parts) -> None:
        problems, samples, candidates = (table.read(*shard) for shard in paths.values())
        rows = joined(problems, samples, candidates)
        with Grader(num_workers=command.resources_of(arguments).threads) as grader:
            judge = partial(verdicts, settings=settings, grader=grader)
            parts.map(rows, max(len(rows), 1), lambda: judge)

    yield TableOutput(
        schema.FILTER,
        arguments.output,
        settings.meaning(),
        contents,
        compute,
        identity={"sample": contents["sample"], "compress": contents["compress"]},
    )


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    arguments = command.publish(command_line(), outputs, argv)
    if arguments.mode != "explain":
        kept = table.read(arguments.output, schema.FILTER)
        log.info("kept %d of %d candidates", kept["keep"].sum(), len(kept))


if __name__ == "__main__":
    command.run(main, "filter")
