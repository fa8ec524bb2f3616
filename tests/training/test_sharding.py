"""Weights that are divided among processes: the same training, on two CPU processes."""

import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from mpd.config.distill import DistillSettings
from mpd.store import schema, table
from mpd.store.model_folder import empty_model, load_model
from mpd.training.loop import start, train
from tests.training.jobs import KILLED_AFTER_TWO_SAVES, forget_accelerator, job_in, launch

SETTINGS = DistillSettings(learning_rate=1e-3, warmup=0, epochs=3, batch_size=4)
LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.2, "targets": "all-linear"}
BYTES_OF_EACH = """
import sys
from mpd.training.job import TrainingJob
from mpd.training.loop import start
run = start(TrainingJob.model_validate_json(open(sys.argv[1]).read()))
next(run.measures)
held = [tensor.to_local() for tensor in run.saved.tensors(1).values()]
held += [weight.grad.to_local() for weight in run.weights.trained if weight.grad is not None]
sys.stderr.write(f"held {sum(tensor.nbytes for tensor in held)}.")
"""


PASS_BEFORE_RESUMING = """
import sys
from mpd.scoring.forward import pack
from mpd.training import loop
from mpd.training.checkpoints import SavedStates
from mpd.training.job import TrainingJob
from mpd.training.sharding import sharded_states
resume, load_sharded, models = SavedStates.resume, loop.load_sharded, []
def keep(*arguments):
    models.append(load_sharded(*arguments))
    return models[-1]
def pass_and_resume(saved):
    sharded_states(models[0], pack([[0]], [[0, 0, 0]]))
    return resume(saved)
loop.load_sharded, SavedStates.resume = keep, pass_and_resume
loop.train(TrainingJob.model_validate_json(open(sys.argv[1]).read()))
"""


@pytest.fixture(autouse=True)
def fresh_accelerator():
    yield
    forget_accelerator()


@pytest.fixture
def make_job(cached, student, tmp_path):
    """A function that makes the job of a training run in a folder of its own."""

    def make(name, of=student, **changes):
        resources = {"micro_batch_size": 1, "sharding": "full"}
        return job_in(tmp_path / name, of, cached, SETTINGS, resources, changes)

    return make


def trained(job, num_processes=2):
    code, errors = launch(job, num_processes)
    assert code == 0, errors
    return errors


def weights_of(job):
    return load_file(job.folder / "model.safetensors")


def assert_same_training(one, other, atol=1e-5, rel=1e-4):
    """Equal weights and metrics but for rounding: losses, norms and rates of every step."""
    weights, same = weights_of(one), weights_of(other)
    assert weights.keys() == same.keys()
    for name, values in weights.items():
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, same[name], rtol=0, atol=atol)
    rows, expected = (
        table.read(job.folder / "metrics.parquet", schema.METRICS).to_dicts()
        for job in (one, other)
    )
    assert len(rows) == len(expected) == 6
    for row, same_row in zip(rows, expected, strict=True):
        assert row == pytest.approx(same_row, rel=rel)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mixed_precision": "bf16"},
        {"lora": LORA},
        {"lora": LORA, "mixed_precision": "bf16"},
        {"gradient_checkpointing": True, "mixed_precision": "bf16"},
    ],
    ids=str,
)
def test_sharded_weights_have_the_same_update(make_job, settings):
    one, sharded = (make_job(name, **settings) for name in ("one", "sharded"))
    train(one)
    trained(sharded)
    assert_same_training(sharded, one)
    assert {path.name for path in sharded.folder.iterdir()} == {
        path.name for path in one.folder.iterdir()
    }


def test_a_head_of_its_own_is_sharded_too(make_job, student, tmp_path):
    """Most small students share it with the embeddings; this one does not."""
    folder = tmp_path / "untied"
    shutil.copytree(student.parent, folder, ignore=shutil.ignore_patterns("manifest.json"))
    model = load_model(student.parent, "float32")
    model.config.tie_word_embeddings = False
    head = model.get_input_embeddings().weight.detach() * 1.1
    model.lm_head.weight = torch.nn.Parameter(head)
    model.save_pretrained(folder)
    one, sharded = (make_job(name, of=folder / "manifest.json") for name in ("one", "sharded"))
    train(one)
    trained(sharded)
    assert "lm_head.weight" in weights_of(sharded)
    assert_same_training(sharded, one)


