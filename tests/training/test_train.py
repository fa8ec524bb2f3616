"""Training: the loss in float64, and one update however it is shared."""

import json
import logging
import math
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mpd.config.distill import DistillSettings
from mpd.store import schema, table
from mpd.store.digests import file_digest
from mpd.store.files import checksummed
from mpd.store.model_folder import load_model
from mpd.training.batches import CachedRows, TrajectoryDataset, collate
from mpd.training.job import TrainingJob
from mpd.training.loop import train
from mpd.training.objective import Objective
from mpd.training.updates import learning_rate_factor
from tests.changes import with_changes
from tests.training.jobs import KILLED_AFTER_TWO_SAVES, forget_accelerator, job_in

SETTINGS = DistillSettings(learning_rate=1e-3, warmup=0, epochs=2, batch_size=8)


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """accelerate keeps its state in the process: no test sees that of another."""
    yield
    forget_accelerator()


@pytest.fixture
def make_job(cached, student, tmp_path):
    """A function that makes the job of a training run in a folder of its own."""

    def make(name: str, **changes) -> TrainingJob:
        resources = {"micro_batch_size": 8, "chunk_size": 64}
        return job_in(tmp_path / name, student, cached, SETTINGS, resources, changes)

    return make


@pytest.fixture
def hidden_job(make_job, tmp_path, run_logits, shard, student, teacher, logits_settings):
    """A function that makes a job whose cache holds hidden states."""
    from mpd import head

    settings = with_changes(logits_settings, cache="hidden")
    path = run_logits(tmp_path / "hidden-cache", shard, student, teacher, settings)
    output = tmp_path / "head.safetensors"
    arguments = ["--settings", json.dumps({"dtype": "float32"}), "--teacher", str(teacher)]
    arguments += ["--output", str(output), "--store", str(tmp_path / "store")]
    head.main(arguments)

    def make(name: str, **settings) -> TrainingJob:
        job = make_job(name, **settings)
        return job.model_copy(update={"rows": [path], "head": output})

    return make


def kill_after_two_saves(job, folder):
    """Run a training in a process of its own, which is killed."""
    description = folder / "job.json"
    description.write_text(job.model_dump_json())
    command = [sys.executable, "-c", KILLED_AFTER_TWO_SAVES, str(description)]
    assert subprocess.run(command, check=False).returncode == -9


def weights_of(job):
    return load_file(job.folder / "model.safetensors")


def metrics_of(job):
    return table.read(job.folder / "metrics.parquet", schema.METRICS).to_dicts()


def assert_close(one, other, atol):
    assert one.keys() == other.keys()
    for name, values in one.items():
        torch.testing.assert_close(values, other[name], rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("schedule", "warmup", "factors"),
    [
        ("constant", 0.0, {0: 1, 9: 1}),
        ("linear", 0.0, {0: 1, 1: 0.9, 5: 0.5, 9: 0.1}),
        ("linear", 0.2, {0: 1 / 3, 1: 2 / 3, 2: 1, 6: 0.5, 9: 0.125}),
        ("linear", 0.15, {0: 1 / 3, 2: 1}),  # a part of a step is a step
        ("cosine", 0.2, {1: 2 / 3, 2: 1, 4: (2 + math.sqrt(2)) / 4, 6: 0.5}),
        ("constant", 1.0, {0: 1 / 11, 9: 10 / 11}),
    ],
)
def test_learning_rate_factors(schedule, warmup, factors):
    found = {step: learning_rate_factor(step, 10, warmup, schedule) for step in factors}
    assert found == pytest.approx(factors, abs=1e-12)


