"""The stages that generate, with engine: vllm; and what is left where one is killed."""

import json
import os
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

pytest.importorskip("vllm", minversion="0.32.0", reason="needs vLLM: make vllm")

from mpd import answers, compress, sample
from mpd.engines.vllm import generation
from mpd.store import schema, table

CACHE = {"kv_cache_memory_bytes": 2**26}
ENGINES = {
    "vllm": {"engine": "vllm", "engine_arguments": CACHE, "dtype": "float32"},
    "transformers": {"engine": "transformers", "engine_arguments": {}, "dtype": "float32"},
}
GREEDY = {"num_samples": 1, "temperature": 0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 24}
SAMPLED = {**GREEDY, "num_samples": 2, "temperature": 1.0}
SIZES = ("--resources", '{"batch_size": 3, "rows_per_part": 5}')

# The keys of chat that each stage has.
CHAT = {
    "sample": {"prompt", "thinking"},
    "compress": {"think", "open", "close"},
    "answers": {"prompt", "thinking"},
}


@pytest.fixture
def starts(monkeypatch):
    """The engines that were started: one entry for each."""
    made, start = [], generation.start_engine
    monkeypatch.setattr(generation, "start_engine", lambda *of: made.append(of) or start(*of))
    return made


@pytest.fixture
def stage(tmp_path, student, teacher, problems, chat):
    """Arguments of the stages over one shard, by the name of the stage."""

    def arguments(name, engine, folder, **changes):
        folder = tmp_path / folder
        own = {
            "sample": {**GREEDY, "trajectories": None},
            "compress": {
                **GREEDY,
                "prompt": "{problem}\n{trajectory}\nrewrite",
                "thinking": False,
                "rewriter": "teacher",
                "sampler": "student",
            },
            "answers": {"benchmarks": {"dev": SAMPLED, "hard": GREEDY}},
        }
        keys = CHAT[name]
        own[name]["chat"] = chat.model_dump(include=keys)
        settings = {**own[name], **ENGINES[engine], "seed": 7, **changes}
        of = ["--settings", json.dumps(settings), "--store", str(tmp_path / f"store-{folder.name}")]
        of += ["--student", str(student), *SIZES]
        if name == "answers":
            sets = [f"{key}={problems}" for key in settings["benchmarks"]]
            return [*of, "--output", str(folder), "--benchmarks", *sets]
        of += ["--problems", str(problems), "--output", str(folder / f"{name}.parquet")]
        if name == "compress":
            of += ["--teacher", str(teacher), "--sample", str(folder / "sample.parquet")]
        return of

    return arguments


def test_stages_give_the_rows_of_the_transformers_engine(stage, tmp_path):
    """Greedy: all is equal but the last bits of log-probabilities, samples with two candidates."""
    found = {}
    for engine in ENGINES:
        sample.main(stage("sample", engine, engine))
        compress.main(stage("compress", engine, engine, num_samples=2))
        answers.main(stage("answers", engine, engine, benchmarks={"hard": GREEDY}))
        folder = tmp_path / engine
        found[engine] = [
            table.read(folder / "sample.parquet", schema.SAMPLE),
            table.read(folder / "compress.parquet", schema.COMPRESS),
            table.read(folder / "hard.parquet", schema.ANSWERS),
        ]
    (drawn, *mine), (expected, *theirs) = found.values()
    assert drawn.drop("logprobs").equals(expected.drop("logprobs"))
    for one, other in zip(drawn["logprobs"], expected["logprobs"], strict=True):
        assert one.to_list() == pytest.approx(other.to_list(), abs=1e-5)
    for one, other in zip(mine, theirs, strict=True):
        assert one.equals(other)
    rewrites = mine[0]
    assert rewrites["sample_id"].unique(maintain_order=True).equals(drawn["sample_id"])
    # A sample that was cut has one row and no rewrite.
    skipped = drawn["finish_reason"] == "length"
    assert 0 < skipped.sum() < len(drawn)
    assert len(rewrites) == 2 * len(drawn) - skipped.sum()


def test_rows_stand_in_order_and_a_second_run_reuses_them(stage, tmp_path, problems, starts):
    of = stage("sample", "vllm", "rows", **SAMPLED)
    sample.main(of)
    rows = table.read(tmp_path / "rows" / "sample.parquet", schema.SAMPLE)
    questions = table.read(problems, schema.PROBLEMS)["problem_id"]
    assert rows["sample_id"].to_list() == [f"{id}-{index}" for id in questions for index in (0, 1)]
    assert len(set(map(tuple, rows["completion_ids"].to_list()))) == 16
    before = (tmp_path / "rows" / "sample.parquet").read_bytes()
    assert len(starts) == 1
    sample.main(of)
    assert len(starts) == 1
    assert (tmp_path / "rows" / "sample.parquet").read_bytes() == before
    # What ran side by side does not matter: batches of another size give the same rows.
    sample.main([*stage("sample", "vllm", "other", **SAMPLED), "--resources", '{"batch_size": 16}'])
    other = table.read(tmp_path / "other" / "sample.parquet", schema.SAMPLE)
    assert other.drop("logprobs").equals(rows.drop("logprobs"))


