"""filter: grade every sample and rewrite, and choose what is trained on.

Every row stays in the file, with its verdicts and a reason. The shortest candidate of a trajectory
that passes every check is kept for training.

    python -m mpd.filter --settings JSON --problems .../problems/train/shard_0.parquet \\
        --sample .../sample/shard_0.parquet --compress .../compress/shard_0.parquet \\
        --output .../filter/shard_0.parquet
"""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.filter import FilterSettings
from mpd.config.resources import ThreadResources
from mpd.job import command
from mpd.job.shards import for_each_shard
from mpd.store import schema, table
from mpd.store.joins import matched
from mpd.store.lineage import contents_of
from mpd.store.outputs import Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.store.row_ranges import ForwardReader, ranges_within
from mpd.text.grading.extraction import extract
from mpd.text.grading.golds import golds_of, read_golds
from mpd.text.grading.grader import Grader
from mpd.text.sequences import overlap, repeats_more_than

log = logging.getLogger("mpd")

# Of samples and rewrites, whose texts and ids take some 40 bytes a token in memory; a kill loses as
# many. A row without tokens counts as ROW_TOKENS.
PART_TOKENS, ROW_TOKENS = 2_000_000, 400
ROWS_PER_GROUP = 32_768  # of the file: some 8 MB

TOO_LONG = ("sample_too_long", "rewriting_prompt_too_long", "rewrite_too_long")


# Columns of a sample that a rewrite has too.
RENAMED = {"text": "sample_text", "completion_ids": "sample_ids", "num_tokens": "sample_tokens"}


def verdicts(rows: pl.DataFrame, settings: FilterSettings, grader: Grader) -> pl.DataFrame:
    """Filter rows of the rows of `with_samples_and_problems`, in order."""
    close_tag = settings.chat.delimiter
    sample_answers = [extract(text, close_tag) for text in rows["sample_text"]]
    answers = [None if text is None else extract(text, close_tag) for text in rows["text"]]
    golds = [*golds_of(rows)]
    grades = grader.grade(golds * 2, sample_answers + answers)
    sample_grades, candidate_grades = grades[: len(golds)], grades[len(golds) :]
    columns = sample_answers, answers, sample_grades, candidate_grades
    records = [
        {
            **{key: row[key] for key in ("sample_id", "candidate", "problem_id", "gold")},
            "sample_answer": sample_answer,
            "sample_verdict": sample_verdict,
            "answer": answer,
            "verdict": verdict,
            "correct": verdict == "correct",
            **_checks(row, verdict, settings),
            "sample_tokens": row["sample_tokens"],
            "num_tokens": row["num_tokens"],
            "keep": False,
        }
        for row, sample_answer, answer, sample_verdict, verdict in zip(
            # Python's integers take much memory: few rows at a time.
            *(rows.iter_rows(named=True, buffer_size=16), *columns),
            strict=True,
        )
    ]
    return choose_shortest(table.frame_of(records, schema.FILTER))


def _checks(row: Mapping[str, Any], verdict: str, settings: FilterSettings) -> dict[str, Any]:
    """The verdict columns of one candidate, and as reason the first check that failed."""
    ids, sample_ids, status = row["completion_ids"] or [], row["sample_ids"], row["status"]
    ratio = len(ids) / len(sample_ids) if ids and sample_ids else None
    shared = overlap(ids, sample_ids) if ids else None
    max_tokens = settings.max_tokens
    text = (row["rewrite"] or "").casefold()
    rewritten, kept = settings.rewriter != "none", settings.kept
    shortened = rewritten and settings.instruction == "rewrite"
    # A truncated sample has no answer, but some methods are trained on all samples.
    usable = status == "ok" or (kept == "all" and status == "sample_truncated" and bool(ids))
    checks = {
        "truncated": status in ("sample_truncated", "rewrite_truncated"),
        "too_long": status in TOO_LONG or (max_tokens is not None and len(ids) > max_tokens),
        "format": status == "ok",
        "leak": any(phrase.casefold() in text for phrase in settings.leaks),
        "copy": bool(ids) and ids == sample_ids,
        "repetition": repeats_more_than(settings.max_repeats, ids),
    }
    failures = {
        # The status says more than the column that covers it.
        status: not usable,
        "too_long": checks["too_long"],
        "wrong_answer" if verdict == "wrong" else f"answer_{verdict}": (
            kept == "correct" and verdict != "correct"
        ),
        "right_answer": kept == "incorrect" and verdict == "correct",
        # The next checks compare a rewrite with its trajectory; a refinement may be as long.
        "ratio_too_high": shortened and ratio is not None and ratio > settings.max_ratio,
        "ratio_too_low": shortened and ratio is not None and ratio < settings.min_ratio,
        "overlap": shortened and shared is not None and shared > settings.max_overlap,
        "leak": rewritten and checks["leak"],
        "copy": shortened and checks["copy"] and settings.copies == "drop",
        # Where all samples are kept, so are those that loop, but no rewrite that does.
        "repetition": (rewritten or kept != "all") and checks["repetition"],
    }
    reason = next((name for name, failed in failures.items() if failed), "kept")
    return {**checks, "ratio": ratio, "overlap": shared, "reason": reason}


