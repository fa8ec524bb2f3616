"""A teacher on several devices scores as on one: layers in two parts, with their hooks."""

import pytest
import torch
from accelerate import dispatch_model

from mpd.config.resources import ScoringResources
from mpd.scoring.forward import completion_states, pack
from mpd.scoring.output_head import head_of
from mpd.scoring.packed_model import load_packed_model
from mpd.scoring.split_model import device_map, load_pair, load_split_model, place_layers

PACKED = pack([[1, 2], [3]], [[4, 5, 6], [7, 8]])


@pytest.mark.parametrize(
    ("sizes", "num_held", "num_devices", "places"),
    [
        ([1, 1, 1, 1], 0, 2, [0, 0, 1, 1]),
        ([1, 1, 1, 1], 2, 2, [0, 1, 1, 1]),
        ([1, 1, 1, 1], 9, 2, [1, 1, 1, 1]),  # the first device has more than its share
        ([1] * 8, 1, 4, [0, 1, 1, 2, 2, 2, 3, 3]),
        ([5, 1], 0, 1, [0, 0]),
    ],
)
def test_layers_are_placed_by_hand(sizes, num_held, num_devices, places):
    found = place_layers(sizes, num_held, num_devices)
    assert found == places


def test_ends_are_on_the_first_device(teacher):
    places = device_map(teacher.parent, ["first", "second"], 0)
    assert places["lm_head"] == places["model.embed_tokens"] == "first"
    layers = [place for name, place in places.items() if ".layers." in name]
    assert layers[-1] == places["model.norm"] == "second"


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_split_teacher_has_the_same_states(teacher, dtype):
    whole = load_packed_model(teacher.parent, dtype, "none")
    split = load_split_model(teacher.parent, dtype, ["cpu", "cpu"])
    # Nothing has to be moved between parts of one device; the hooks are put on all the same.
    places = device_map(teacher.parent, ["cpu", "cpu"], 0)
    dispatch_model(split, places, main_device="cpu", force_hooks=True)
    states = completion_states(split, PACKED)
    assert states.equal(completion_states(whole, PACKED))
    size = whole.config.vocab_size
    assert head_of(split, size).logits(states).equal(head_of(whole, size).logits(states))


def test_more_gpus_than_the_job_sees_are_refused(student, teacher, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"logits.gpu is 2, but this job sees 1 GPUs; lower it"):
        load_pair(student.parent, teacher.parent, "float32", ScoringResources(gpu=2))


@torch.no_grad()
@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no two GPUs")
@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_two_gpus_have_the_states_of_one(student, teacher, dtype, limit):
    whole = load_packed_model(teacher.parent, dtype, "none")
    resources = ScoringResources(gpu=2, kernels="none")
    _, split = load_pair(student.parent, teacher.parent, dtype, resources)
    assert len(set(split.hf_device_map.values())) == 2
    states, expected = (completion_states(model, PACKED).float() for model in (split, whole))
    assert states.device == expected.device
    assert (states - expected).norm() < limit * expected.norm()