def test_one_engine_answers_all_benchmarks(stage, tmp_path, starts):
    of = stage("answers", "vllm", "answers")
    answers.main(of)
    assert len(starts) == 1
    dev, hard = (
        table.read(tmp_path / "answers" / f"{name}.parquet", schema.ANSWERS)
        for name in ("dev", "hard")
    )
    assert dev.select("problem_id", "sample_index").is_unique().all()
    assert (len(dev), len(hard)) == (16, 8)
    answers.main(of)
    assert len(starts) == 1


def test_too_long_prompts_are_rows_and_start_nothing(stage, tmp_path, starts, write_model):
    small = write_model(tmp_path / "small", seed=5, context=13 + 24, head_dim=32)
    of = stage("sample", "vllm", "room")
    of[of.index("--student") + 1] = str(small)
    sample.main(of)
    rows = table.read(tmp_path / "room" / "sample.parquet", schema.SAMPLE)
    long = rows["prompt_ids"].list.len() > 13
    assert 0 < long.sum() < 8
    assert (rows["finish_reason"] == "too_long").equals(long)
    # A rewriting prompt needs more room than that: refused before an engine starts.
    of = stage("compress", "vllm", "room")
    of[of.index("--student") + 1] = of[of.index("--teacher") + 1] = str(small)
    with pytest.raises(ValueError, match=r"no prompt leaves room for compress\.max_new_tokens"):
        compress.main(of)
    assert len(starts) == 1


PARTS = ("--resources", '{"batch_size": 6, "rows_per_part": 20}')
MANY = {**SAMPLED, "num_samples": 30, "max_new_tokens": 48}


def begun(arguments, parts, **environment):
    """A process that samples MANY, once it has written some parts; what it prints is a file."""
    with parts.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mpd.sample", *arguments, *PARTS],
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
        )
    while len(list(parts.glob("*/*.parts/some_*.parquet"))) < 2:
        assert process.poll() is None, parts.with_suffix(".log").read_text()
        time.sleep(0.01)
    return process


def require_resumed(arguments, output, parts, caplog):
    """What is there is kept as it is, and the rest is made: no row is lost or doubled."""
    there = pl.concat(
        table.read(path, schema.SAMPLE) for path in parts.glob("*/*.parts/some_*.parquet")
    )
    assert 40 <= len(there) < 240
    with caplog.at_level("INFO", "mpd"):
        sample.main([*arguments, *PARTS])
    assert f"resumed: {len(there)} of 240 rows were there" in caplog.messages
    rows = table.read(output, schema.SAMPLE)
    problems = rows["problem_id"].unique(maintain_order=True)
    assert rows["sample_id"].to_list() == [
        f"{id}-{index}" for id in problems for index in range(30)
    ]
    kept = rows.filter(pl.col("sample_id").is_in(there["sample_id"].implode()))
    assert kept.equals(kept.select("sample_id").join(there, "sample_id", maintain_order="left"))
    assert not list(parts.glob("*/*.parts"))


def test_a_killed_job_loses_at_most_a_part(stage, tmp_path, caplog):
    of = stage("sample", "vllm", "killed", **MANY)
    process = begun(of, tmp_path / "store-killed")
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    output = tmp_path / "killed" / "sample.parquet"
    assert not output.exists()
    require_resumed(of, output, tmp_path / "store-killed", caplog)


def test_an_engine_process_that_dies_is_one_sentence_and_its_parts_are_kept(
    stage, tmp_path, caplog
):
    import psutil

    of = stage("sample", "vllm", "dead", **MANY)
    store = tmp_path / "store-dead"
    process = begun(of, store, VLLM_ENABLE_V1_MULTIPROCESSING="1")
    (core,) = (
        child
        for child in psutil.Process(process.pid).children()
        if "EngineCore" in " ".join(child.cmdline())
    )
    core.kill()
    assert process.wait(120) == 1
    printed = store.with_suffix(".log").read_text()
    sentence = (
        "sample: error: vLLM: its process died; its own error, if any, is above. To need less "
        "memory, lower resources.sample.max_model_len or resources.sample.batch_size; to have "
        "more, set resources.sample.gpu_memory_utilization (its share) or "
        "resources.sample.tensor_parallel_size"
    )
    # Behind it Python may warn of what the dead process has left.
    assert sentence in printed.splitlines()
    assert "mpd/" not in printed  # no traceback of ours
    require_resumed(of, tmp_path / "dead" / "sample.parquet", store, caplog)