def test_every_process_holds_its_part(make_job, student):
    """Of the float32 weights and the moments beside a bfloat16 model, half or a padded row more."""
    job = make_job("parts", mixed_precision="bf16")
    code, errors = launch(job, script=script_of(job, BYTES_OF_EACH))
    assert code == 0, errors
    held = [int(size) for size in re.findall(r"held (\d+)\.", errors)]
    weights = load_file(student.parent / "model.safetensors").values()
    total = 3 * sum(4 * weight.numel() for weight in weights)
    assert len(held) == 2
    assert sum(held) == total
    assert max(held) < 0.51 * total


def script_of(job, text):
    path = job.scratch.parent / "script.py"
    path.write_text(text)
    return (str(path),)


@pytest.mark.parametrize(("num_processes", "precision", "atol"), [(2, "bf16", 0), (3, "no", 1e-5)])
def test_a_killed_training_goes_on_from_its_parts(make_job, num_processes, precision, atol):
    settings = {"checkpoint_steps": 1, "mixed_precision": precision, "micro_batch_size": 2}
    whole, killed = (make_job(name, **settings) for name in ("undisturbed", "killed"))
    trained(whole)
    code, _ = launch(killed, script=script_of(killed, KILLED_AFTER_TWO_SAVES))
    assert code != 0
    (state,) = killed.scratch.glob("trained_*")
    assert state.name == "trained_00000002"
    assert len(list(state.glob("*.safetensors"))) == 2
    errors = trained(killed, num_processes)
    assert "resumed training after step 2" in errors
    assert_same_training(killed, whole, atol=atol)


def test_a_pass_before_resuming_leaves_no_old_weights(make_job):
    """As that which measures the memory of a GPU, with the weights that the training began with."""
    settings = {"checkpoint_steps": 1, "micro_batch_size": 2, "learning_rate": 0.1}
    whole, killed = (make_job(name, **settings) for name in ("undisturbed", "killed"))
    trained(whole)
    launch(killed, script=script_of(killed, KILLED_AFTER_TWO_SAVES))
    assert (killed.scratch / "trained_00000002").is_dir()
    code, errors = launch(killed, script=script_of(killed, PASS_BEFORE_RESUMING))
    assert code == 0, errors
    assert_same_training(killed, whole)


def test_a_damaged_part_is_named_and_not_used(make_job):
    settings = {"checkpoint_steps": 5}
    whole, damaged = (make_job(name, **settings) for name in ("undisturbed", "damaged"))
    trained(whole)
    shutil.copytree(whole.scratch, damaged.scratch, dirs_exist_ok=True)
    (state,) = damaged.scratch.glob("trained_*")
    part = next(state.glob("*.safetensors"))
    content = bytearray(part.read_bytes())
    content[-5] ^= 1
    part.write_bytes(content)
    errors = trained(damaged)
    assert f"{part}: expected the content with SHA-256" in errors
    assert "resumed" not in errors
    assert_same_training(damaged, whole, atol=0)


def test_a_state_that_is_sharded_otherwise_is_refused(make_job):
    settings = {"checkpoint_steps": 5}
    sharded, alone = (make_job(name, **settings) for name in ("sharded", "alone"))
    trained(sharded)
    shutil.copytree(sharded.scratch, alone.scratch, dirs_exist_ok=True)
    with pytest.raises(ValueError, match=r"was saved with .*sharding: full; set"):
        train(alone)


def test_threads_are_divided_among_processes(make_job):
    before = torch.get_num_threads()
    try:
        start(make_job("threads", threads=6, num_processes=3, sharding="none"))
        assert torch.get_num_threads() == 2
        start(make_job("few", threads=1, num_processes=3, sharding="none"))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_an_empty_model_shares_its_head_as_its_model_does(student, tmp_path):
    model = load_model(student.parent, "float32")
    for is_tied in (False, True):
        model.config.tie_word_embeddings = is_tied
        model.config.save_pretrained(tmp_path)
        empty = empty_model(tmp_path, "eager")
        shared = empty.get_output_embeddings().weight is empty.get_input_embeddings().weight
        assert shared == is_tied
        assert {weight.device.type for weight in empty.parameters()} == {"meta"}
