"""Training by a policy gradient: its cache, the same update however it is shared, refusals."""

import json

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from mpd import distill
from mpd.config.distill import DistillSettings, RelaxedSettings
from mpd.config.policy_gradient import Relaxed
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest
from mpd.training import loop
from mpd.training.loop import train
from mpd.training.metrics import metrics_row as rows_of
from mpd.training.objective import Objective
from tests.changes import with_changes
from tests.training.jobs import forget_accelerator, job_in, launch

PLAIN = DistillSettings(
    learning_rate=1e-3, warmup=0, epochs=2, batch_size=8, divergence="policy_gradient"
)
LOSSES = ("token_mean", "sequence_mean")
OPTIONS = Relaxed(entropy_share=0.4)
RELAXED = RelaxedSettings(
    **{**dict(PLAIN), "divergence": "relaxed_policy_gradient"},
    relaxed=OPTIONS,
    reward_floor=OPTIONS.reward_floor,
)
# Each process writes the threshold of every step.
THRESHOLDS = """
import os, sys
from mpd.training.job import TrainingJob
from mpd.training.loop import train
from mpd.training.policy_gradient import PolicyGradient
job = TrainingJob.model_validate_json(open(sys.argv[1]).read())
threshold_of = PolicyGradient.threshold_of
def threshold_and_write(policy, entropies):
    threshold = threshold_of(policy, entropies)
    with open(job.scratch / f"thresholds_{os.environ['RANK']}", "a") as file:
        file.write(f"{float(threshold)!r}\\n")
    return threshold
PolicyGradient.threshold_of = threshold_and_write
train(job)
"""


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """accelerate keeps its state in the process: no test sees that of another."""
    yield
    forget_accelerator()


@pytest.fixture(scope="module")
def verbatim(shard, student, tmp_path_factory):
    """The shard as if nobody had rewritten and the sampler had stored its log-probabilities."""
    folder = tmp_path_factory.mktemp("verbatim")
    samples = table.read(shard["sample"], schema.SAMPLE)
    stored = [[-0.1 * place for place in range(count)] for count in samples["num_tokens"]]
    samples = samples.with_columns(logprobs=pl.Series(stored, dtype=pl.List(pl.Float32)))
    columns = ["sample_id", "text", "completion_ids", "num_tokens"]
    candidates = table.read(shard["compress"], schema.COMPRESS).drop(columns[1:])
    candidates = candidates.join(samples.select(columns), on="sample_id", maintain_order="left")
    frames = {
        "sample": samples,
        "compress": candidates.select(schema.COMPRESS.names),
        "filter": table.read(shard["filter"], schema.FILTER),
    }
    paths, contents = {"problems": shard["problems"]}, {}
    contents["problems"] = table.content_digest(shard["problems"], schema.PROBLEMS)
    manifest = read_manifest(student)
    identity = {"token_map": manifest["token_map"]}
    for name, frame in frames.items():
        paths[name] = folder / f"{name}.parquet"
        own = {"student": manifest["digest"]} if name == "sample" else {}
        artifact = getattr(schema, name.upper())
        contents[name] = table.write(paths[name], frame, artifact, {**identity, **own, **contents})
    return paths


@pytest.fixture(scope="module")
def realised(verbatim, run_logits, student, teacher, logits_settings, tmp_path_factory):
    """The cache of `verbatim` without supports."""
    settings = with_changes(logits_settings, cache="realised")
    return run_logits(tmp_path_factory.mktemp("realised"), verbatim, student, teacher, settings)


def test_the_cache_has_what_the_sampler_stored_and_exact_scores(
    realised, verbatim, run_logits, student, teacher, logits_settings, tmp_path
):
    rows = table.read(realised, schema.LOGITS)
    samples = table.read(verbatim["sample"], schema.SAMPLE)
    both = rows.join(samples, on="sample_id", suffix="_sampled")
    assert both["student_logprob"].to_list() == both["logprobs"].to_list()
    assert both["completion_ids"].to_list() == both["completion_ids_sampled"].to_list()
    sparse = table.read(
        run_logits(tmp_path, verbatim, student, teacher, logits_settings), schema.LOGITS
    )
    exact, rounded = (frame["realised_logprob"].explode().to_numpy() for frame in (rows, sparse))
    assert abs(exact / rounded - 1).max() < 2.0**-8
    assert (exact != rounded).mean() > 0.9
    assert rows["overlap"].is_between(0, 1).all()
    assert table.check(realised, schema.LOGITS)["identity"]["cache"] == "realised"


