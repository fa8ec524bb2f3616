"""The workflow: one complete run of a smaller embedded world, then edits of its config.

What an edit visits is read from the dry run's job list; what it computes, from what the stages
print. A job is written as its rule, then method and round where it has them.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mpd import prune
from mpd.store.links import entries_noted_in
from tests.ordinary import ORDINARY
from tests.workflow.project import ENVIRONMENT, WORLD, Project, computed

ROUND = ("sample", "compress", "filter", "logits", "distill", "answers", "evaluate")
BASE = {"answers base 0", "evaluate base 0"}
EVALUATIONS = BASE | {f"{stage} mpd {round}" for stage in ROUND[-2:] for round in (1, 2)}


def jobs_from(stage: str, round: int) -> set[str]:
    """Every job of mpd from one stage of a round on, up to round 2, and the report."""
    first = {f"{name} mpd {round}" for name in ROUND[ROUND.index(stage) :]}
    later = {f"{name} mpd {after}" for after in range(round + 1, 3) for name in ROUND}
    return first | later | {"report", "all"}


ALL_ROUNDS = jobs_from("sample", 1)
# Of the report; they follow the evaluations.
TABLES = ("budgets", "comparison", "costs", "difficulty", "report", "speed", "summary")


@pytest.fixture(scope="module")
def project(finished_project: Project) -> Project:
    """A finished run with two rounds."""
    printed = finished_project.run()
    assert "sample" in computed(printed)
    assert "models" not in computed(printed)
    return finished_project


def test_complete_run(project: Project) -> None:
    summary = pl.read_parquet(project.folder / "results/small/summary.parquet")
    places = summary.select("method", "round", "seed", "benchmark").rows()
    expected = [("base", 0, 0), ("mpd", 1, 0), ("mpd", 2, 0)]
    benchmarks = ("dev", "greedy", "sampled")
    assert set(places) == {(*place, name) for place in expected for name in benchmarks}
    assert summary["num_problems"].to_list() == [6] * 9
    assert (project.folder / "results/small/report.html").read_text().startswith("<!doctype html>")
    comparison = pl.read_parquet(project.folder / "results/small/comparison.parquet")
    assert comparison.select("method", "round", "benchmark", "against").rows() == [
        ("mpd", number, name, "base") for name in benchmarks for number in (1, 2)
    ]
    costs = pl.read_parquet(project.folder / "results/small/costs.parquet")
    assert costs.select("method", "round", "num_seeds", "num_samples").rows() == [
        ("mpd", 1, 1, 12),
        ("mpd", 2, 1, 12),
    ]
    assert costs["wall_seconds"].null_count() == costs["evaluation_seconds"].null_count() == 0
    branch = project.folder / "results/small/mpd/seed_0/round_2"
    kept = pl.read_parquet(branch / "filter/shard_0.parquet").filter("keep")
    cached = pl.read_parquet(branch / "logits/shard_0.parquet")
    assert len(kept) == len(cached) > 0
    metrics = pl.read_parquet(branch / "student/metrics.parquet")
    assert metrics["tokens_seen"].to_list() == metrics["num_tokens"].cum_sum().to_list()


def test_a_finished_run_does_nothing(project: Project) -> None:
    assert project.visits() == set()


@pytest.mark.parametrize("command", ["cp -r", "cp -rp", "cp -a"])
def test_a_copied_project_computes_nothing(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Without the hard links, all that is stored would count as unused."""
    monkeypatch.chdir(project.folder)
    unused = list(prune.unused(prune.STORE))  # of earlier settings
    subprocess.run([*command.split(), f"{project.folder}/.", str(tmp_path)], check=True)
    copy = Project(tmp_path)
    assert copy.visits() == set()
    monkeypatch.chdir(tmp_path)
    noted = entries_noted_in(prune.RESULTS, prune.STORE)
    assert list(prune.unused(prune.STORE, noted)) == unused
    if command == "cp -r":
        assert list(prune.unused(prune.STORE)) != unused
        assert computed(copy.run("--forceall")) == []
        assert list(prune.unused(prune.STORE)) == unused


