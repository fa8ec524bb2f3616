"""One trajectory through the stages: its problem, its rewrites with verdicts, and its scores."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mpd.show.shards import RoundShards
from mpd.show.tokens import token_table
from mpd.store import schema
from mpd.store.joins import joined
from mpd.text.marks import marked

SIDE_BY_SIDE = 120  # columns from which on a trajectory stands beside its rewrites
VERDICT_COLUMNS = ["sample_id", "candidate", "sample_verdict", "verdict", "ratio", "keep", "reason"]


def print_sample(console: Console, shards: RoundShards, sample_id: str, tokens: bool) -> None:
    """Print problem, trajectory, rewrites with verdicts, and the cached scores of a sample.

    With `tokens`, the scores of every token in place of the texts. Raises ValueError where the
    round has no such sample, or its tokens are not cached.
    """
    key = pl.DataFrame({"sample_id": [sample_id]})
    samples = shards.rows(schema.SAMPLE, keys=key)
    if samples.is_empty():
        raise ValueError(
            f"{shards.round.folder}: no sample {sample_id}; run without --sample to list them"
        )
    problems = shards.rows(schema.PROBLEMS, keys=samples.select("problem_id"))
    verdicts = shards.rows(schema.FILTER, VERDICT_COLUMNS, key)
    rewrites = joined(shards.rows(schema.COMPRESS, keys=key), verdicts, schema.FILTER).to_dicts()
    cached = shards.rows(schema.LOGITS, keys=key).to_dicts()
    problem = problems.row(0, named=True)
    # Titles are texts: in a plain string a gold answer such as [1] would be read as a style.
    console.print(Panel(Text(problem["question"]), title=Text(f"problem, gold {problem['gold']}")))
    if tokens and not cached:
        reasons = ", ".join(row["reason"] for row in rewrites if row["reason"]) or "none yet"
        raise ValueError(f"{sample_id}: no tokens are cached; verdict of filter: {reasons}")
    if not tokens:
        panels = _panels(samples.row(0, named=True), rewrites)
        console.print(_beside(*panels) if console.width >= SIDE_BY_SIDE else Group(*panels))
    for row in cached:
        if tokens:
            console.print(token_table(row, shards.round.experiment.teacher))
        console.print(_scores(row), highlight=False)


def _beside(trajectory: Panel, *rewrites: Panel) -> Table:
    beside = Table.grid(expand=True)
    beside.add_column(ratio=1)
    beside.add_column(ratio=1)
    beside.add_row(trajectory, Group(*rewrites))
    return beside


def _panels(sample: Mapping[str, Any], rewrites: Sequence[Mapping[str, Any]]) -> Iterator[Panel]:
    """The trajectory, with marks on what the kept or first rewrite cut; then the rewrites."""
    heading = [f"sample: {sample['num_tokens']} tokens", sample["finish_reason"]]
    heading += [row["sample_verdict"] for row in rewrites if row["sample_verdict"]][:1]
    kept = [row for row in rewrites if row["keep"]]
    texts = [row["text"] for row in (*kept, *rewrites) if row["text"]]
    body = marked(sample["text"], texts[0], "red") if texts else Text(sample["text"])
    yield Panel(body, title=Text(", ".join(heading)))
    for rewrite in rewrites:
        yield _rewrite_panel(sample["text"], rewrite)


def _rewrite_panel(trajectory: str, rewrite: Mapping[str, Any]) -> Panel:
    """A rewrite, with marks on what it adds, and with its verdict where there is one."""
    length = f"{rewrite['num_tokens']} tokens" if rewrite["num_tokens"] else rewrite["status"]
    title = f"rewrite {rewrite['candidate']}: {length}"
    if rewrite["ratio"] is not None:
        title += f", ratio {rewrite['ratio']:.2f}"
    text, reason = rewrite["text"], rewrite["reason"]
    return Panel(
        marked(text, trajectory, "green") if text else Text(rewrite["rewrite"] or ""),
        title=title,
        subtitle=f"{rewrite['verdict']}: {reason}" if reason else None,
        border_style="none" if not reason else "green" if rewrite["keep"] else "red",
    )


def _scores(cached: Mapping[str, Any]) -> str:
    known = cached["divergence"]  # vLLM gives none
    divergence = f"{sum(known) / len(known):.3f} nats per token" if known else "not computed"
    closing = cached["think_close_logprob"]
    end = "" if closing is None else f", end of thinking {closing:.3f}"
    return (
        f"teacher log-probability per token {cached['mean_teacher_logprob']:.3f}{end}, "
        f"stop {cached['stop_logprob']:.3f}; divergence {divergence}"
    )
