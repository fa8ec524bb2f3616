"""Peak memory and seconds of what works on rows, for few and for many of them.

    python benchmarks/scale.py
    python benchmarks/scale.py filter problems --sizes 1000 1000000

Each measurement is a process of its own, with its imports; memory is the highest sum over it and
the processes that it starts. Rows are short: questions of 25 words, samples of 60 tokens, rewrites
of 30, cached completions of 20, answers of 60 to problems of which each twentieth has a root.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import shapes
import synthetic_rows
from rich.console import Console
from rich.table import Table

from mpd.store import schema, table
from mpd.store.digests import digest_of

SIZES = [1_000, 100_000]
LARGE = {"problems": 1_000_000, "filter": 1_000_000}
POLL_SECONDS = 0.5
CACHE = """
import sys
from pathlib import Path
from mpd.training.batches import CachedRows
from mpd.training.cache_checks import require_ids
require_ids(Path(sys.argv[1]))
cached = CachedRows([Path(sys.argv[1])])
for start in cached.starts[:-1]:
    cached.place(start)
"""
STEPS = """
import sys
from pathlib import Path
from mpd.config.distill import DistillSettings
from mpd.training.batches import CachedRows, TrajectoryDataset
from mpd.training.steps import Limits, extent, plan_steps
cached = CachedRows([Path(sys.argv[1])])
settings = DistillSettings(epochs=3, batch_size=64, learning_rate=1e-3)
steps = plan_steps(cached.lengths, settings)
extent(steps)
TrajectoryDataset(cached, steps, settings).plan(Limits(32, 16_384), 1)
"""
REPORT = {
    "max_accuracy_drop": 0.0,
    "samplers": {"mpd": "student"},
    "contexts": {"mpd": "problem"},
    "max_new_tokens": {"dev": 256},
}


def stage(
    name: str, settings: dict[str, Any], folder: Path, output: str, **paths: Any
) -> list[str]:
    """The command line of a stage, with a store of its own."""
    command = [sys.executable, "-m", f"mpd.{name}", "--settings", json.dumps(settings)]
    command += ["--store", str(folder / "store"), "--output", str(folder / output)]
    for key, value in paths.items():
        command += [
            f"--{key.replace('_', '-')}",
            *map(str, value if isinstance(value, list) else [value]),
        ]
    return command


def problems(folder: Path, count: int) -> list[str]:
    """Training problems beside a benchmark of 1,000."""
    synthetic_rows.write_questions(folder / "questions.jsonl", count, 10_000)
    synthetic_rows.write_problems(folder / "benchmark.parquet", 1_000)
    source = {"path": str(folder / "questions.jsonl")}
    settings = {"train": source, "num_dev": 100, "num_shards": 4}
    output = "results/problems/train"
    return stage("problems", settings, folder, output, benchmarks=folder / "benchmark.parquet")


def write_student(folder: Path) -> Path:
    """The folder of a model of 1,000 tokens."""
    import random_models

    from mpd.store.model_folder import write_manifest

    student = random_models.write_model(folder / "student", "tiny", "float32")
    template = "{{ messages[0].content }}"
    (student / "chat_template.jinja").write_text(template, encoding="utf-8")
    write_manifest(student)
    return student


def given(folder: Path, count: int) -> list[str]:
    """Given trajectories, all of which belong to the shard."""
    student = write_student(folder)
    synthetic_rows.write_given(folder / "given.jsonl", count)
    synthetic_rows.write_problems(folder / "problems.parquet", -(-count // 4), are_named=True)
    settings = {"trajectories": str(folder / "given.jsonl")}
    settings["chat"] = {"open": "<think>", "close": "</think>"}
    paths = {"student": student / "manifest.json", "problems": folder / "problems.parquet"}
    return stage("sample", settings, folder, "sample.parquet", **paths)


def filtered(folder: Path, count: int) -> list[str]:
    """A shard of samples and rewrites whose answers are integers."""
    paths = synthetic_rows.write_shard(folder, count)
    return stage("filter", {"chat": {"close": "</think>"}}, folder, "filter.parquet", **paths)


def grading(folder: Path, count: int) -> list[str]:
    """Answers to a benchmark, every twentieth of which needs a comparison by mathematics."""
    student = write_student(folder)
    digest = json.loads((student / "manifest.json").read_text(encoding="utf-8"))["digest"]
    synthetic_rows.write_problems(folder / "problems.parquet", count, has_roots=True)
    asked = table.column_digest(folder / "problems.parquet", schema.PROBLEMS, schema.ASKED)
    identity = {"student": digest, "questions": asked}
    synthetic_rows.write_answers(folder / "answers.parquet", count, identity)
    settings = {"benchmarks": {"dev": {"max_new_tokens": 128}}, "chat": {"close": "</think>"}}
    paths = {name: f"dev={folder / name}.parquet" for name in ("problems", "answers")}
    manifest = student / "manifest.json"
    paths = {"benchmarks": paths["problems"], "answers": paths["answers"], "student": manifest}
    return stage("evaluate", settings, folder, "evaluate", **paths)


def cache(folder: Path, count: int) -> list[str]:
    """A cache, whose digests of ids are checked and whose row groups are decoded."""
    synthetic_rows.write_cache(folder / "cache.parquet", count)
    return [sys.executable, "-c", CACHE, str(folder / "cache.parquet")]


def steps(folder: Path, count: int) -> list[str]:
    """The steps and micro-batches of three epochs."""
    synthetic_rows.write_cache(folder / "cache.parquet", count)
    return [sys.executable, "-c", STEPS, str(folder / "cache.parquet")]


def report(folder: Path, count: int) -> list[str]:
    """The report on a round of so many trajectories, evaluated on as many problems."""
    results = folder / "results" / "scale"
    student = write_student(folder)
    rounds = [results / "base/seed_0/round_0", results / "mpd/seed_0/round_1"]
    train = results / "problems/train"
    train.mkdir(parents=True)
    problems = synthetic_rows.write_problems(train / "dev.parquet", count)
    for each in rounds:
        answers = synthetic_rows.write_answers(each / "answers/dev.parquet", count, {})
        identity = {"problems": problems, "answers": answers}
        synthetic_rows.write_evaluation(each / "evaluate/dev.parquet", count, identity)
    for name in ("sample", "compress", "filter", "logits", "student"):
        (rounds[1] / name).mkdir()
    shard = synthetic_rows.write_shard(folder, count)
    contents = {
        name: table.content_digest(path, getattr(schema, name.upper()))
        for name, path in shard.items()
    }
    shard["problems"].rename(train / "shard_0.parquet")
    for name in ("sample", "compress"):
        shard[name].rename(rounds[1] / name / "shard_0.parquet")
    verdicts = rounds[1] / "filter/shard_0.parquet"
    contents["filter"] = synthetic_rows.write_verdicts(verdicts, count, dict(contents))
    scored = synthetic_rows.write_cache(rounds[1] / "logits/shard_0.parquet", count, contents)
    metrics = rounds[1] / "student/metrics.parquet"
    synthetic_rows.write_metrics(metrics, count // 64 or 1, {"logits": digest_of([scored])})
    paths = {"rounds": rounds, "benchmarks": "dev", "num_shards": 1}
    paths |= {"problems": train / "shard_0.parquet", "student": student / "manifest.json"}
    return stage("report", REPORT, folder, "results/scale/report.html", **paths)


KINDS = {
    "problems": problems,
    "given": given,
    "filter": filtered,
    "grading": grading,
    "cache": cache,
    "steps": steps,
    "report": report,
}


def kilobytes(number: int, field: str) -> int:
    """A field of the status of a process, in kB; 0 once it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{number}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    return 0


