"""Problems of reasoning-gym from their tasks to the report, in all rounds and in a curriculum.

The jobs import the package that tests have in its place. Its task `parity` grants half a point to
answers that are wrong, and a full one to many that are not its gold answer.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mpd.store import schema, table
from mpd.text.gym import task_of
from tests import gym
from tests.workflow.project import ENVIRONMENT, Project, computed, copied

PATHS = [str(gym.FOLDER), *filter(None, [ENVIRONMENT.get("PYTHONPATH")])]
WITH_GYM = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(PATHS)}
# The levels of `parity` come in another order.
TASKS = [
    {"task": "sum", "levels": [0, 1], "weight": 3},
    {"task": "parity", "levels": [1, 0]},
]
TRAIN = {"source": "reasoning_gym", "num_problems": 16, "tasks": TASKS}
HELD_OUT = {"source": "reasoning_gym", "num_problems": 6, "tasks": TASKS}
PROBLEMS: dict[str, Any] = {
    "train": TRAIN,
    "num_train": None,
    "num_dev": 4,
    "benchmarks": [{"name": "held_out", **HELD_OUT}],
}
LONG = {"max_new_tokens": 160}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, finished_store: Path) -> Project:
    """A project whose jobs import the package, and whose models are there."""
    made = Project(tmp_path_factory.mktemp("gym"))
    (made.folder / "results").mkdir()
    copied(finished_store, made.folder / "results/store")
    made.environment = WITH_GYM
    return made


def read(results: Path, pattern: str, artifact: schema.Artifact) -> pl.DataFrame:
    """The rows of all files of a pattern, in the order of their names."""
    return pl.concat(table.read(path, artifact) for path in sorted(results.glob(pattern)))


def parts_of(problems: pl.DataFrame) -> dict[tuple[str, int], int]:
    """How many problems each task has at each level, by what their scorers need."""
    return Counter(
        (task_of(scorer), json.loads(entry)["level"])
        for scorer, entry in problems.select("scorer", "entry").iter_rows()
    )


def answer_of(text: str) -> str | None:
    """The number in the last box behind the reasoning of a text; None without one."""
    answers = re.findall(r"boxed{(\d+)}", text.partition("</think>")[2])
    return answers[-1] if answers else None


def credit_of(problem: dict[str, Any], answer: str) -> float:
    """What the scorers of the package give for an answer."""
    gold = str(problem["gold"])
    if task_of(problem["scorer"]) == "parity":
        return 1.0 if (int(answer) - int(gold)) % 2 == 0 else 0.5
    return 1.0 if answer == gold else len(gold) / len(answer) if gold in answer else 0.0


def require_graded_by_scorers(problems: pl.DataFrame, rows: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Task, verdict and credit of each answer, and whether it is the gold one.

    A credit below 1.0 has to be wrong.
    """
    by_id = {row["problem_id"]: row for row in problems.to_dicts()}
    graded = []
    for key, text, verdict in rows.select("problem_id", "text", "verdict").iter_rows():
        problem, answer = by_id[key], answer_of(text)
        if answer is not None:
            credit = credit_of(problem, answer)
            assert verdict == ("correct" if credit == 1.0 else "wrong"), text
            is_gold = answer == problem["gold"]
            graded.append((task_of(problem["scorer"]), verdict, credit, is_gold))
    return graded


def test_a_mix_at_two_levels_in_every_round(project: Project) -> None:
    project.run(experiment="mix", rounds=1, problems=PROBLEMS, evaluate=LONG)
    results = project.folder / "results/mix"
    train = read(results, "problems/train/shard_*.parquet", schema.SCORED_PROBLEMS)
    dev = read(results, "problems/train/dev.parquet", schema.SCORED_PROBLEMS)
    held_out = read(results, "problems/eval/held_out.parquet", schema.SCORED_PROBLEMS)
    assert parts_of(held_out) == {
        ("sum", 0): 2,
        ("sum", 1): 2,
        ("parity", 1): 1,
        ("parity", 0): 1,
    }
    assert parts_of(pl.concat([train, dev])) == {
        ("sum", 0): 6,
        ("sum", 1): 6,
        ("parity", 1): 2,
        ("parity", 0): 2,
    }
    ids = pl.concat([train, dev, held_out])["problem_id"]
    assert ids.n_unique() == len(ids) == 22
    branch = results / "mpd/seed_0/round_1"
    samples = read(branch, "sample/*.parquet", schema.SAMPLE)
    assert sorted(samples["problem_id"]) == sorted(train["problem_id"])
    assert (results / "report.html").is_file()


RISING: dict[str, Any] = {
    "experiment": "rising",
    "methods": ["mpd", "sft"],
    "custom": [{"name": name, "like": name, "axes": {"kept": "all"}} for name in ("mpd", "sft")],
    "problems": {
        "train": {**TRAIN, "curriculum": "replace"},
        "num_train": None,
        "num_dev": None,
        "dev": {**HELD_OUT, "tasks": [{"task": "parity", "levels": [0, 1]}]},
        "num_shards": 10,
        "benchmarks": [{"name": "held_out", **HELD_OUT}],
    },
    "evaluate": LONG,
    "resources": {"shards_per_job": 10},
}
KINDS = ("sample", "compress", "filter", "logits", "student")
OF_ROUND = {1: {("sum", 0): 6, ("parity", 1): 2}, 2: {("sum", 1): 6, ("parity", 0): 2}}