def coarse_divergences(row, logits):
    """Reverse KL and tail mass at each position of a cached row: a loop over outcomes, in float64.

    `logits` [N, V] are float64 and may carry a gradient.
    """
    found, masses, start = [], [], 0
    num_buckets = len(row["tail_logprobs"]) // len(row["completion_ids"])
    width = -(-logits.shape[1] // num_buckets)
    for place, size in enumerate(row["support_size"]):
        stop = start + size
        ids = row["support_ids"][start:stop]
        teacher = dict(zip(ids, row["support_logprobs"][start:stop], strict=True))
        fixed = len(row["control_ids"])
        control = row["control_logprobs"][place * fixed : (place + 1) * fixed]
        teacher |= dict(zip(row["control_ids"], control, strict=True))
        teacher[row["completion_ids"][place]] = row["realised_logprob"][place]
        start = stop
        tails = row["tail_logprobs"][place * num_buckets : (place + 1) * num_buckets]
        q = np.exp([*teacher.values(), *tails])
        q = torch.tensor(q / q.sum())
        everywhere = torch.softmax(logits[place], -1)
        p = list(everywhere[list(teacher)])
        for bucket in range(num_buckets):
            inside = range(bucket * width, min((bucket + 1) * width, logits.shape[1]))
            p.append(everywhere[[token for token in inside if token not in teacher]].sum())
        p = torch.stack(p)
        found.append(torch.special.xlogy(p, p / q).sum())
        masses.append(q[-num_buckets:].sum().item())
    return torch.stack(found), masses


@pytest.fixture(scope="module")
def expected(cached, student, vocabulary):
    """Metrics of a first step over all rows, in float64, from a plain forward pass of each row."""
    model = load_model(student.parent, "float32").double()
    size = vocabulary.size
    divergences, entropies, tails = [], [], []
    for row in table.read(cached, schema.LOGITS).to_dicts():
        prompt, ids = row["prompt_ids"], row["completion_ids"]
        logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1, :size]
        found, masses = coarse_divergences(row, logits)
        divergences.append(found)
        tails += masses
        everywhere = torch.log_softmax(logits, -1)
        entropies.append(-(everywhere.exp() * everywhere).sum(-1))
    means = {
        "token_mean": torch.cat(divergences).mean(),
        "sequence_mean": torch.stack([values.mean() for values in divergences]).mean(),
    }
    parameters = list(model.parameters())
    norms = {}
    for name, mean in means.items():
        gradients = torch.autograd.grad(mean, parameters, retain_graph=True)
        norms[name] = torch.stack([gradient.norm() for gradient in gradients]).norm().item()
    return {
        "means": {name: mean.item() for name, mean in means.items()},
        "norms": norms,
        "entropy": torch.cat(entropies).mean().item(),
        "tail": np.mean(tails),
        "num_tokens": len(tails),
    }


@pytest.mark.parametrize("loss", ["token_mean", "sequence_mean"])
@pytest.mark.parametrize("micro_batch_size", [3, 8])
def test_the_first_step_is_that_of_an_independent_computation(
    make_job, expected, loss, micro_batch_size
):
    job = make_job("one", micro_batch_size=micro_batch_size, loss=loss, epochs=1.0)
    train(job)
    (row,) = metrics_of(job)
    means = expected["means"]
    assert abs(means["token_mean"] - means["sequence_mean"]) > 1e-3
    assert row["loss"] == pytest.approx(means[loss], abs=1e-5)
    assert row["loss_token_mean"] == pytest.approx(means["token_mean"], abs=1e-5)
    assert row["loss_sequence_mean"] == pytest.approx(means["sequence_mean"], abs=1e-5)
    assert row["gradient_norm"] == pytest.approx(expected["norms"][loss], rel=1e-4)
    assert row["student_entropy"] == pytest.approx(expected["entropy"], abs=1e-5)
    assert row["teacher_tail_mass"] == pytest.approx(expected["tail"], abs=1e-5)
    assert row["num_tokens"] == row["tokens_seen"] == expected["num_tokens"]
    assert (row["step"], row["learning_rate"]) == (1, 1e-3)


def test_a_micro_batch_keeps_each_rows_own_support(cached):
    rows = CachedRows([cached])
    data = TrajectoryDataset(rows, [[0, 1, 2]], SETTINGS)
    batch = collate([data[0, row] for row in (2, 0, 1)])
    assert batch.places["weight"].sum().item() == pytest.approx(1.0)
    assert batch.places["sequence_weight"].sum().item() == pytest.approx(1.0)
    frame = table.read(cached, schema.LOGITS)
    start, wide = 0, batch.places["support_ids"].shape[1]
    for row in (2, 0, 1):
        support = rows.place(row)[0].support(row)
        stop, width = start + len(support.ids), support.ids.shape[1]
        part = {
            name: batch.places[name][start:stop] for name in ("support_ids", "distinct", "teacher")
        }
        assert part["support_ids"][:, :width].equal(support.ids)
        assert part["distinct"][:, :width].equal(support.distinct)
        assert not part["distinct"][:, width:].any()
        assert part["teacher"][:, :width].equal(support.logprobs[:, :width])
        assert part["teacher"][:, wide:].equal(support.logprobs[:, width:])
        marked = batch.places["closes"][start:stop].nonzero()[:, 0].tolist()
        assert marked == [frame["think_end"][row]]
        assert batch.places["stops"][start:stop].nonzero()[:, 0].tolist() == [stop - start - 1]
        assert (
            batch.places["realised"][start:stop].tolist() == frame["completion_ids"][row].to_list()
        )
        start = stop
    assert start == len(batch.places["support_ids"])