def test_rewrites_have_the_scores_of_the_current_student(
    shard, run_logits, student, teacher, logits_settings, cached, tmp_path
):
    settings = with_changes(logits_settings, cache="realised")
    rows = table.read(run_logits(tmp_path, shard, student, teacher, settings), schema.LOGITS)
    found = rows["student_logprob"].explode().to_numpy()
    expected = table.read(cached, schema.LOGITS)["student_logprob"].explode().to_numpy()
    assert abs(found / expected - 1).max() < 2.0**-8


@pytest.fixture
def trained(realised, student, tmp_path):
    """A function that trains: the weights, and the rows of the metrics."""

    def run(name, settings, **changes):
        resources = {"micro_batch_size": 8, "chunk_size": 64}
        job = job_in(tmp_path / name, student, realised, settings, resources, changes)
        train(job)
        forget_accelerator()
        metrics = table.read(job.folder / "metrics.parquet", schema.METRICS)
        return load_file(job.folder / "model.safetensors"), metrics

    return run


@pytest.mark.parametrize("settings", [PLAIN, RELAXED], ids=["plain", "relaxed"])
def test_micro_batches_do_not_change_the_update(trained, settings):
    """The quantile of entropies and the number of tokens that count are of the whole step."""
    one, metrics = trained("one", settings)
    two, others = trained("two", settings, micro_batch_size=2)
    for name, values in one.items():
        torch.testing.assert_close(values, two[name], rtol=0, atol=2e-5)
    assert metrics["loss"].to_list() == pytest.approx(others["loss"].to_list(), rel=1e-3)
    assert metrics["num_tokens"].to_list() == others["num_tokens"].to_list()


def test_two_processes_have_the_threshold_of_one(realised, student, tmp_path):
    """Of their tokens together, though each has another number of them; with shared weights too."""
    settings = with_changes(RELAXED, relaxed={**dict(OPTIONS), "exploration": 0.0})
    script = tmp_path / "thresholds.py"
    script.write_text(THRESHOLDS)
    thresholds, weights = {}, {}
    for name, count in (("one", 1), ("none", 2), ("full", 2)):
        resources = {"micro_batch_size": 2, "sharding": "none" if count == 1 else name}
        job = job_in(tmp_path / name, student, realised, settings, resources, {})
        code, errors = launch(job, count, (str(script),))
        assert code == 0, errors
        thresholds[name] = [
            [float(value) for value in path.read_text().split()]
            for path in sorted(job.scratch.glob("thresholds_*"))
        ]
        weights[name] = load_file(job.folder / "model.safetensors")
    (expected,) = thresholds["one"]
    assert len(set(expected)) == len(expected) > 1
    for name in ("none", "full"):
        assert thresholds[name] == [pytest.approx(expected, rel=1e-6)] * 2
        for key, values in weights["one"].items():
            torch.testing.assert_close(values, weights[name][key], rtol=0, atol=2e-5)


@pytest.mark.parametrize("exploration", [0, 1])
def test_both_means_of_a_step_are_over_the_tokens_that_count(trained, exploration):
    settings = with_changes(RELAXED, epochs=1.0, batch_size=64)
    settings = with_changes(settings, relaxed=with_changes(OPTIONS, exploration=exploration))
    rows = [trained(loss, with_changes(settings, loss=loss))[1] for loss in LOSSES]
    names = ["loss_token_mean", "loss_sequence_mean"]
    one, other = (metrics.select(names).row(0) for metrics in rows)
    assert one == pytest.approx(other, rel=1e-5)
    assert [metrics["loss"][0] for metrics in rows] == pytest.approx(one, rel=1e-5)
    assert one[0] != pytest.approx(one[1], rel=1e-3)


