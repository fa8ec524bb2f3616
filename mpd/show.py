"""Look at one trajectory through the stages, or list the rows of a round with their verdicts.

python -m mpd.show results/tiny/mpd/seed_0/round_1
python -m mpd.show results/tiny/mpd/seed_0/round_1 --reason wrong_answer
python -m mpd.show results/tiny/mpd/seed_0/round_1 --sample 0a1b2c3d4e5f6071-0
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mpd import command, schema, table


def read_round(folder: Path, artifact: schema.Artifact, shards: list[str]) -> pl.DataFrame:
    """All shards of one stage of a round."""
    return pl.concat(table.read(folder / artifact.name / name, artifact) for name in shards)


def train_of(folder: Path) -> Path:
    """The training problems of a round's experiment."""
    return (folder / "../../..").resolve() / "problems" / "train"


def shards_of(folder: Path) -> list[str]:
    """The shard names of a round's experiment. Raises ValueError where `folder` is no round."""
    names = sorted(path.name for path in train_of(folder).glob("shard_*.parquet"))
    if not names or not (folder / "sample").is_dir():
        raise ValueError(
            f"{folder}: not a round; give results/<experiment>/<method>/seed_<n>/round_<n>"
        )
    return names


def print_rows(console: Console, rows: pl.DataFrame, limit: int) -> None:
    """List candidates with their verdicts."""
    counts = rows["reason"].value_counts(sort=True).rows()
    console.print(", ".join(f"{count} {reason}" for reason, count in counts), highlight=False)
    shown = Table(box=None)
    for name in ("sample", "candidate", "tokens", "rewrite", "ratio", "answer", "gold", "reason"):
        shown.add_column(name, no_wrap=True)
    for row in rows.head(limit).iter_rows(named=True):
        shown.add_row(
            row["sample_id"],
            str(row["candidate"]),
            str(row["sample_tokens"]),
            str(row["num_tokens"] or "-"),
            "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
            Text(row["answer"] or "-"),
            Text(row["gold"]),
            Text(row["reason"], style="green" if row["keep"] else "red"),
        )
    console.print(shown)
    if len(rows) > limit:
        console.print(f"{len(rows) - limit} more; --limit {len(rows)} lists all")


def print_sample(console: Console, folder: Path, sample_id: str, shards: list[str]) -> None:
    """Print problem, trajectory, rewrites with verdicts, and the cached scores of a sample.

    Stages that have not run yet are named. Raises ValueError where the round has no such sample.
    """
    stages = (schema.COMPRESS, schema.FILTER, schema.LOGITS)
    missing = [
        artifact.name
        for artifact in stages
        if not all((folder / artifact.name / name).is_file() for name in shards)
    ]

    def own(artifact: schema.Artifact) -> pl.DataFrame:
        if artifact.name in missing:
            return table.frame_of([], artifact)
        rows = read_round(folder, artifact, shards)
        return rows.filter(pl.col("sample_id") == sample_id)

    samples = own(schema.SAMPLE)
    if not len(samples):
        raise ValueError(f"{folder}: no sample {sample_id}; run without --sample to list them")
    sample = samples.row(0, named=True)
    problems = pl.concat(table.read(train_of(folder) / name, schema.PROBLEMS) for name in shards)
    problem = problems.row(by_predicate=pl.col("problem_id") == sample["problem_id"], named=True)
    verdicts = {row["candidate"]: row for row in own(schema.FILTER).iter_rows(named=True)}
    # Titles are texts: in a plain string a gold answer such as [1] would be read as a style.
    console.print(Panel(Text(problem["question"]), title=Text(f"problem, gold {problem['gold']}")))
    heading = [f"sample: {sample['num_tokens']} tokens", sample["finish_reason"]]
    heading += [row["sample_verdict"] for row in verdicts.values()][:1]
    console.print(Panel(Text(sample["text"]), title=Text(", ".join(heading))))
    for rewrite in own(schema.COMPRESS).iter_rows(named=True):
        print_rewrite(console, rewrite, verdicts.get(rewrite["candidate"]))
    for cached in own(schema.LOGITS).iter_rows(named=True):
        known = cached["divergence"]  # not where vLLM scored
        divergence = f"{sum(known) / len(known):.3f} nat per token" if known else "not computed"
        closing = cached["think_close_logprob"]
        end = "" if closing is None else f", end of thinking {closing:.3f}"
        console.print(
            f"teacher log-probability per token {cached['mean_teacher_logprob']:.3f}{end}, "
            f"stop {cached['stop_logprob']:.3f}; divergence of the student to it {divergence}",
            highlight=False,
        )
    if missing:
        console.print(f"not run yet: {', '.join(missing)}", highlight=False)


def print_rewrite(
    console: Console, rewrite: Mapping[str, Any], verdict: Mapping[str, Any] | None
) -> None:
    """Print a rewrite, with its verdict where there is one."""
    length = f"{rewrite['num_tokens']} tokens" if rewrite["num_tokens"] else rewrite["status"]
    title = f"rewrite {rewrite['candidate']}: {length}"
    if verdict and verdict["ratio"] is not None:
        title += f", ratio {verdict['ratio']:.2f}"
    console.print(
        Panel(
            Text(rewrite["text"] or rewrite["rewrite"] or ""),
            title=title,
            subtitle=f"{verdict['verdict']}: {verdict['reason']}" if verdict else None,
            border_style="none" if not verdict else "green" if verdict["keep"] else "red",
        )
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m mpd.show", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("round", type=Path, help="folder of a round")
    parser.add_argument("--sample", help="sample_id to print; none: list the rows")
    parser.add_argument("--reason", help="list only rows with this reason")
    parser.add_argument("--limit", type=int, default=40, help="rows to list")
    arguments = parser.parse_args(argv)
    console = Console(width=None if Console().is_terminal else 110)
    shards = shards_of(arguments.round)
    if arguments.sample:
        print_sample(console, arguments.round, arguments.sample, shards)
        return
    rows = read_round(arguments.round, schema.FILTER, shards)
    if arguments.reason:
        rows = rows.filter(pl.col("reason") == arguments.reason)
    print_rows(console, rows, arguments.limit)


if __name__ == "__main__":
    command.run(main, "show")