def test_chunks_do_not_change_the_gradient(cached, student, vocabulary):
    data = TrajectoryDataset(CachedRows([cached]), [[0, 1, 2]], SETTINGS)
    batch = collate([data[0, row] for row in range(3)])
    model = load_model(student.parent, "float32")

    def gradients(chunk_size):
        size = vocabulary.size
        loss, _ = Objective(model, size, vocabulary.stop_ids, SETTINGS, chunk_size)(batch)
        return dict(
            zip(
                [name for name, _ in model.named_parameters()],
                torch.autograd.grad(loss, list(model.parameters())),
                strict=True,
            )
        )

    whole = gradients(1000)
    assert max(gradient.abs().max() for gradient in whole.values()) > 1e-2
    for chunk_size in (1, 5):
        assert_close(gradients(chunk_size), whole, 1e-6)


@pytest.fixture
def whole(make_job):
    """A run of two steps whose batch is one micro-batch."""
    job = make_job("whole")
    train(job)
    return job


def test_micro_batches_do_not_change_the_update(make_job, whole, student):
    before = load_file(student.parent / "model.safetensors")
    moved = max((values - before[name]).abs().max() for name, values in weights_of(whole).items())
    assert moved > 1e-3
    for size in (1, 2, 4):
        job = make_job(f"micro-{size}", micro_batch_size=size)
        train(job)
        assert_close(weights_of(job), weights_of(whole), 1e-5)
        for row, same in zip(metrics_of(job), metrics_of(whole), strict=True):
            same |= {"padding_share": row["padding_share"]}
            assert row == pytest.approx(same, rel=1e-4)


def test_gradient_checkpointing_does_not_change_the_update(make_job, whole):
    job = make_job("checkpointing", gradient_checkpointing=True)
    train(job)
    assert_close(weights_of(job), weights_of(whole), 1e-5)


def test_padded_rows_stay_as_they_are(make_job, teacher, vocabulary):
    job = make_job("padded").model_copy(update={"student": teacher.parent})
    train(job)
    before = load_file(teacher.parent / "model.safetensors")["model.embed_tokens.weight"]
    after = weights_of(job)["model.embed_tokens.weight"]
    size = vocabulary.size
    assert after[size:].equal(before[size:])
    assert not after[:size].equal(before[:size])


def test_mixed_precision_keeps_float32_weights(make_job, whole):
    forget_accelerator()  # it has run in full precision in this process
    job = make_job("mixed", mixed_precision="bf16")
    train(job)
    assert {values.dtype for values in weights_of(job).values()} == {torch.float32}
    found, same = metrics_of(job)[0]["loss"], metrics_of(whole)[0]["loss"]
    assert found != same
    assert found == pytest.approx(same, rel=0.05)


@pytest.mark.parametrize(
    ("owner", "name", "message"),
    [
        (torch.optim.AdamW, "step", "moments of AdamW; take a smaller student"),
        (Objective, "__call__", "a micro-batch of 8 trajectories and .* tokens; lower resources"),
    ],
)
def test_a_full_gpu_is_one_sentence(make_job, monkeypatch, owner, name, message):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(ValueError, match=message):
        train(make_job("full"))


def test_the_loss_decreases(make_job):
    job = make_job("longer", epochs=30.0, learning_rate=1e-2)
    train(job)
    losses = [row["loss"] for row in metrics_of(job)]
    assert len(losses) == 30
    assert losses[-1] < 0.6 * losses[0]