@pytest.fixture(scope="module")
def rising(project: Project) -> Path:
    """The results of two rounds of a curriculum, the second of which came later."""
    printed = project.run(rounds=1, **RISING)
    assert "round 1: 8 of 16 training problems" in printed
    results = project.folder / "results/rising"
    assert not list(results.glob("*/seed_0/round_2"))
    first = {path: path.stat().st_ino for path in results.glob("*/seed_0/round_1/*/*")}
    printed = project.run(rounds=2, **RISING)
    assert {path: path.stat().st_ino for path in first} == first
    assert [computed(printed).count(kind) for kind in KINDS] == [20, 20, 20, 20, 2]
    assert "problems" not in computed(printed)
    return results


def test_each_round_samples_its_level_of_each_task(rising: Path) -> None:
    problems = read(rising, "problems/train/shard_*.parquet", schema.CURRICULUM_PROBLEMS)
    rounds = problems.group_by("first_round", "last_round").len().sort("first_round")
    assert rounds.rows() == [(1, 1, 8), (2, None, 8)]
    for method in RISING["methods"]:
        for number, parts in OF_ROUND.items():
            branch = rising / f"{method}/seed_0/round_{number}"
            samples = read(branch, "sample/shard_*.parquet", schema.SAMPLE)
            sampled = problems.join(samples, "problem_id", how="semi")
            assert parts_of(sampled) == parts
            assert len(samples) == len(sampled) == 8
            assert set(sampled["first_round"]) == {number}
            judged = read(branch, "filter/shard_*.parquet", schema.FILTER)
            assert set(judged["sample_id"]) == set(samples["sample_id"])


def test_a_shard_without_a_problem_of_the_round_is_empty(rising: Path) -> None:
    for number in (1, 2):
        branch = rising / f"mpd/seed_0/round_{number}"
        for shard in range(10):
            problems = table.read(
                rising / f"problems/train/shard_{shard}.parquet", schema.CURRICULUM_PROBLEMS
            )
            chosen = problems.filter(pl.col("first_round") == number)
            samples = table.read(branch / f"sample/shard_{shard}.parquet", schema.SAMPLE)
            assert sorted(samples["problem_id"]) == sorted(chosen["problem_id"])
        sizes = [
            len(table.read(path, schema.SAMPLE)) for path in branch.glob("sample/shard_*.parquet")
        ]
        assert 0 in sizes


def test_training_development_and_benchmark_share_no_problem(rising: Path) -> None:
    patterns = ("train/shard_*.parquet", "train/dev.parquet", "eval/held_out.parquet")
    sets = [read(rising, f"problems/{pattern}", schema.PROBLEMS) for pattern in patterns]
    assert list(map(len, sets)) == [16, 6, 6]
    ids = pl.concat(sets)["problem_id"]
    assert ids.n_unique() == len(ids)
    dev = read(rising, "problems/train/dev.parquet", schema.SCORED_PROBLEMS)
    assert parts_of(dev) == {("parity", 0): 3, ("parity", 1): 3}


def test_scorers_grade_in_filter_and_evaluate(rising: Path) -> None:
    training = read(rising, "problems/train/shard_*.parquet", schema.CURRICULUM_PROBLEMS)
    graded = []
    for number in (1, 2):
        branch = rising / f"mpd/seed_0/round_{number}"
        samples = read(branch, "sample/shard_*.parquet", schema.SAMPLE)
        judged = read(branch, "filter/shard_*.parquet", schema.FILTER)
        verdicts = judged.select("sample_id", verdict="sample_verdict")
        graded += require_graded_by_scorers(training, samples.join(verdicts, "sample_id"))
    for place, name in (("train", "dev"), ("eval", "held_out")):
        problems = read(rising, f"problems/{place}/{name}.parquet", schema.SCORED_PROBLEMS)
        for branch in sorted(rising.glob("*/seed_0/round_*")):
            answers = read(branch, f"answers/{name}.parquet", schema.ANSWERS)
            verdicts = read(branch, f"evaluate/{name}.parquet", schema.EVALUATE)
            verdicts = verdicts.select("problem_id", "sample_index", "verdict")
            rows = answers.join(verdicts, ["problem_id", "sample_index"])
            assert len(rows) == len(problems) == 6
            graded += require_graded_by_scorers(problems, rows)
    kinds = Counter(graded)
    assert kinds["parity", "wrong", 0.5, False] > 0
    assert kinds["parity", "correct", 1.0, False] > 0  # only its scorer knows
    assert kinds["sum", "wrong", 0.0, False] > 0


def test_what_reads_results_takes_a_curriculum(project: Project, rising: Path) -> None:
    summary = pl.read_parquet(rising / "summary.parquet")
    assert set(summary["num_problems"]) == {6}
    costs = pl.read_parquet(rising / "costs.parquet")
    assert costs.select("method", "round", "num_samples").rows() == [
        (method, number, 8) for method in RISING["methods"] for number in (1, 2)
    ]
    assert project.visits(rounds=2, **RISING) == set()
    for program in (
        ["verify", "results"],
        ["plan", "--configfile", "overlay.yaml"],
        ["why", "--graph", "results/rising"],
        ["show", "results/rising/mpd/seed_0/round_2"],
    ):
        done = subprocess.run(
            [*project.rights, sys.executable, "-m", f"mpd.{program[0]}", *program[1:]],
            cwd=project.folder,
            env=WITH_GYM,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
