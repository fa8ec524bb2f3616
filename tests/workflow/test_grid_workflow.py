"""Every method of the grid through the workflow, and what their branches share."""

import shutil

import polars as pl
import pytest

from mpd.config.methods import METHODS
from mpd.store import schema, table
from tests.workflow.project import REPOSITORY

# The embedded world cannot write the JSON of a structural rationale, and its problems have no
# solutions.
GRID = [name for name in METHODS if name not in ("drpc", "copsd")]
TRAINED = [name for name in GRID if METHODS[name].trained]
ALL = {"kept": "all"}  # so that something is left to train on
CHANGES = {
    "methods": [*GRID, "exact"],
    "custom": [
        *({"name": name, "like": name, "axes": ALL} for name in TRAINED),
        {"name": "exact", "like": "mpd", "axes": ALL, "logits": {"cache": "hidden"}},
    ],
    "rounds": 1,
    # Two steps for each of them, whatever their rows.
    "distill": {"budget": "steps", "amount": 2},
}


@pytest.fixture(scope="module")
def project(finished_project):
    """A project after a run with one round of every method."""
    finished_project.run(**CHANGES)
    return finished_project


@pytest.fixture(scope="module")
def results(project):
    return project.folder / "results" / "small"


def shard(results, method, stage):
    return results / method / "seed_0" / "round_1" / stage / "shard_0.parquet"


def sharing(results, stage):
    """The methods whose shards of a stage are one file, grouped."""
    groups = {}
    for method in TRAINED:
        groups.setdefault(shard(results, method, stage).stat().st_ino, []).append(method)
    return sorted(groups.values())


def test_what_branches_share_is_computed_once(results):
    assert sharing(results, "sample") == [
        [
            *("mpd", "opd", "sft_rewrites", "trd", "opsdc"),
            *("semi_opd", "reopold", "fixed_advantage"),
        ],
        ["off_policy", "sft"],
    ]
    assert sharing(results, "compress") == [
        ["mpd", "sft_rewrites"],
        ["off_policy", "sft"],
        ["opd", "opsdc", "semi_opd", "reopold", "fixed_advantage"],
        ["trd"],
    ]
    assert sharing(results, "filter") == sharing(results, "compress")
    assert sharing(results, "logits") == [
        ["mpd", "sft_rewrites"],
        ["off_policy", "sft"],
        ["opd", "fixed_advantage"],
        ["opsdc"],
        ["semi_opd", "reopold"],
        ["trd"],
    ]


def test_the_prefix_is_the_samplers(results):
    def sampler(method):
        return table.check(shard(results, method, "sample"), schema.SAMPLE)["identity"]["student"]

    digests = {
        name: pl.read_json(results / "models" / name / "manifest.json")["digest"].item()
        for name in ("teacher", "student_seed_0")
    }
    assert sampler("mpd") == sampler("opsdc") == digests["student_seed_0"]
    assert sampler("sft") == digests["teacher"]


def test_the_scorer_sees_what_the_method_says(results, vocabulary):
    def prompts(method):
        return table.read(shard(results, method, "logits"), schema.LOGITS)["teacher_prompt_ids"]

    for method in ("mpd", "opd", "off_policy"):
        assert prompts(method).null_count() == len(prompts(method)) > 0
    word = vocabulary.tokenizer.convert_tokens_to_ids
    assert all(word("concise") in ids for ids in prompts("opsdc"))
    assert all(word("refine") in ids for ids in prompts("trd"))
    scorer = {
        method: table.check(shard(results, method, "logits"), schema.LOGITS)["identity"]
        for method in ("opsdc", "opd")
    }
    assert scorer["opsdc"]["teacher"] == scorer["opsdc"]["student"]
    assert scorer["opd"]["teacher"] != scorer["opd"]["student"]


def test_trajectories_that_nobody_rewrote_are_trained_on_verbatim(results):
    samples = table.read(shard(results, "opd", "sample"), schema.SAMPLE)
    cached = table.read(shard(results, "opd", "logits"), schema.LOGITS)
    assert len(cached) == len(samples.filter(pl.col("num_tokens") > 0)) > 0
    pairs = cached.join(samples, "sample_id", suffix="_sampled")
    assert pairs["completion_ids"].to_list() == pairs["completion_ids_sampled"].to_list()


def test_every_method_has_the_same_budget(results):
    for method in TRAINED:
        path = results / method / "seed_0" / "round_1" / "student" / "metrics.parquet"
        assert table.read(path, schema.METRICS)["step"].to_list() == [1, 2]


def test_a_row_with_a_cache_of_hidden_states_is_trained_with_the_teachers_head(results):
    cached = table.check(shard(results, "exact", "logits"), schema.LOGITS)["identity"]
    assert cached["cache"] == "hidden"
    assert (results / "models" / "head" / "head.safetensors").exists()
    metrics = results / "exact" / "seed_0" / "round_1" / "student" / "metrics.parquet"
    assert table.read(metrics, schema.METRICS)["teacher_tail_mass"].to_list() == [0.0, 0.0]


def test_prompt_only_is_the_base_student_under_another_prompt(results):
    base, told = (
        table.read(results / method / "seed_0/round_0/answers/greedy.parquet", schema.ANSWERS)
        for method in ("base", "prompt_only")
    )
    assert base["problem_id"].to_list() == told["problem_id"].to_list()
    assert base["completion_ids"].to_list() != told["completion_ids"].to_list()
    assert not (results / "prompt_only" / "seed_0" / "round_1").exists()


def test_the_report_has_every_method(results):
    summary = pl.read_parquet(results / "summary.parquet")
    assert set(summary["method"]) == {"base", "exact", *GRID}


def test_snakemakes_own_report_has_the_page(project):
    shutil.copytree(REPOSITORY / "docs", project.folder / "docs")
    project.run("--report", "of_snakemake.html", **CHANGES)
    text = (project.folder / "of_snakemake.html").read_text(encoding="utf-8")
    assert "results/small/report.html" in text
    assert "Accuracy and tokens of every student of" in text  # the caption
    assert "Offline staged distillation" in text
