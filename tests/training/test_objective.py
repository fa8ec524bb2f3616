"""The objective: its memory, cross-entropy by hand, and merged stop ids."""

import math
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mpd.config.distill import ClampedSettings, DistillSettings
from mpd.scoring.forward import pack
from mpd.scoring.outcomes import outcomes_of
from mpd.scoring.output_head import head_of
from mpd.training.batches import MicroBatch
from mpd.training.objective import SUMS, Objective
from tests.changes import with_changes
from tests.embedded import Embedded, random

SETTINGS = DistillSettings(learning_rate=1.0)


def batch_of(lengths, num_ids, num_entries=3, num_buckets=2, seed=0):
    """A micro-batch of random sequences, as training makes it, with the supports of a teacher."""
    generator = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(num_ids, (2,), generator=generator).tolist() for _ in lengths]
    completions = [
        torch.randint(num_ids, (length,), generator=generator).tolist() for length in lengths
    ]
    realised = torch.tensor(list(chain(*completions)))
    entries = torch.rand(len(realised), num_ids, generator=generator)
    entries.scatter_(1, realised[:, None], 2.0)  # the realised id first
    support = entries.topk(num_entries).indices
    ends = torch.tensor(lengths).cumsum(0) - 1
    stops = torch.zeros(len(realised), dtype=torch.bool)
    stops[ends] = True
    weight = torch.full((len(realised),), 1 / len(realised))
    teacher = torch.rand(len(realised), num_entries + num_buckets, generator=generator)
    places = {
        "realised": realised,
        "closes": torch.zeros_like(stops),
        "stops": stops,
        "weight": weight,
        "sequence_weight": weight,
        "support_ids": support.int(),
        "distinct": torch.ones_like(support, dtype=torch.bool),
        "teacher": teacher.log().log_softmax(-1),
    }
    return MicroBatch(pack(prompts, completions), places)