BENCHMARKS = WORLD["problems"]["benchmarks"]
SERVED = {
    "tensor_parallel_size": 2,
    "data_parallel_size": 3,
    "gpu_memory_utilization": 0.5,
    "max_model_len": 300,
    "prefix_caching": False,
    "server": "http://node:8000/v1",
    "server_timeout": 600.0,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"models": {"teacher": {"num_steps": 61}}}, {"models teacher"} | jobs_from("compress", 1)),
        (
            {"models": {"student": {"num_steps": 61}}},
            {"models student_seed_0"} | BASE | ALL_ROUNDS,
        ),
        ({"models": {"dtype": "bfloat16"}}, EVALUATIONS | ALL_ROUNDS),
        ({"chat": {"prompt": "{problem} "}}, EVALUATIONS | ALL_ROUNDS),
        ({"chat": {"open": "<think> "}}, jobs_from("compress", 1)),
        # It ends the thinking in a rewrite and in what is graded, not in what is sampled.
        ({"chat": {"close": " </think>"}}, {"evaluate base 0"} | jobs_from("compress", 1)),
        ({"problems": {"num_train": 13}}, {"problems train"} | BASE | ALL_ROUNDS),
        (
            {"problems": {"benchmarks": [BENCHMARKS[0], {**BENCHMARKS[1], "temperature": 0.5}]}},
            EVALUATIONS | {"report", "all"},
        ),
        ({"sample": {"temperature": 0.9}}, ALL_ROUNDS),
        ({"sample": {"engine": "vllm"}}, ALL_ROUNDS),
        ({"compress": {"temperature": 0.9}}, jobs_from("compress", 1)),
        ({"filter": {"max_ratio": 8.0}}, jobs_from("filter", 1)),
        ({"logits": {"top_k": 8}}, jobs_from("logits", 1)),
        ({"logits": {"cache": "hidden"}}, {"head models"} | jobs_from("logits", 1)),
        ({"distill": {"learning_rate": 2e-5}}, jobs_from("distill", 1)),
        ({"distill": {"round_decay": 0.25}}, jobs_from("distill", 2)),
        ({"evaluate": {"temperature": 0.5}}, EVALUATIONS | {"report", "all"}),
        ({"report": {"max_accuracy_drop": 0.1}}, {"report", "all"}),
        ({"rounds": 3}, {f"{stage} mpd 3" for stage in ROUND} | {"report", "all"}),
        ({"rounds": 1}, {"report", "all"}),
        ({"resources": {"sample": {"batch_size": 2, "threads": 2}}}, set()),
        ({"resources": {"logits": {"chunk_size": 16}, "distill": {"chunk_size": 16}}}, set()),
        (
            {"resources": dict.fromkeys(("sample", "compress", "evaluate"), SERVED)},
            set(),
        ),
        ({"resources": {"grading": {"threads": 2}}}, set()),
        ({"store": "refresh"}, set()),
    ],
    # Sets print in another order in every process, and test workers must agree on the names.
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_an_edit_visits_what_it_changes(
    project: Project, changes: dict[str, Any], expected: set[str]
) -> None:
    assert project.visits(**changes) == expected


def test_visited_stages_compute_only_what_is_new(project: Project) -> None:
    # Candidates are two now: rewrites and what follows are new, the first samples are not.
    rewritten = ["compress", "filter", "logits", "student"]
    changed = {"compress": {"num_samples": 2}}
    once = computed(project.run(**changed))
    # Where other answers have the same grades, the tables of before are theirs.
    once = [name for name in once if name not in TABLES]
    assert once == sorted([*rewritten * 2, "sample", *["answers", "evaluate"] * 6])
    before = project.bytes_of("mpd/*/*/*/*.parquet")
    assert computed(project.run()) == []  # taken back
    assert project.visits() == set()
    assert computed(project.run(**changed)) == []  # and made again
    assert project.bytes_of("mpd/*/*/*/*.parquet") == before
    assert computed(project.run()) == []


def test_branches_share_what_is_the_same(project: Project) -> None:
    # A second experiment with other training: everything up to the cache is there already.
    # Its answers differ, or the report would have the same tables.
    printed = project.run(experiment="other", distill={"learning_rate": 1e-3}, rounds=1)
    assert computed(printed) == sorted(["student", *["answers", "evaluate"] * 3, *TABLES])
    # A second seed has its own student and samples; teacher and problems are shared.
    printed = project.run(seeds=[0, 1], rounds=1)
    stages = ["models", "sample", "compress", "filter", "logits", "student"]
    assert computed(printed) == sorted([*stages, *["answers", "evaluate"] * 6, *TABLES])
    assert computed(project.run()) == []


def test_more_shards_give_the_same_rows(project: Project) -> None:
    whole = pl.read_parquet(project.folder / "results/small/mpd/seed_0/round_1/filter/*.parquet")
    project.run(experiment="shards", problems={"num_shards": 2}, rounds=1)
    folder = project.folder / "results/shards/mpd/seed_0/round_1"
    assert len(list((folder / "filter").glob("shard_*.parquet"))) == 2
    assert pl.read_parquet(folder / "filter/*.parquet").equals(whole)


def test_nothing_is_computed_from_what_was_changed(project: Project) -> None:
    round_1 = "results/small/mpd/seed_0/round_1"
    path = f"{round_1}/compress/shard_0.parquet"
    whole = (project.folder / path).read_bytes()
    with (project.folder / path).open("r+b") as file:
        file.write(b"edited")
    found = hashlib.sha256((project.folder / path).read_bytes()).hexdigest()
    edit = {"filter": {"max_ratio": 7.0}}
    done = subprocess.run(
        project.command(**edit),
        cwd=project.folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        f"filter mpd/seed_0/round_1/shard_0: error: {path} was changed after it was made, so "
        f"nothing is computed from it (expected SHA-256 {hashlib.sha256(whole).hexdigest()[:12]} "
        f"by shard_0.json, found {found[:12]}); run again with --forcerun {path}, which puts what "
        "was made in its place\n"
    ) in done.stdout
    assert "compress" in computed(project.run("--forcerun", path))
    assert (project.folder / path).read_bytes() == whole
    assert list((project.folder / "results/store/compress").glob("*-changed.parquet"))
    assert computed(project.run()) == []


