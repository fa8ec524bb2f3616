"""Look at one trajectory through the stages, or list the rows of a round with their verdicts.

python -m mpd.show results/tiny/mpd/seed_0/round_1
python -m mpd.show results/tiny/mpd/seed_0/round_1 --reason wrong_answer
python -m mpd.show results/tiny/mpd/seed_0/round_1 --sample 0a1b2c3d4e5f6071-0
python -m mpd.show results/tiny/mpd/seed_0/round_1 --sample 0a1b2c3d4e5f6071-0 --tokens
"""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mpd.job import command
from mpd.show.tokens import token_table
from mpd.store import schema, table
from mpd.text.marks import marked

STAGES = (schema.COMPRESS, schema.FILTER, schema.LOGITS)
PLAIN_WIDTH = 110  # where the output is no terminal
# What a model wrote could otherwise move the cursor, or rename the window.
CONTROLS = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
SIDE_BY_SIDE = 120  # from this width on, a trajectory and its rewrites stand beside each other


class Round:
    """The shards of a round, as far as its stages have run."""

    def __init__(self, folder: Path) -> None:
        """Raises ValueError where `folder` is no round."""
        self.folder = folder
        self.experiment = (folder / "../../..").resolve()
        self.train = self.experiment / "problems" / "train"
        self.shards = sorted(path.name for path in self.train.glob("shard_*.parquet"))
        if not self.shards or not (folder / "sample").is_dir():
            raise ValueError(
                f"{folder}: not a round; give results/<experiment>/<method>/seed_<n>/round_<n>"
            )

    def files(self, artifact: schema.Artifact) -> list[Path]:
        """The shards of a stage that are there."""
        home = self.train if artifact is schema.PROBLEMS else self.folder / artifact.name
        return [home / name for name in self.shards if (home / name).is_file()]

    def read(self, artifact: schema.Artifact) -> pl.DataFrame:
        """The rows of a stage in all shards that are there, their texts without control signs."""
        parts = (table.read(path, artifact) for path in self.files(artifact))
        return _without_controls(pl.concat([table.frame_of([], artifact), *parts]))

    def of_sample(self, artifact: schema.Artifact, sample_id: str) -> list[dict[str, Any]]:
        """The rows of one sample. Others are not held: a cache may be larger than the memory."""
        key = pl.DataFrame({"sample_id": [sample_id]})
        found = [table.frame_of([], artifact)]
        for path in self.files(artifact):
            table.check(path, artifact)
            found += table.groups(path, artifact.names, key)
        return _without_controls(pl.concat(found)).to_dicts()

    def unfinished(self) -> str:
        """The stages that have not run, or not on every shard; empty where all have."""
        counts = {stage.name: len(self.files(stage)) for stage in (schema.SAMPLE, *STAGES)}
        total = len(self.shards)
        return ", ".join(
            name if not count else f"{name} ({count} of {total} shards)"
            for name, count in counts.items()
            if count < total
        )


def _without_controls(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col(pl.String).str.replace_all(CONTROLS, "\ufffd"))


def listed(of: Round) -> pl.DataFrame:
    """One row for each candidate with its verdict; what has not run yet is null."""
    samples = of.read(schema.SAMPLE).select("sample_id", pl.col("num_tokens").alias("sampled"))
    candidates = of.read(schema.COMPRESS).select("sample_id", "candidate", "num_tokens", "status")
    verdicts = of.read(schema.FILTER).select(
        "sample_id", "candidate", "ratio", "answer", "gold", "keep", "reason"
    )
    key = ["sample_id", "candidate"]
    return samples.join(candidates, "sample_id", "left", maintain_order="left").join(
        verdicts, key, "left", maintain_order="left"
    )


def print_rows(console: Console, rows: pl.DataFrame, reason: str | None, limit: int) -> None:
    """List candidates with their verdicts. Raises ValueError where none has the reason."""
    counts = rows.drop_nulls("reason")["reason"].value_counts(sort=True).rows()
    said = ", ".join(f"{count} {name}" for name, count in counts)
    if reason is not None:
        if reason not in dict(counts):
            raise ValueError(f"--reason {reason}: no row has it; there are {said or 'no verdicts'}")
        rows = rows.filter(pl.col("reason") == reason)
        said = f"{len(rows)} {reason}"
    if said:
        console.print(said, highlight=False)
    shown = Table(box=None)
    for name in ("sample", "candidate", "tokens", "rewrite", "ratio", "answer", "gold", "reason"):
        shown.add_column(name, no_wrap=True)
    for row in rows.head(limit).iter_rows(named=True):
        known = row["reason"] is not None
        shown.add_row(
            row["sample_id"],
            _text(row["candidate"]),
            _text(row["sampled"]),
            _text(row["num_tokens"] or None),
            "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
            Text(_text(row["answer"])),
            Text(_text(row["gold"])),
            Text(row["reason"], "green" if row["keep"] else "red") if known else Text("-"),
        )
    console.print(shown)
    if len(rows) > limit:
        console.print(f"{len(rows) - limit} more; --limit {len(rows)} lists all")


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def print_sample(console: Console, of: Round, sample_id: str, tokens: bool) -> None:
    """Print problem, trajectory, rewrites with verdicts, and the cached scores of a sample.

    With `tokens`, the scores of every token in place of the texts. Raises ValueError where the
    round has no such sample, or its tokens are not cached.
    """
    samples = of.of_sample(schema.SAMPLE, sample_id)
    if not samples:
        raise ValueError(f"{of.folder}: no sample {sample_id}; run without --sample to list them")
    (sample,) = samples
    problems = of.read(schema.PROBLEMS)
    problem = problems.row(by_predicate=pl.col("problem_id") == sample["problem_id"], named=True)
    rewrites = of.of_sample(schema.COMPRESS, sample_id)
    verdicts = {row["candidate"]: row for row in of.of_sample(schema.FILTER, sample_id)}
    cached = of.of_sample(schema.LOGITS, sample_id)
    # Titles are texts: in a plain string a gold answer such as [1] would be read as a style.
    console.print(Panel(Text(problem["question"]), title=Text(f"problem, gold {problem['gold']}")))
    if tokens and not cached:
        reasons = ", ".join(row["reason"] for row in verdicts.values()) or "no verdict yet"
        raise ValueError(f"{sample_id}: no tokens are cached; filter says: {reasons}")
    if not tokens:
        texts = _panels(sample, rewrites, verdicts)
        console.print(_beside(*texts) if console.width >= SIDE_BY_SIDE else Group(*texts))
    for row in cached:
        if tokens:
            console.print(token_table(row, of.experiment / "models" / "teacher"))
        console.print(_scores(row), highlight=False)
    if of.unfinished():
        console.print(f"not run yet: {of.unfinished()}", highlight=False)


