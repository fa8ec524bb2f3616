"""Size, speed and memory of the cache, against the naive layout and DistillKit's sizes.

    python benchmarks/cache.py --json

Rows are synthetic: ids and log-probabilities drawn so that they compress like those of a real
cache of a near student (benchmarks/fidelity.py has the bytes of real ones). Writing is the
writer of the stage, from tensors to the file; reading is from the file to renormalised supports.
Peak memory is that of a process of its own that writes and reads so many tokens in parts, above
what it needs for its imports.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from card import resident_megabytes
from rich.console import Console
from rich.table import Table

from mpd.scoring import cache
from mpd.store import schema, table
from mpd.store.row_groups import RowGroups
from mpd.text.completions import ids_digest
from mpd.training.batches import CachedRows

VOCABULARY, BUCKETS, ROW_TOKENS, ROWS_PER_PART = 49_152, 16, 250, 40
MEAN_ENTRIES = 13.0
CANDIDATES = 64
# Configurations that DistillKit's README documents: k, exact log-probabilities, their bytes,
# polynomial terms of 4 bytes. Its ids take as many bits as the vocabulary needs.
DISTILLKIT = {
    "recommended": (128, 16, 2, 6),
    "budget": (50, 1, 2, 3),
    "quick start": (128, 32, 4, 3),
}


def documented_bytes(k: int, num_exact: int, exact_bytes: int, num_terms: int) -> int:
    """Bytes per token of a configuration of DistillKit at this vocabulary."""
    id_bits = (VOCABULARY - 1).bit_length()
    return math.ceil(k * id_bits / 8) + num_exact * exact_bytes + 4 * num_terms


def scores(
    count: int, generator: torch.Generator, vocabulary: int = VOCABULARY
) -> dict[str, torch.Tensor]:
    """Synthetic scores of positions, as mpd.scoring.support.score returns them."""
    sizes = torch.empty(count).exponential_(1 / MEAN_ENTRIES, generator=generator)
    kept = torch.arange(CANDIDATES)[None] < sizes.clamp(max=CANDIDATES)[:, None]
    spread = torch.rand(count, CANDIDATES, generator=generator)
    # Byte-pair ids are ranked by frequency: probable ids are more often small.
    ids = (vocabulary ** torch.rand(count, CANDIDATES, generator=generator).sqrt()).long()
    falling = torch.log1p(torch.arange(CANDIDATES)) * 1.5
    single = torch.rand(count, generator=generator)
    return {
        "candidates": ids.clamp(max=vocabulary - 1),
        "kept": kept,
        "logprobs": -(falling[None] + 2 * spread + 0.5),
        "tail_logprobs": -4 - 8 * torch.rand(count, BUCKETS, generator=generator),
        "realised_logprob": -single,
        "control_logprobs": -5 - 10 * single[:, None],
        "student_logprob": -1.1 * single,
        "divergence": 0.1 * single,
        "teacher_entropy": 2 * single,
        "overlap": single,
        "teacher_mass": single,
        "student_mass": single,
    }


def cached_frame(
    rows: Sequence[tuple[list[int], list[int]]],
    scored: dict[str, torch.Tensor],
    control: list[int],
    first: int = 0,
) -> pl.DataFrame:
    """A part of the cache of prompts and completions, from the scores of their positions."""
    prompts, completions = zip(*rows, strict=True)
    lengths = [len(completion) for completion in completions]
    integers, count = pl.List(pl.Int32), len(rows)
    keys = pl.DataFrame(
        {
            "sample_id": [str(first + number) for number in range(count)],
            "candidate": pl.Series([0] * count, dtype=pl.Int32),
            "prompt_ids": pl.Series(prompts, dtype=integers),
            "completion_ids": pl.Series(completions, dtype=integers),
            "num_tokens": pl.Series(lengths, dtype=pl.Int32),
            "ids_digest": [ids_digest(*row) for row in rows],
            "control_ids": pl.Series([control] * count, dtype=integers),
            "mean_teacher_logprob": [0.0] * count,
            "stop_logprob": [0.0] * count,
        }
    )
    frame = keys.with_columns(cache.encode(scored, lengths))
    return cache.complete_columns(frame)


def synthetic_frame(
    rows: Sequence[tuple[list[int], list[int]]],
    first: int = 0,
    seed: int = 0,
    vocabulary: int = VOCABULARY,
) -> pl.DataFrame:
    """A part of the cache with synthetic scores."""
    count = sum(len(completion) for _, completion in rows)
    scored = scores(count, torch.Generator().manual_seed(seed), vocabulary)
    return cached_frame(rows, scored, [2], first)


def frame(num_rows: int, first: int) -> pl.DataFrame:
    """A part of the cache, of random ids."""
    generator = torch.Generator().manual_seed(first)
    shape = num_rows, ROW_TOKENS
    completions = torch.randint(VOCABULARY, shape, generator=generator).tolist()
    return synthetic_frame([(list(range(60)), ids) for ids in completions], first, first)


def write(folder: Path, num_tokens: int) -> tuple[Path, float]:
    """Write parts and put them together, as the stage does; seconds without making the rows."""
    parts, seconds, num_rows = [], 0.0, num_tokens // ROW_TOKENS
    for first in range(0, num_rows, ROWS_PER_PART):
        part = frame(min(ROWS_PER_PART, num_rows - first), first)
        parts.append(folder / f"part_{first}.parquet")
        start = time.monotonic()
        table.write(parts[-1], part, schema.LOGITS, {})
        seconds += time.monotonic() - start
    start = time.monotonic()
    path = folder / "shard_0.parquet"
    table.concatenate(path, parts, schema.LOGITS, {})
    return path, seconds + time.monotonic() - start


def read(path: Path) -> float:
    """Decode every row group; seconds."""
    cached = CachedRows([path])
    start = time.monotonic()
    for number in range(len(cached.groups)):
        cached.decoded(number)
    return time.monotonic() - start


def naive_bytes(num_tokens: int, folder: Path) -> float:
    """Bytes per token of the teacher's top 64 as int32 and float16, stored without thought."""
    generator = np.random.default_rng(0)
    ids = generator.integers(VOCABULARY, size=(num_tokens, 64), dtype=np.int32)
    logprobs = generator.random((num_tokens, 64)).astype(np.float16)
    columns = {"ids": list(ids), "logprobs": list(logprobs)}
    path = folder / "naive.parquet"
    pq.write_table(pa.table(columns), path, compression="none", use_dictionary=False)
    return path.stat().st_size / num_tokens


