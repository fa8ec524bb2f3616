"""The data of the trajectory browser, read from the rounds and packed for the page.

A content policy lets the script of the page run and no other, and lets nothing be fetched, so that
all data are in the page, about 19 MB at most.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from mpd.report import browser
from mpd.report.browser_packing import Chunk, Records, as_json, chunks_of, deflated
from mpd.report.rounds import Trained
from mpd.scoring.token_records import token_record
from mpd.store import schema, table
from mpd.store.joins import joined

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEXT_BYTES, TOKEN_BYTES = 7_000_000, 8_000_000  # in the page, in base64
NUM_PROBED, PROBED_TOKENS = 256, 200_000  # lines that are packed to see how much others will take


class Counts(NamedTuple):
    """The number of rewrites; and as texts, how many of them the page lists and has data of."""

    rewrites: int
    listed: str
    texts: str
    tokens: str


class BrowserData(NamedTuple):
    """Packed data by name, empty where no round was trained, and how much of all they hold."""

    counts: Counts
    blocks: dict[str, str]


def browser_data(
    experiment: str, trained: Trained, problems: pl.DataFrame, tokenizer: "Tokenizer"
) -> BrowserData:
    """The data of all rounds that were trained; `problems` are the training problems."""
    lines = read_lines(trained)
    if lines.is_empty():
        return BrowserData(Counts(0, "all", "all", "all"), {})
    ordered = browser.in_turn(browser.with_solved(lines)).head(browser.MAX_LINES)
    listed = ordered.with_row_index("turn").sort("method", "round", "seed", *browser.KEY)
    ordered = listed.with_row_index("line").sort("turn")
    texts = sampled(
        ordered,
        browser.text_cost(),
        TEXT_BYTES,
        lambda lines: chunks_of(read_texts(trained, lines, problems), TEXT_BYTES),
    )
    with_texts = pl.Series([line for chunk in texts for line in chunk.lines], dtype=pl.UInt32)
    tokens = sampled(
        ordered.filter(pl.col("scored") & pl.col("line").is_in(with_texts.implode())),
        browser.token_cost(),
        TOKEN_BYTES,
        lambda lines: chunks_of(read_tokens(trained, lines), TOKEN_BYTES, tokenizer),
    )
    index = {
        **browser.index_of(listed, problems, experiment),
        "texts": [chunk.lines for chunk in texts],
        "tokens": [chunk.lines for chunk in tokens],
    }
    blocks = {
        "index": deflated(as_json(index)),
        **{f"texts-{number}": chunk.packed for number, chunk in enumerate(texts)},
        **{f"tokens-{number}": chunk.packed for number, chunk in enumerate(tokens)},
    }
    counts = Counts(
        rewrites=len(lines),
        listed=share_of(len(listed), len(lines)),
        texts=share_of(sum(len(chunk.lines) for chunk in texts), len(lines)),
        tokens=share_of(sum(len(chunk.lines) for chunk in tokens), len(lines.filter("scored"))),
    )
    return BrowserData(counts, blocks)


def sampled(
    lines: pl.DataFrame, cost: pl.Expr, budget: int, pack_lines: Callable[[Any], list[Chunk]]
) -> list[Chunk]:
    """Chunks of the first lines, as many as the budget in bytes allows.

    How many bytes a line takes is known only once it is packed. A few lines are packed first, and
    tell how many bytes a unit of `cost` takes, so that not much more is read than fits.
    """
    probe = pack_lines(lines.head(NUM_PROBED).filter(cost.cum_sum() - cost < PROBED_TOKENS))
    probed = pl.Series([line for chunk in probe for line in chunk.lines], dtype=pl.UInt32)
    probed_cost = lines.filter(pl.col("line").is_in(probed.implode())).select(cost.sum()).item()
    if not probed_cost:
        return []
    num_bytes = sum(len(chunk.packed) for chunk in probe)
    return pack_lines(browser.within(lines, cost * (num_bytes / probed_cost), budget))


def share_of(number: int, total: int) -> str:
    """How many there are of a total, as text: all, or 2 of 3."""
    return "all" if number == total else f"{number:,} of {total:,}"


def read_lines(trained: Trained) -> pl.DataFrame:
    """The lines of all rounds; an empty frame where there is none."""
    frames = []
    for round, files in trained.items():
        for verdicts, cache in zip(files["filter"], files["logits"], strict=True):
            # A cache without rows may have no row group either; the empty frame has the columns.
            groups = [
                table.frame_of([], schema.LOGITS),
                *table.groups(cache, browser.SCORE_COLUMNS),
            ]
            scores = pl.concat(browser.scores_of(group) for group in groups)
            rows = table.read_columns(verdicts, browser.LINE_COLUMNS)
            frames.append(browser.lines_of(round.place, rows, scores))
    return pl.concat(frames) if frames else pl.DataFrame()


def read_texts(trained: Trained, lines: pl.DataFrame, problems: pl.DataFrame) -> Records:
    """The text records of some lines, in their order."""
    questions = problems.select("problem_id", "question")
    records = []
    for shard_lines, files in _by_shard(trained, lines, ("sample", "compress", "filter")):
        rows = shard_lines.select("turn", "line", "problem_id", *browser.KEY)
        for artifact, columns in browser.TEXT_COLUMNS.items():
            keys = shard_lines.select(artifact.key).unique()
            others = pl.concat(table.groups(files[artifact.name], columns, keys))
            if artifact is schema.SAMPLE:
                others = others.rename({"text": "sample_text"})
            rows = joined(rows, others, artifact)
        rows = joined(rows, questions, schema.PROBLEMS)
        records += [(row["turn"], row["line"], browser.text_record(row)) for row in rows.to_dicts()]
    return _in_order(records)


def read_tokens(trained: Trained, lines: pl.DataFrame) -> Records:
    """The token records of some lines, in their order."""
    records = []
    for shard_lines, files in _by_shard(trained, lines, ("logits",)):
        keys = shard_lines.select(browser.KEY)
        numbers = shard_lines.select("turn", "line", *browser.KEY)
        for group in table.groups(files["logits"], browser.TOKEN_COLUMNS, keys):
            records += [
                (row["turn"], row["line"], token_record(row))
                for row in joined(group, numbers, schema.LOGITS).iter_rows(named=True)
            ]
    return _in_order(records)


def _by_shard(
    trained: Trained, lines: pl.DataFrame, stages: Sequence[str]
) -> Iterator[tuple[pl.DataFrame, dict[str, Path]]]:
    """The lines of each shard that has some of them, and the shard's file of each stage."""
    for round, files in trained.items():
        round_lines = lines.filter(
            *(pl.col(name) == round.place[name] for name in browser.ROUND_COLUMNS)
        )
        for shard in zip(*(files[stage] for stage in stages), strict=True):
            keys = list(table.groups(shard[-1], browser.KEY, round_lines.select(browser.KEY)))
            if keys:
                shard_lines = round_lines.join(pl.concat(keys), on=browser.KEY, how="semi")
                yield shard_lines, dict(zip(stages, shard, strict=True))


def _in_order(records: list[tuple[int, int, dict[str, Any]]]) -> Records:
    return [(line, record) for _, line, record in sorted(records, key=lambda item: item[0])]