def test_refresh_says_whether_the_bytes_agree(project: Project) -> None:
    printed = project.run("--forcerun", "filter", store="refresh")
    verdicts = re.findall(r"refreshed (\w+) \w+: (.*)", printed)
    stages = {"filter", "logits", "student", "sample", "compress", "answers", "evaluate", *TABLES}
    assert {stage for stage, _ in verdicts} == stages
    assert {verdict for _, verdict in verdicts} == {"the bytes agree"}
    assert project.visits() == set()


def test_a_killed_run_resumes_to_the_same_bytes(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    killed = Project(tmp_path_factory.mktemp("killed"))
    # What was computed before sampling is taken over, to save time.
    shutil.copytree(project.folder / "results/store/models", killed.folder / "results/store/models")
    process = subprocess.Popen(
        killed.command(rounds=1),
        cwd=killed.folder,
        env=ENVIRONMENT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    store = killed.folder / "results/store/sample"
    while not list(store.glob("*.parts/rows_*.parquet")):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    printed = killed.run(rounds=1)
    assert re.search(r"resumed: \d of 2 parts were there", printed)
    for pattern in ("mpd/seed_0/round_1/*/*.parquet", "mpd/seed_0/round_1/student/*.safetensors"):
        expected = {
            name: content
            for name, content in project.bytes_of(pattern).items()
            if name in killed.bytes_of(pattern)
        }
        assert killed.bytes_of(pattern) == expected
        assert expected


def test_a_stage_runs_without_snakemake(project: Project, tmp_path: Path) -> None:
    printed = project.run("--dry-run", "--printshellcmds", "--forcerun", "filter")
    (command,) = re.findall(r"\b(python -m mpd\.filter .*round_1.*)$", printed, re.MULTILINE)
    command = command.replace("--mode reuse", f"--mode reuse --store {tmp_path / 'store'}")
    done = subprocess.run(
        [*ORDINARY, "bash", "-c", f"set -o pipefail; {command}"],
        cwd=project.folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert computed(done.stdout) == ["filter"]
    project.run("--touch")


def test_how_an_engine_runs_stands_in_the_command(tmp_path: Path) -> None:
    fresh = Project(tmp_path)
    arguments = ["--dry-run", "--printshellcmds"]
    served = {"resources": {"compress": SERVED}, "compress": {"engine": "server"}}
    printed = fresh.run(*arguments, rounds=1, **served)

    def command_of(stage: str) -> str:
        (found,) = re.findall(rf"\bpython -m mpd\.{stage} .*round_1.*$", printed, re.MULTILINE)
        return found

    def resources_of(stage: str) -> dict[str, Any]:
        words = shlex.split(command_of(stage))
        return json.loads(words[words.index("--resources") + 1])

    sizes = {
        "threads": 1,
        "memory_mb": 4000,
        "runtime": 240,
        "gpu": 0,
        "batch_size": 4,
        "rows_per_part": 8,
    }
    alone = {"tensor_parallel_size": 1, "data_parallel_size": 1, "gpu_memory_utilization": 0.9}
    own = {"max_model_len": None, "prefix_caching": True, "server": None, "server_timeout": 3600.0}
    assert resources_of("compress") == {**sizes, **SERVED}
    assert '"engine": "server"' in command_of("compress")
    assert resources_of("sample") == {**sizes, **alone, **own}
    assert '"engine": "transformers"' in command_of("sample")
    scoring = {"batch_tokens": 16_384, "chunk_size": None, "kernels": "auto"}
    assert resources_of("logits") == {**sizes, **alone, **scoring}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"sample": {"temprature": 1}},
            "config: sample.temprature: unknown key; did you mean temperature?",
        ),
        (
            {"sample": {"temperature": -1}},
            "config: sample.temperature: Input should be greater than or equal to 0, found -1",
        ),
        (
            {
                "problems": {
                    "train": {"source": "file", "path": "nowhere.jsonl", "num_problems": None}
                }
            },
            "nowhere.jsonl: no such file; fix the path of this problem source in the config",
        ),
        (
            {"problems": {"benchmarks": [BENCHMARKS[0], BENCHMARKS[0]]}},
            "benchmark sampled is given twice; give it another name",
        ),
        (
            {"models": {"student": {"source": "folder", "path": "nowhere", "num_steps": 1}}},
            "config: models.student.num_steps: unknown key",
        ),
    ],
    ids=["misspelt", "range", "missing_file", "twice", "union"],
)
def test_bad_config_is_one_sentence_and_runs_nothing(
    project: Project, changes: dict[str, Any], sentence: str
) -> None:
    done = subprocess.run(
        project.command(**changes),
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 1
    assert sentence in printed
    assert "Traceback" not in printed
    assert project.visits() == set()
