"""The data of the trajectory browser as they stand in the report: reads the rounds, packs.

All data stand in the page as deflated JSON in base64, in chunks: the page inflates what is
looked at, and nothing that a model or a user wrote can be taken for markup. A content policy
lets its script run and no other, and nothing be fetched. The section stays under about 26 MB.
"""

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from mpd.report import browser
from mpd.scoring.token_records import ids_of, token_record
from mpd.store import schema, table
from mpd.text.token_texts import token_texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Rounds = Sequence[tuple[Mapping[str, Any], Mapping[str, list[Path]]]]  # place and files by kind
Records = list[tuple[int, dict[str, Any]]]  # number of a line, and its record

TEXT_BYTES, TOKEN_BYTES = 8_000_000, 9_000_000  # in the page, in base64
CHUNK_CHARACTERS = 250_000  # of JSON
NUM_PROBED, PROBED_TOKENS = 256, 200_000  # lines that are packed to see how much others will take


class Counts(NamedTuple):
    """How many rewrites there are; and of these, as texts, how many the page holds, and what of."""

    rewrites: int
    listed: str
    texts: str
    tokens: str


class Section(NamedTuple):
    """Packed data by name, and how much of all they hold; none where no round was trained."""

    counts: Counts
    blocks: Mapping[str, str]


class Chunk(NamedTuple):
    """Numbers of lines, and their packed records in the same order."""

    lines: list[int]
    packed: str


def section(
    experiment: str, rounds: Rounds, problems: pl.DataFrame, tokenizer: "Tokenizer"
) -> Section:
    """The browser of all rounds; `problems` are the training problems, `rounds` trained ones."""
    lines = read_lines(rounds)
    if lines.is_empty():
        return Section(Counts(0, "every one", "all", "all"), {})
    taken = browser.in_turn(browser.with_solved(lines)).head(browser.MAX_LINES)
    listed = taken.with_row_index("turn").sort("method", "round", "seed", *browser.KEY)
    taken = listed.with_row_index("line").sort("turn")
    texts = sampled(
        taken,
        browser.text_cost(),
        TEXT_BYTES,
        lambda chosen: packed(read_texts(rounds, chosen, problems), TEXT_BYTES),
    )
    with_texts = pl.Series([line for chunk in texts for line in chunk.lines], dtype=pl.UInt32)
    tokens = sampled(
        taken.filter(pl.col("scored") & pl.col("line").is_in(with_texts.implode())),
        browser.token_cost(),
        TOKEN_BYTES,
        lambda chosen: packed(read_tokens(rounds, chosen), TOKEN_BYTES, tokenizer),
    )
    index = {
        **browser.index(listed, problems, experiment),
        "texts": [chunk.lines for chunk in texts],
        "tokens": [chunk.lines for chunk in tokens],
    }
    blocks = {
        "index": pack(encoded(index)),
        **{f"texts-{number}": chunk.packed for number, chunk in enumerate(texts)},
        **{f"tokens-{number}": chunk.packed for number, chunk in enumerate(tokens)},
    }
    counts = Counts(
        rewrites=len(lines),
        listed="every one" if len(listed) == len(lines) else f"{len(listed):,}",
        texts=share_of(texts, len(lines)),
        tokens=share_of(tokens, len(lines.filter("scored"))),
    )
    return Section(counts, blocks)


def sampled(
    lines: pl.DataFrame, cost: pl.Expr, budget: int, made: Callable[[pl.DataFrame], list[Chunk]]
) -> list[Chunk]:
    """Chunks of the first lines, as many as the budget allows.

    What a line takes is known once it is packed; a few are, and tell for all others what their cost
    is in bytes, so that no more is read than fits.
    """
    few = made(lines.head(NUM_PROBED).filter(cost.cum_sum() - cost < PROBED_TOKENS))
    held = pl.Series([line for chunk in few for line in chunk.lines], dtype=pl.UInt32)
    expected = lines.filter(pl.col("line").is_in(held.implode())).select(cost.sum()).item()
    if not expected:
        return []
    taken = sum(len(chunk.packed) for chunk in few)
    return made(browser.within(lines, cost * (taken / expected), budget))


def read_lines(rounds: Rounds) -> pl.DataFrame:
    """The lines of all rounds; an empty frame where there is none."""
    found = []
    for place, paths in rounds:
        for verdicts, cache in zip(paths["filter"], paths["logits"], strict=True):
            # A cache without rows may have no row group either; the empty frame has the columns.
            groups = [
                table.frame_of([], schema.LOGITS),
                *table.groups(cache, browser.SCORE_COLUMNS),
            ]
            scores = pl.concat(browser.scores_of(group) for group in groups)
            rows = table.read_columns(verdicts, browser.FILTER_COLUMNS)
            found.append(browser.lines_of(place, rows, scores))
    return pl.concat(found) if found else pl.DataFrame()