def test_a_hidden_cache_gives_the_exact_loss(make_job, hidden_job, student, teacher, vocabulary):
    job = hidden_job("hidden", epochs=1.0)
    train(job)
    (row,) = metrics_of(job)
    models = [load_model(manifest.parent, "float32").double() for manifest in (student, teacher)]
    size, exact = vocabulary.size, []
    for cached in table.read(job.rows[0], schema.LOGITS).to_dicts():
        prompt, ids = cached["prompt_ids"], cached["completion_ids"]
        places = slice(len(prompt) - 1, -1)
        logits = [model(torch.tensor([prompt + ids])).logits[0, places, :size] for model in models]
        own, other = (torch.log_softmax(of, -1) for of in logits)
        exact.append((own.exp() * (own - other)).sum(-1))
    assert row["loss"] == pytest.approx(torch.cat(exact).mean().item(), abs=1e-5)
    assert row["teacher_tail_mass"] == row["student_tail_mass"] == 0
    sparse = make_job("sparse", epochs=1.0)
    train(sparse)
    assert metrics_of(sparse)[0]["loss"] < row["loss"]
    assert metrics_of(sparse)[0]["student_entropy"] == pytest.approx(
        row["student_entropy"], abs=1e-5
    )


def test_temperature_is_that_of_both_distributions(hidden_job, student, teacher, vocabulary):
    job = hidden_job("warm", epochs=1.0, temperature=2.0)
    train(job)
    models = [load_model(manifest.parent, "float32").double() for manifest in (student, teacher)]
    size, exact = vocabulary.size, []
    for cached in table.read(job.rows[0], schema.LOGITS).to_dicts():
        ids = torch.tensor([cached["prompt_ids"] + cached["completion_ids"]])
        places = slice(len(cached["prompt_ids"]) - 1, -1)
        own, other = (torch.log_softmax(m(ids).logits[0, places, :size] / 2, -1) for m in models)
        exact.append((own.exp() * (own - other)).sum(-1))
    expected = torch.cat(exact).mean().item()
    assert metrics_of(job)[0]["loss"] == pytest.approx(expected, abs=1e-5)


def test_diagnostics_are_those_of_the_places_they_name(
    make_job, cached, student, vocabulary, tiny_format
):
    job = make_job("diagnosed", epochs=1.0)
    train(job)
    model = load_model(student.parent, "float32").double()
    realised, closing, stopping = [], [], []
    for row in table.read(cached, schema.LOGITS).to_dicts():
        prompt, ids = row["prompt_ids"], row["completion_ids"]
        logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        logprobs = torch.log_softmax(logits[:, : vocabulary.size], -1)
        own = logprobs.gather(1, torch.tensor(ids)[:, None])[:, 0]
        realised.append(own)
        (place,) = [place for place, token in enumerate(ids) if [token] == tiny_format.close_ids]
        closing.append(own[place].exp().item())
        stopping.append(own[-1].exp().item())
    (row,) = metrics_of(job)
    assert row["realised_logprob"] == pytest.approx(torch.cat(realised).mean().item(), abs=1e-5)
    assert row["think_close_mass"] == pytest.approx(np.mean(closing), rel=1e-4)
    assert row["stop_mass"] == pytest.approx(np.mean(stopping), rel=1e-4)
    assert row["padding_share"] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"divergence": "forward_kl"},
        {"divergence": "jensen_shannon", "beta": 0.3},
        {"divergence": "mix", "forward_share": 0.25},
        {"divergence": "cross_entropy"},
        {"tail": "renormalised"},
        {"merge_stop_ids": True},
    ],
    ids=str,
)
def test_every_objective_falls(make_job, changes):
    job = make_job("falls", epochs=20.0, learning_rate=1e-2, **changes)
    train(job)
    losses = [row["loss"] for row in metrics_of(job)]
    assert losses[-1] < 0.8 * losses[0]


def test_adapters_are_merged_into_the_weights(make_job, student):
    lora = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": "all-linear"}
    job = make_job("lora", epochs=20.0, learning_rate=1e-2, lora=lora)
    train(job)
    losses = [row["loss"] for row in metrics_of(job)]
    assert losses[-1] < 0.9 * losses[0]
    before = load_file(student.parent / "model.safetensors")
    after = weights_of(job)
    assert after.keys() == before.keys()
    moved = {name for name, values in after.items() if not values.equal(before[name])}
    linear = {name for name in before if re.search(r"(proj)\.weight$", name)}
    assert moved == linear
    # The trained student is what was measured: its next loss is where the last one was.
    again = make_job("again", epochs=1.0, learning_rate=1e-9)
    again = again.model_copy(update={"student": job.folder})
    for path in student.parent.glob("*"):
        if not path.name.endswith((".safetensors", "manifest.json")):
            shutil.copy(path, job.folder / path.name)
    train(again)
    assert metrics_of(again)[0]["loss"] == pytest.approx(losses[-1], rel=0.1)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_recomputation_does_not_change_adapters(make_job, precision):
    """Frozen weights, dropout and a part of the layers: whatever is recomputed is the same."""
    lora = {"rank": 4, "alpha": 8.0, "dropout": 0.2, "targets": "all-linear"}
    settings = {"lora": lora, "learning_rate": 1e-2, "mixed_precision": precision}
    plain, recomputed = (
        make_job(name, gradient_checkpointing=choice, **settings)
        for name, choice in (("plain", False), ("recomputed", True))
    )
    train(plain)
    train(recomputed)
    assert_close(weights_of(recomputed), weights_of(plain), 1e-6)
    before = load_file(plain.student / "model.safetensors")
    assert max((weight - before[name]).abs().max() for name, weight in weights_of(plain).items())