def test_a_gpu_that_is_full_in_the_second_phase_is_one_sentence(trained, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Objective, "entropies", fail)
    with pytest.raises(ValueError, match=r"a micro-batch of 8 trajectories and .* tokens; lower"):
        trained("full", RELAXED)


def test_the_second_phase_counts_its_own_forward_pass(trained, monkeypatch):
    """It takes a fourth pass beside the forward and backward ones, which are three."""
    counted = []
    monkeypatch.setattr(
        loop, "metrics_row", lambda step, *more: counted.append(step.flops) or rows_of(step, *more)
    )
    settings = with_changes(RELAXED, epochs=1.0, batch_size=64)
    for exploration in (1.0, 0.0):
        changes = with_changes(OPTIONS, exploration=exploration)
        trained(f"{exploration}", with_changes(settings, relaxed=changes))
    first, second = counted
    assert 3 * second == 4 * first > 0


def test_the_first_loss_is_the_mean_reward_of_the_current_student(trained, realised, run_logits):
    _, metrics = trained("plain", with_changes(PLAIN, epochs=1.0, batch_size=64))
    rows = table.read(realised, schema.LOGITS)
    assert metrics["loss"][0] == pytest.approx(
        metrics["realised_logprob"][0] - rows["realised_logprob"].explode().mean(), rel=1e-4
    )


def arguments(student, cache, verdicts, settings, folder, *more):
    found = ["--settings", settings.model_dump_json(), "--student", str(student)]
    found += ["--logits", str(cache), "--filter", str(verdicts)]
    return [*found, "--output", str(folder / "manifest.json"), "--store", f"{folder}-store", *more]


def test_other_caches_are_refused(cached, realised, shard, verbatim, student, tmp_path):
    with pytest.raises(ValueError, match=r"logits\.cache is sparse, but rewards of divergence"):
        distill.main(arguments(student, cached, shard["filter"], PLAIN, tmp_path / "one"))
    kl = with_changes(PLAIN, divergence="reverse_kl")
    with pytest.raises(ValueError, match=r"realised has no distribution for divergence: reverse"):
        distill.main(arguments(student, realised, verbatim["filter"], kl, tmp_path / "two"))
    merged = with_changes(PLAIN, merge_stop_ids=True)
    with pytest.raises(ValueError, match=r"distill\.merge_stop_ids: divergence: policy_gradient"):
        distill.main(arguments(student, realised, verbatim["filter"], merged, tmp_path / "three"))


def test_a_ratio_needs_the_log_probabilities_of_the_sampler(realised, verbatim, student, tmp_path):
    rows = table.read(realised, schema.LOGITS)
    lost = rows.with_columns(student_logprob=pl.lit(None, rows["student_logprob"].dtype))
    path = tmp_path / "lost.parquet"
    table.write(path, lost, schema.LOGITS, table.check(realised, schema.LOGITS)["identity"])
    with pytest.raises(ValueError, match="has no log-probabilities of the student that sampled"):
        distill.main(arguments(student, path, verbatim["filter"], RELAXED, tmp_path / "student"))


def test_the_base_students_cache_trains_a_later_student(
    realised, verbatim, student, teacher, caplog, tmp_path
):
    """Its weights decide the rewards; the floor that was used is in its note."""
    caplog.set_level("INFO", "mpd")
    settings = with_changes(RELAXED, epochs=0.5)
    first = tmp_path / "first"
    distill.main(arguments(student, realised, verbatim["filter"], settings, first))
    assert "of their most probable tokens, up to 64" in caplog.text
    note = json.loads((first / "provenance.json").read_text())
    assert note["settings"]["reward_floor"] == pytest.approx(-0.8473, abs=1e-4)
    assert '"reward_floor": -0.847' in (first / "README.md").read_text()
    forget_accelerator()
    later = first / "manifest.json"
    given = (realised, verbatim["filter"], with_changes(PLAIN, epochs=0.5))
    with pytest.raises(ValueError, match="student"):
        distill.main(arguments(later, *given, tmp_path / "refused"))
    distill.main(arguments(later, *given, tmp_path / "second", "--base", str(student)))
    assert (tmp_path / "second" / "model.safetensors").is_file()