def _beside(trajectory: Panel, *rewrites: Panel) -> Table:
    beside = Table.grid(expand=True)
    beside.add_column(ratio=1)
    beside.add_column(ratio=1)
    beside.add_row(trajectory, Group(*rewrites))
    return beside


def _panels(
    sample: Mapping[str, Any],
    rewrites: Sequence[Mapping[str, Any]],
    verdicts: Mapping[int, Mapping[str, Any]],
) -> Iterator[Panel]:
    """The trajectory, in which what the kept or first rewrite cut is marked; then the rewrites."""
    heading = [f"sample: {sample['num_tokens']} tokens", sample["finish_reason"]]
    heading += [row["sample_verdict"] for row in verdicts.values()][:1]
    kept = [row for row in rewrites if verdicts.get(row["candidate"], {}).get("keep")]
    texts = [row["text"] for row in (*kept, *rewrites) if row["text"]]
    body = marked(sample["text"], texts[0], "red") if texts else Text(sample["text"])
    yield Panel(body, title=Text(", ".join(heading)))
    for rewrite in rewrites:
        yield _rewrite_panel(sample["text"], rewrite, verdicts.get(rewrite["candidate"]))


def _rewrite_panel(
    trajectory: str, rewrite: Mapping[str, Any], verdict: Mapping[str, Any] | None
) -> Panel:
    """A rewrite, in which what it adds is marked, with its verdict where there is one."""
    length = f"{rewrite['num_tokens']} tokens" if rewrite["num_tokens"] else rewrite["status"]
    title = f"rewrite {rewrite['candidate']}: {length}"
    if verdict and verdict["ratio"] is not None:
        title += f", ratio {verdict['ratio']:.2f}"
    text = rewrite["text"]
    return Panel(
        marked(text, trajectory, "green") if text else Text(rewrite["rewrite"] or ""),
        title=title,
        subtitle=f"{verdict['verdict']}: {verdict['reason']}" if verdict else None,
        border_style="none" if not verdict else "green" if verdict["keep"] else "red",
    )


def _scores(cached: Mapping[str, Any]) -> str:
    known = cached["divergence"]  # not where vLLM scored
    divergence = f"{sum(known) / len(known):.3f} nat per token" if known else "not computed"
    closing = cached["think_close_logprob"]
    end = "" if closing is None else f", end of thinking {closing:.3f}"
    return (
        f"teacher log-probability per token {cached['mean_teacher_logprob']:.3f}{end}, "
        f"stop {cached['stop_logprob']:.3f}; divergence of the student to it {divergence}"
    )


def _positive(text: str) -> int:
    """A number of the command line that is at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text}")
    return int(text)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m mpd.show", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("round", type=Path, help="folder of a round")
    parser.add_argument("--sample", help="sample_id to print; none: list the rows")
    parser.add_argument("--tokens", action="store_true", help="of a sample: the cache by token")
    parser.add_argument("--reason", help="list only rows with this reason")
    parser.add_argument("--limit", type=_positive, default=40, help="rows to list")
    arguments = parser.parse_args(argv)
    if arguments.tokens and not arguments.sample:
        raise ValueError("--tokens shows those of one sample; give --sample <id>")
    console = Console(width=None if Console().is_terminal else PLAIN_WIDTH)
    of = Round(arguments.round)
    # Colours, and no waiting where all fits on the screen.
    os.environ.setdefault("LESS", "FRX")
    with console.pager(styles=True) if console.is_terminal else nullcontext():
        if arguments.sample:
            print_sample(console, of, arguments.sample, arguments.tokens)
            return
        print_rows(console, listed(of), arguments.reason, arguments.limit)
        if of.unfinished():
            console.print(f"not run yet: {of.unfinished()}", highlight=False)


if __name__ == "__main__":
    command.view(main, "show")