def test_micro_batches_do_not_change_dropout(make_job):
    lora = {"rank": 4, "alpha": 8.0, "dropout": 0.5, "targets": "all-linear"}
    whole, parts, other = (
        make_job(name, **{"lora": lora, "learning_rate": 1e-2, **changes})
        for name, changes in (
            ("whole", {}),
            ("parts", {"micro_batch_size": 3}),
            ("other", {"lora": lora | {"dropout": 0.0}}),
        )
    )
    for job in (whole, parts, other):
        train(job)
    assert_close(weights_of(parts), weights_of(whole), 1e-5)
    assert metrics_of(other)[1]["loss"] != pytest.approx(metrics_of(whole)[1]["loss"], rel=1e-3)


def test_merged_adapters_are_added_to_exact_weights(make_job, student):
    """In bfloat16 the model is rounded, but no weight that stays as it was is."""
    lora = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": ["q_proj"]}
    job = make_job("exact", lora=lora, learning_rate=1e-2, mixed_precision="bf16")
    train(job)
    before, after = load_file(student.parent / "model.safetensors"), weights_of(job)
    moved = {name for name, values in after.items() if not values.equal(before[name])}
    assert moved == {name for name in before if "q_proj" in name}
    for name in moved:
        change = after[name] - before[name]
        assert torch.linalg.matrix_rank(change, rtol=1e-3) <= 4


def test_an_adapter_on_the_head_is_refused(make_job):
    lora = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": ["q_proj", "lm_head"]}
    with pytest.raises(ValueError, match="an adapter on the embeddings or the output head"):
        train(make_job("head", lora=lora))


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_killed_training_goes_on_with_the_same_dropout(make_job, tmp_path, precision):
    lora = {"rank": 4, "alpha": 8.0, "dropout": 0.2, "targets": "all-linear"}
    settings = {"epochs": 2.0, "batch_size": 4, "lora": lora, "mixed_precision": precision}
    whole = make_job("undisturbed", **settings, checkpoint_steps=1)
    train(whole)
    killed = make_job("killed", **settings, checkpoint_steps=1)
    kill_after_two_saves(killed, tmp_path)
    train(killed)
    assert_close(weights_of(killed), weights_of(whole), 0)


def test_a_training_may_go_on_with_smaller_micro_batches(make_job, tmp_path):
    settings = {"epochs": 2.0, "batch_size": 4, "micro_batch_size": 4}
    whole = make_job("undisturbed", **settings, checkpoint_steps=1)
    train(whole)
    killed = make_job("killed", **settings, checkpoint_steps=1)
    kill_after_two_saves(killed, tmp_path)
    resources = killed.resources.model_copy(update={"micro_batch_size": 1})
    train(killed.model_copy(update={"resources": resources}))
    assert len(metrics_of(killed)) == 4
    assert_close(weights_of(killed), weights_of(whole), 1e-5)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_killed_training_goes_on_to_the_same_bytes(make_job, tmp_path, caplog, precision):
    settings = {"epochs": 2.0, "batch_size": 2, "micro_batch_size": 1, "mixed_precision": precision}
    whole = make_job("undisturbed", **settings, checkpoint_steps=2)
    train(whole)
    assert len(metrics_of(whole)) == 8
    killed = make_job("killed", **settings, checkpoint_steps=2)
    kill_after_two_saves(killed, tmp_path)
    scratch = killed.scratch
    assert [path.name for path in scratch.iterdir()] == ["trained_00000004"]
    (scratch / "state_00000006").mkdir()  # of an earlier release
    assert not list(killed.folder.iterdir())
    (scratch / "state.draft").mkdir()  # what a kill within a save leaves
    (scratch / "state.draft" / "model.safetensors").write_bytes(b"half")
    with caplog.at_level(logging.INFO, "mpd"):
        train(killed)
    assert "resumed training after step 4" in caplog.text
    for name in ("model.safetensors", "metrics.parquet"):
        one, other = ((job.folder / name).read_bytes() for job in (killed, whole))
        assert one == other


