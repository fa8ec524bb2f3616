"""Records packed for the page: deflated JSON in base64, in chunks.

The page inflates the chunk that it needs, and nothing that a model or a user wrote can be taken
for markup.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mpd.scoring.token_records import ids_of
from mpd.text.token_texts import token_texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Records = Sequence[tuple[int, dict[str, Any]]]  # number of a line, and its record

CHUNK_CHARACTERS = 250_000  # of JSON


class Chunk(NamedTuple):
    """Numbers of lines, and their packed records in the same order."""

    lines: list[int]
    packed: str


def as_json(value: Any) -> str:
    """Compact JSON. Raises ValueError where a number is NaN or infinite."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def deflated(text: str) -> str:
    """JSON, deflated, in base64: nothing but letters, digits, +, / and =."""
    return base64.b64encode(zlib.compress(text.encode(), wbits=-15)).decode()


def chunks_of(records: Records, budget: int, tokenizer: "Tokenizer | None" = None) -> list[Chunk]:
    """The first records in chunks, as many as fit in `budget` bytes.

    A chunk is {"records": [...], "texts": {...}}; `texts` are those of the token ids in its
    records, and empty without a tokenizer.
    """
    chunks: list[Chunk] = []
    for part in _parts(records):
        lines, part_records, texts = zip(*part, strict=True)
        ids = [] if tokenizer is None else ids_of(part_records)
        id_texts = {} if tokenizer is None else token_texts(tokenizer, ids)
        chunk = Chunk(
            list(lines), deflated(f'{{"records":[{",".join(texts)}],"texts":{as_json(id_texts)}}}')
        )
        budget -= len(chunk.packed)
        if budget < 0:
            break
        chunks.append(chunk)
    return chunks


def _parts(records: Records) -> Iterator[list[tuple[int, dict[str, Any], str]]]:
    """Numbers of lines, their records, and these as JSON, in parts of about CHUNK_CHARACTERS."""
    part: list[tuple[int, dict[str, Any], str]] = []
    size = 0
    for line, record in records:
        text = as_json(record)
        part.append((line, record, text))
        size += len(text)
        if size >= CHUNK_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part