def seconds_compared(path: Path, repeats: int) -> float:
    """Seconds that comparing a file with its checksums adds to reading its row groups."""
    checked, plain = RowGroups(path), pq.ParquetFile(path)
    differences = []
    for _ in range(repeats):
        start = time.perf_counter()
        for group in range(checked.num_groups):
            checked.read(group)
        between = time.perf_counter()
        for group in range(checked.num_groups):
            plain.read_row_group(group)
        differences.append(2 * between - start - time.perf_counter())
    return statistics.median(differences)


def peak(num_tokens: int) -> float:
    """Peak memory in MB of a process that writes and reads so many tokens, above its start."""
    command = [sys.executable, __file__, "--peak", str(num_tokens)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--num-tokens", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="a last line of JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    results = Path("results").absolute()
    results.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=results) as name:
        folder = Path(name)
        if arguments.peak:
            start = resident_megabytes()
            read(write(folder, arguments.peak)[0])
            print(resident_megabytes() - start)
            return
        runs = [write(folder, arguments.num_tokens) for _ in range(arguments.repeats)]
        path = runs[0][0]
        size = path.stat().st_size / arguments.num_tokens
        entries = CachedRows([path]).decoded(0)
        per_token = len(entries.entry_ids) / len(entries.realised)
        written = arguments.num_tokens / statistics.median(seconds for _, seconds in runs)
        seconds = [read(path) for _ in range(arguments.repeats)]
        decoded = arguments.num_tokens / statistics.median(seconds)
        compared = seconds_compared(path, arguments.repeats) / statistics.median(seconds)
        naive = naive_bytes(20_000, folder)
    shown = Table("layout", "entries", "bytes/token", box=None)
    shown.add_row("this cache, union", f"{per_token:.1f} + {BUCKETS} tails", f"{size:.1f}")
    shown.add_row("top 64, int32 and float16", "64", f"{naive:.1f}")
    for name, of in DISTILLKIT.items():
        shown.add_row(f"DistillKit, {name}", f"{of[0]}", str(documented_bytes(*of)))
    Console(width=100).print(shown)
    print(f"written: {written:,.0f} tokens/s, read and decoded: {decoded:,.0f} tokens/s, one core")
    print(f"of reading and decoding, comparing checksums takes {compared:.1%}")
    peaks = {count: peak(count) for count in (10_000, 1_000_000)}
    for count, megabytes in peaks.items():
        print(f"peak memory at {count:,} tokens: {megabytes:.0f} MB above the imports")
    if arguments.json:
        result = {
            "bytes_per_token": round(size, 1),
            "decode_tokens_per_second": round(decoded),
            "write_tokens_per_second": round(written),
            "peak_mb_10k": round(peaks[10_000]),
            "peak_mb_1m": round(peaks[1_000_000]),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
