"""The workflow of the embedded world, much smaller, with engine: vllm in every stage it has."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

pytest.importorskip("vllm", minversion="0.32.0", reason="needs vLLM: make vllm")

from mpd.store import schema, table

REPOSITORY = Path(__file__).parents[2]
ENGINE = {"engine": "vllm", "engine_arguments": {"kv_cache_memory_bytes": 2**26}}
WORLD = {
    "experiment": "small",
    "rounds": 1,
    "models": {"student": {"num_steps": 60}, "teacher": {"num_steps": 60}},
    "problems": {
        "train": {"num_problems": 60},
        "num_train": 12,
        "num_dev": 6,
        "benchmarks": [{"name": "greedy", "source": "tiny", "num_problems": 6, "temperature": 0}],
    },
    "sample": {"max_new_tokens": 160, **ENGINE},
    "compress": {"max_new_tokens": 64, **ENGINE},
    "custom": [{"name": "mpd", "like": "mpd", "axes": {"kept": "all"}}],
    "filter": {"max_ratio": 9.0},
    "distill": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-5},
    "evaluate": {"max_new_tokens": 48, **ENGINE},
    "resources": {
        stage: {"batch_size": 4, "rows_per_part": 5} for stage in ("sample", "compress", "evaluate")
    },
}
FILES = {  # of each artifact: its rows, where the settings alone decide them
    "problems/train/shard_0": (schema.PROBLEMS, 12),
    "problems/train/dev": (schema.PROBLEMS, 6),
    "problems/eval/greedy": (schema.PROBLEMS, 6),
    "base/seed_0/round_0/answers/dev": (schema.ANSWERS, 6),
    "base/seed_0/round_0/evaluate/dev": (schema.EVALUATE, 6),
    "base/seed_0/round_0/answers/greedy": (schema.ANSWERS, 6),
    "base/seed_0/round_0/evaluate/greedy": (schema.EVALUATE, 6),
    "mpd/seed_0/round_1/sample/shard_0": (schema.SAMPLE, 12),
    "mpd/seed_0/round_1/compress/shard_0": (schema.COMPRESS, 12),
    "mpd/seed_0/round_1/filter/shard_0": (schema.FILTER, 12),
    "mpd/seed_0/round_1/logits/shard_0": (schema.LOGITS, None),
    "mpd/seed_0/round_1/answers/dev": (schema.ANSWERS, 6),
    "mpd/seed_0/round_1/evaluate/dev": (schema.EVALUATE, 6),
    "mpd/seed_0/round_1/answers/greedy": (schema.ANSWERS, 6),
    "mpd/seed_0/round_1/evaluate/greedy": (schema.EVALUATE, 6),
    "summary": (schema.SUMMARY, 4),
}


# Greedy answers of a folder by vLLM alone: as many token ids as asked for, for each question.
ANSWER = """
import json, sys
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    folder, questions, limit = json.loads(sys.argv[1])
    llm = LLM(folder, dtype="float32", kv_cache_memory_bytes=2**26, max_model_len=256)
    talks = [[{"role": "user", "content": question}] for question in questions]
    answers = llm.chat(talks, SamplingParams(temperature=0, max_tokens=limit))
    print("ANSWERS", json.dumps([list(answer.outputs[0].token_ids) for answer in answers]))
"""


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command of this environment, ended without an error."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


SNAKEMAKE = ("-m", "snakemake", "--cores", "2", "--configfile", "small.yaml")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a project whose run has ended."""
    folder = tmp_path_factory.mktemp("vllm_project")
    for name in ("rules", "profiles", "envs"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / "small.yaml").write_text(yaml.safe_dump(WORLD))
    run(folder, *SNAKEMAKE)
    return folder


def test_the_pipeline_runs_with_vllm(finished):
    results = finished / "results/small"
    for name, (artifact, rows) in FILES.items():
        frame = table.read(results / f"{name}.parquet", artifact)
        assert rows in (None, len(frame)), name
    branch = results / "mpd/seed_0/round_1"
    sample = table.read(branch / "sample/shard_0.parquet", schema.SAMPLE)
    rewrites = table.read(branch / "compress/shard_0.parquet", schema.COMPRESS)
    assert rewrites["sample_id"].equals(sample["sample_id"])
    scored = sample["logprobs"].list.len()
    assert scored.equals(sample["num_tokens"].cast(scored.dtype))
    kept = table.read(branch / "filter/shard_0.parquet", schema.FILTER).filter("keep")
    cached = table.read(branch / "logits/shard_0.parquet", schema.LOGITS)
    assert len(kept) == len(cached) > 0
    summary = pl.read_parquet(results / "summary.parquet")
    assert summary.select("method", "round", "benchmark").sort(pl.all()).rows() == [
        ("base", 0, "dev"),
        ("base", 0, "greedy"),
        ("mpd", 1, "dev"),
        ("mpd", 1, "greedy"),
    ]
    assert (results / "report.html").read_text().startswith("<!doctype html>")
    again = run(finished, *SNAKEMAKE, "--dry-run")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_vllm_loads_an_exported_student_and_answers_as_in_the_run(finished):
    student = "results/small/mpd/seed_0/round_1"
    run(finished, "-m", "mpd.export", student, "--anyway", "--output", "exported")
    results = finished / "results/small"
    problems = table.read(results / "problems/eval/greedy.parquet", schema.PROBLEMS)
    answers = table.read(finished / student / "answers/greedy.parquet", schema.ANSWERS)
    rows = problems.join(answers, on="problem_id", maintain_order="left")
    limit = WORLD["evaluate"]["max_new_tokens"]
    asked = ["exported/model", rows["question"].to_list(), limit]
    printed = run(finished, "-c", ANSWER, json.dumps(asked)).stdout
    (line,) = [line for line in printed.splitlines() if line.startswith("ANSWERS")]
    assert json.loads(line.removeprefix("ANSWERS")) == rows["completion_ids"].to_list()