def run(command: list[str], folder: Path, is_verbose: bool) -> dict[str, float]:
    """Seconds of the clock and of processors, and peak memory in MB, of a process and its own."""
    start, peak, before = time.monotonic(), 0, os.times()
    quiet = None if is_verbose else subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=folder) as process:
        while process.poll() is None:
            others = 0
            with suppress(psutil.Error):
                tree = psutil.Process(process.pid).children(recursive=True)
                others = sum(kilobytes(member.pid, "VmRSS:") for member in tree)
            alone = kilobytes(process.pid, "VmHWM:")
            peak = max(peak, alone, kilobytes(process.pid, "VmRSS:") + others)
            time.sleep(POLL_SECONDS)
    if process.returncode:
        raise SystemExit(f"{command[2]} ended with {process.returncode}; see why with --verbose")
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    seconds = time.monotonic() - start
    return {"seconds": round(seconds, 2), "cpu": round(cpu, 2), "mb": round(peak * 1024 / 1e6)}


def growth(rows: list[dict[str, Any]]) -> list[str]:
    """The exponents of processor time and memory between the last two sizes: 1 is linear."""
    if len(rows) < 2:
        return ["", ""]
    one, other = rows[-2:]
    ratio = math.log(other["rows"] / one["rows"])
    return [f"{math.log(other[key] / one[key]) / ratio:.2f}" for key in ("cpu", "mb")]


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every kind at every size."""
    columns = "", "rows", "s", "CPU s", "peak MB", "rows per CPU s", "exponent: CPU", "memory"
    shown = Table(*columns, "page MB", box=None)
    results: dict[str, list[dict[str, Any]]] = {}
    for kind in arguments.kinds or KINDS:
        sizes = arguments.sizes or [*SIZES, *([LARGE[kind]] if kind in LARGE else [])]
        results[kind] = []
        for count in sizes:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
                command = KINDS[kind](Path(name), count)
                row = {"rows": count, **run(command, Path(name), arguments.verbose)}
                page = Path(name) / "results/scale/report.html"
                if page.exists():
                    row["page_mb"] = round(page.stat().st_size / 1e6, 1)
            results[kind].append(row)
            cells = [kind, f"{count:,}", f"{row['seconds']:.1f}", f"{row['cpu']:.1f}"]
            cells += [f"{row['mb']:,}", f"{count / row['cpu']:,.0f}", *growth(results[kind])]
            shown.add_row(*cells, str(row.get("page_mb", "")))
            print(json.dumps({"kind": kind, **row}), flush=True)
    Console(width=100).print(shown)
    return {"name": "scale", **results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--sizes", type=int, nargs="+", help="rows; default: a set for each kind")
    parser.add_argument("--folder", type=Path, help="for files; default: a temporary one")
    parser.add_argument("--verbose", action="store_true")
    parser.set_defaults(device="cpu")
    shapes.run(parser, measure)


if __name__ == "__main__":
    main()