def test_a_saved_state_is_read_without_running_it(make_job, tmp_path):
    """Another user may have written it into a store that is shared."""
    job = make_job("killed", epochs=2.0, batch_size=4, checkpoint_steps=1)
    kill_after_two_saves(job, tmp_path)
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return canary.write_text, ("run",)

    (state,) = job.scratch.glob("trained_*")
    files = list(state.glob("*.pt"))
    assert len(files) == 3  # weights, optimiser and schedule
    torch.save({"step": Bomb()}, next(state.glob("*.pkl")))
    for path in files:
        content = path.read_bytes()
        torch.save({"0": Bomb()}, path)
        describe(state)
        with pytest.raises(ValueError, match=f"^{path}: damaged, or not of this program"):
            train(job)
        path.write_bytes(content)
    assert not canary.exists()


def describe(state):
    """Describe the files of a state as they are now, as who wrote them could."""
    path = state / "description.json"
    description = json.loads(path.read_text())
    digests = {name: file_digest(state / name) for name in description["digests"]}
    path.write_text(json.dumps(checksummed({"run": description["run"], "digests": digests})))


STATES = {
    "flipped": lambda state, _: flip(state / "part_1.pt"),
    "cut": lambda state, _: os.truncate(state / "part_1.pt", 99),
    "a file missing": lambda state, _: (state / "metrics.json").unlink(),
    "metrics edited": lambda state, _: (state / "metrics.json").write_text("[]"),
    "description missing": lambda state, _: (state / "description.json").unlink(),
    "description cut": lambda state, _: os.truncate(state / "description.json", 40),
    "description edited": lambda state, _: flip(state / "description.json"),
    "empty": lambda state, _: [file.unlink() for file in state.iterdir()],
    "of another run": lambda state, other: shutil.copytree(other, state, dirs_exist_ok=True),
}


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_state_is_named_and_not_used(make_job, tmp_path, caplog):
    settings = {"epochs": 1.0, "batch_size": 2, "checkpoint_steps": 2}
    whole = make_job("undisturbed", **settings)
    train(whole)
    other = make_job("other", **settings, seed=7)
    train(other)
    (foreign,) = other.scratch.iterdir()
    caplog.set_level(logging.INFO, "mpd")
    for damage, change in STATES.items():
        job = make_job(damage, **settings)
        shutil.copytree(whole.scratch, job.scratch, dirs_exist_ok=True)
        (state,) = job.scratch.iterdir()
        assert state.name == foreign.name == "trained_00000002"
        change(state, foreign)
        caplog.clear()
        forget_accelerator()
        train(job)
        (message,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert message.startswith(str(state)), damage
        assert "training starts from an earlier state, or from its start" in message
        assert "resumed" not in caplog.text
        for name in ("model.safetensors", "metrics.parquet"):
            assert (job.folder / name).read_bytes() == (whole.folder / name).read_bytes(), damage


def test_the_state_before_a_damaged_one_is_used(make_job, caplog):
    settings = {"epochs": 2.0, "batch_size": 4, "checkpoint_steps": 1}
    whole = make_job("undisturbed", **settings)
    train(whole)
    job = make_job("killed", **settings)
    shutil.copytree(whole.scratch / "trained_00000003", job.scratch / "trained_00000003")
    (job.scratch / "trained_00000004").mkdir()
    with caplog.at_level(logging.INFO, "mpd"):
        forget_accelerator()
        train(job)
    assert "trained_00000004/description.json: no such file" in caplog.text
    assert "resumed training after step 3" in caplog.text
    assert weights_of(job).keys() == weights_of(whole).keys()
    assert_close(weights_of(job), weights_of(whole), 0)


def test_a_tracker_gets_the_metrics_of_every_step(make_job, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    job = make_job("tracked", tracker="tensorboard")
    train(job)
    metrics = table.read(job.folder / "metrics.parquet", schema.METRICS)
    events = EventAccumulator(f"{job.tracking}/mpd").Reload()
    for name in ("loss", "learning_rate", "tokens_seen"):
        logged = events.Scalars(name)
        assert [event.step for event in logged] == metrics["step"].to_list()
        assert [event.value for event in logged] == pytest.approx(metrics[name].to_list())