class Sizes(TorchDispatchMode):
    """The number of elements of every tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        made = function(*arguments, **(named or {}))
        for value in tree_leaves(made):
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel())
        return made


LENGTHS, NUM_IDS, CHUNK = [60, 55, 50, 35], 600, 8


def without_teacher(batch, **others):
    """A micro-batch without its supports, and with other tensors."""
    names = batch.places.keys() - {"support_ids", "teacher"}
    return MicroBatch(batch.packed, {name: batch.places[name] for name in names} | others)


@pytest.mark.parametrize("kind", ["sparse", "merged", "hidden", "cross-entropy"])
def test_no_tensor_has_positions_times_vocabulary(kind):
    """Forward and backward; what is checked sees such a tensor where there is one chunk."""
    changes = {
        "merged": {"merge_stop_ids": True},
        "cross-entropy": {"divergence": "cross_entropy"},
    }
    width, count = 8, sum(LENGTHS)
    model = Embedded(NUM_IDS, width)
    batch = batch_of(LENGTHS, NUM_IDS)
    control = torch.tensor([5, 9]).int().expand(count, -1)
    batch.places["support_ids"] = torch.cat([batch.places["support_ids"][:, :1], control], 1)
    batch.places["distinct"] = batch.places["support_ids"] != batch.places["support_ids"][:, :1]
    batch.places["distinct"][:, 0] = True
    if kind == "hidden":
        batch = without_teacher(batch, teacher_hidden=random(count, width, seed=1))

    def largest(chunk_size):
        settings = with_changes(SETTINGS, **changes.get(kind, {}))
        objective = Objective(model, NUM_IDS, [5, 9], settings, chunk_size)
        objective.teacher_head = head_of(Embedded(NUM_IDS, width, seed=2), NUM_IDS)
        with Sizes() as sizes:
            loss, _ = objective(batch)
            loss.backward()
        assert torch.isfinite(model.head.weight.grad).all()
        return sizes.largest

    parameters = max(values.numel() for values in model.parameters())
    places = batch.packed.ids.numel() * width
    assert largest(CHUNK) <= max(CHUNK * NUM_IDS, parameters, places) < count * NUM_IDS / 10
    assert largest(count) >= count * NUM_IDS


def sums_of(objective, batch):
    loss, sums = objective(batch)
    return loss, dict(zip(SUMS, sums.tolist(), strict=True))


def test_cross_entropy_is_that_of_the_realised_ids():
    """By hand of logits; it needs no teacher, be its cache of supports or of hidden states."""
    model = Embedded(12, 4)
    batch = batch_of([3, 2], 12)
    logits = model.head(model.base_model.weight[batch.packed.ids[0, batch.packed.predicts]])
    logprobs = logits.log_softmax(-1).gather(1, batch.places["realised"][:, None])[:, 0]
    settings = with_changes(SETTINGS, divergence="cross_entropy")
    hidden = without_teacher(batch, teacher_hidden=torch.zeros(5, 4))
    for own in (batch, without_teacher(batch), hidden):
        loss, sums = sums_of(Objective(model, 12, [5], settings, 2), own)
        assert loss.item() == pytest.approx(-logprobs.mean().item(), abs=1e-6)
        assert sums["divergence"] == pytest.approx(-logprobs.sum().item(), abs=1e-5)
        assert sums["realised_logprob"] == pytest.approx(logprobs.sum().item(), abs=1e-5)
        assert sums["positions"] == 5


@pytest.mark.parametrize("kind", ["sparse", "hidden", "cross-entropy"])
def test_realised_stop_ids_are_one_outcome(kind):
    """Whichever stop id stands at the end, its probability is that of all of them."""
    changes = {"divergence": "cross_entropy"} if kind == "cross-entropy" else {}
    settings = with_changes(SETTINGS, merge_stop_ids=True, **changes)
    model, teacher = Embedded(12, 4), Embedded(12, 4, seed=1)
    found = {}
    for stop in (5, 9):
        batch = batch_of([3], 12)
        batch.places["realised"] = torch.tensor([1, 2, stop])
        control = torch.tensor([5, 9]).int().expand(3, -1)
        batch.places["support_ids"] = torch.cat(
            [batch.places["realised"][:, None].int(), control], 1
        )
        batch.places["distinct"] = batch.places["support_ids"] != batch.places["support_ids"][:, :1]
        batch.places["distinct"][:, 0] = True
        hidden = teacher.base_model.weight[batch.packed.ids[0, batch.packed.predicts]].detach()
        ids, distinct = batch.places["support_ids"].long(), batch.places["distinct"]
        batch.places["teacher"] = outcomes_of(teacher.head(hidden), ids, distinct, 2)[0].detach()
        if kind == "hidden":
            del batch.places["support_ids"], batch.places["teacher"]
            batch.places["teacher_hidden"] = hidden
        objective = Objective(model, 12, [5, 9], settings, 2)
        objective.teacher_head = head_of(teacher, 12)
        found[stop] = sums_of(objective, batch)[1]
        own = model.base_model.weight[batch.packed.ids[0, batch.packed.predicts]]
        p = model.head(own).detach().softmax(-1)
        stopping = p[2, [5, 9]].sum().item()
        expected = math.log(p[0, 1]) + math.log(p[1, 2]) + math.log(stopping)
        assert found[stop]["realised_logprob"] == pytest.approx(expected, abs=1e-5)
        assert found[stop]["stop_mass"] == pytest.approx(stopping, abs=1e-6)
    assert found[5] == pytest.approx(found[9], abs=1e-6)


@pytest.mark.parametrize("chunk_size", [3, 64])
@pytest.mark.parametrize("temperature", [1.0, 1.1])
def test_the_clamped_forward_kl_is_exact_with_hidden_states(temperature, chunk_size):
    """Loss and gradient at the head in float64, by a loop over positions and ids."""
    model, teacher = Embedded(40, 4), Embedded(40, 4, seed=1)
    batch = batch_of([9, 6], 40)
    states = random(15, 4, seed=2)
    batch = without_teacher(batch, teacher_hidden=states)
    settings = ClampedSettings(
        learning_rate=1.0,
        divergence="clamped_forward_kl",
        max_entry=0.02,
        temperature=temperature,
    )
    objective = Objective(model, 40, [5], settings, chunk_size)
    objective.teacher_head = head_of(teacher, 40)
    loss, sums = sums_of(objective, batch)
    loss.backward()

    weight, embedded = (
        values.detach().double().numpy() for values in (model.head.weight, model.base_model.weight)
    )
    teacher_logits = states.double().numpy() @ teacher.head.weight.detach().double().numpy().T
    inputs = batch.packed.ids[0, batch.packed.predicts].tolist()
    expected, gradient, num_clamped = 0.0, np.zeros_like(weight), 0
    for token, logits in zip(inputs, teacher_logits, strict=True):
        p, q = (
            np.exp(values / temperature) / np.exp(values / temperature).sum()
            for values in (weight @ embedded[token], logits)
        )
        terms = q * (np.log(q) - np.log(p))
        is_free = terms <= 0.02
        num_clamped += (~is_free).sum()
        expected += np.minimum(terms, 0.02).sum() / 15
        # Of -q log p of the terms that are not clamped, with respect to the logits.
        slopes = (q[is_free].sum() * p - q * is_free) / temperature
        gradient += np.outer(slopes, embedded[token]) / 15
    assert 0 < num_clamped < 15 * 40
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert sums["divergence"] / sums["positions"] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(model.head.weight.grad, gradient, rtol=1e-4, atol=1e-6)