def read_texts(rounds: Rounds, chosen: pl.DataFrame, problems: pl.DataFrame) -> Records:
    """The text records of the chosen lines, in their order."""
    questions = problems.select("problem_id", "question")
    records = []
    for own, paths in _by_shard(rounds, chosen, ("sample", "compress", "filter")):
        keys, samples = own.select(browser.KEY), own.select("sample_id").unique()
        rows = own.select("turn", "line", "problem_id", *browser.KEY)
        for path, columns, on in (
            (paths["compress"], browser.COMPRESS_COLUMNS, keys),
            (paths["filter"], browser.ANSWER_COLUMNS, keys),
            (paths["sample"], browser.SAMPLE_COLUMNS, samples),
        ):
            found = pl.concat(table.groups(path, columns, on))
            if "finish_reason" in columns:
                found = found.rename({"text": "sample_text"})
            rows = rows.join(found, on=on.columns, how="left", maintain_order="left")
        rows = rows.join(questions, on="problem_id", how="left", maintain_order="left")
        records += [(row["turn"], row["line"], browser.text_record(row)) for row in rows.to_dicts()]
    return _in_order(records)


def read_tokens(rounds: Rounds, chosen: pl.DataFrame) -> Records:
    """The token records of the chosen lines, in their order."""
    records = []
    for own, paths in _by_shard(rounds, chosen, ("logits",)):
        keys = own.select(browser.KEY)
        for group in table.groups(paths["logits"], browser.LOGITS_COLUMNS, keys):
            rows = group.join(own.select("turn", "line", *browser.KEY), on=browser.KEY)
            records += [
                (row["turn"], row["line"], token_record(row)) for row in rows.iter_rows(named=True)
            ]
    return _in_order(records)


def _by_shard(
    rounds: Rounds, chosen: pl.DataFrame, stages: Sequence[str]
) -> Iterator[tuple[pl.DataFrame, dict[str, Path]]]:
    """For each shard that holds some, the chosen lines of it, and its files."""
    for place, paths in rounds:
        of_round = chosen.filter(*(pl.col(name) == place[name] for name in browser.BRANCH))
        for shard in zip(*(paths[stage] for stage in stages), strict=True):
            keys = of_round.select(browser.KEY)
            held = list(table.groups(shard[-1], browser.KEY, keys))
            if held:
                own = of_round.join(pl.concat(held), on=browser.KEY, how="semi")
                yield own, dict(zip(stages, shard, strict=True))


def _in_order(records: list[tuple[int, int, dict[str, Any]]]) -> Records:
    return [(line, record) for _, line, record in sorted(records, key=lambda found: found[0])]


def encoded(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def pack(text: str) -> str:
    """JSON, deflated, in base64: letters, digits, +, / and = alone."""
    return base64.b64encode(zlib.compress(text.encode(), wbits=-15)).decode()


def packed(records: Records, budget: int, tokenizer: "Tokenizer | None" = None) -> list[Chunk]:
    """Records in chunks, those of the front as far as `budget` bytes go.

    A chunk is {"records": [...], "texts": {...}}: the texts of its token ids, with a tokenizer.
    """
    chunks: list[Chunk] = []
    for part in _parts(records):
        lines, own, texts = zip(*part, strict=True)
        ids = [] if tokenizer is None else ids_of(own)
        named = {} if tokenizer is None else token_texts(tokenizer, ids)
        chunk = Chunk(
            list(lines), pack(f'{{"records":[{",".join(texts)}],"texts":{encoded(named)}}}')
        )
        budget -= len(chunk.packed)
        if budget < 0:
            break
        chunks.append(chunk)
    return chunks


def _parts(records: Records) -> Iterator[list[tuple[int, dict[str, Any], str]]]:
    """Numbers of lines, their records, and these as JSON, of about the size of a chunk."""
    part: list[tuple[int, dict[str, Any], str]] = []
    size = 0
    for line, record in records:
        text = encoded(record)
        part.append((line, record, text))
        size += len(text)
        if size >= CHUNK_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


def share_of(chunks: list[Chunk], whole: int) -> str:
    """How many lines the chunks hold, of so many."""
    held = sum(len(chunk.lines) for chunk in chunks)
    return "all" if held == whole else f"{held:,} of {whole:,}"