def choose_shortest(rows: pl.DataFrame) -> pl.DataFrame:
    """Set keep on the shortest passing candidate of each sample, the first of equal length.

    The other passing candidates get the reason longer_candidate.
    """
    passing = pl.col("reason") == "kept"
    shortest = (
        rows.filter(passing)
        .sort("sample_id", "num_tokens", "candidate")
        .group_by("sample_id", maintain_order=True)
        .agg(pl.col("candidate").first().alias("shortest"))
    )
    chosen = pl.col("candidate").eq_missing(pl.col("shortest"))
    return (
        rows.join(shortest, "sample_id", how="left", maintain_order="left")
        .with_columns(
            keep=passing & chosen,
            reason=pl.when(passing & ~chosen)
            .then(pl.lit("longer_candidate"))
            .otherwise(pl.col("reason")),
        )
        .select(schema.FILTER.names)
    )


def with_samples_and_problems(
    problems: pl.DataFrame, samples: pl.DataFrame, candidates: pl.DataFrame
) -> pl.DataFrame:
    """The candidates, each with its sample (sample_text, sample_ids, sample_tokens) and problem.

    Raises ValueError where the shards do not belong together.
    """
    originals = samples.rename(RENAMED, strict=False)
    rows = matched(candidates, originals, schema.SAMPLE)
    rows = matched(rows, problems, schema.PROBLEMS)
    if len(rows) != len(candidates) or candidates["sample_id"].n_unique() != len(samples):
        raise ValueError(
            f"{len(samples)} samples, {candidates['sample_id'].n_unique()} of them with "
            f"candidates, {len(rows)} of {len(candidates)} candidates with sample and problem: "
            "problems, sample and compress do not belong to one shard; give files of one shard"
        )
    return rows


def judge_shard(
    problems: Path,
    sample: Path,
    compress: Path,
    judge: Callable[[pl.DataFrame], pl.DataFrame],
    parts: Parts,
) -> None:
    """Judge the rows of a shard in parts, in none of which a sample lacks one of its candidates.

    Raises ValueError where the files do not belong together.
    """
    golds = read_golds(problems)
    samples = table.read_columns(sample, ["sample_id", "problem_id", "num_tokens"])
    candidates = table.read_columns(compress, ["sample_id", "num_tokens"])
    keys = with_samples_and_problems(golds, samples.with_row_index("place"), candidates)
    costs = keys.select(
        pl.sum_horizontal("sample_tokens", "num_tokens").cast(pl.Int64) + ROW_TOKENS
    ).to_series()
    places = keys["place"].to_numpy()
    ranges = ranges_within(places, costs.to_numpy(), PART_TOKENS)

    def prepare() -> Callable[[int, int], pl.DataFrame]:
        all_samples = ForwardReader(sample, ["sample_id", "problem_id", *RENAMED])
        all_candidates = ForwardReader(compress, schema.COMPRESS.names)

        def work(start: int, stop: int) -> pl.DataFrame:
            held = places[start:stop]
            first, last = (int(held.min()), int(held.max())) if len(held) else (0, -1)
            # Not all gold answers: each part would take the time that a table of them takes.
            problems_of_part = keys[start:stop].select(golds.columns).unique("problem_id")
            part_samples = all_samples.read(first, last + 1)
            part = problems_of_part, part_samples, all_candidates.read(start, stop)
            return judge(with_samples_and_problems(*part))

        return work

    parts.map_ranges(ranges, prepare, ROWS_PER_GROUP)


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    shards = {"problems": "problems", "sample": "trajectories", "compress": "rewrites"}
    return command.parser(__doc__, "filter", FilterSettings, ThreadResources, shards)


@for_each_shard
def outputs(arguments: Namespace) -> Outputs:
    """The verdicts on one shard."""
    settings: FilterSettings = arguments.settings
    paths: dict[str, Any] = {
        "problems": (arguments.problems, schema.PROBLEMS),
        "sample": (arguments.sample, schema.SAMPLE),
        "compress": (arguments.compress, schema.COMPRESS),
    }
    contents = contents_of(paths)

    def compute(parts: Parts) -> None:
        with Grader(num_workers=command.resources_of(arguments).threads) as grader:
            shard = arguments.problems, arguments.sample, arguments.compress
            judge_shard(*shard, partial(verdicts, settings=settings, grader=grader), parts)

    yield TableOutput(
        schema.FILTER,
        arguments.output,
        settings.meaning(),
        contents,
        compute,
        identity=contents,
    )


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    arguments = command.publish(command_line(), outputs, argv)
    for output in arguments.output if arguments.mode != "explain" else ():
        kept = table.read_columns(output, ["keep"])["keep"]
        log.info("kept %d of %d candidates", kept.sum(), len(kept))


if __name__ == "__main__":
    command.run(main, "filter")
