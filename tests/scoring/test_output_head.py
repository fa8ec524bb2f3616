"""The output head and the loss on it: gradients, and which models are understood."""

import math
from dataclasses import replace

import pytest
import torch

from mpd.scoring.divergence import reverse_kl
from mpd.scoring.outcomes import outcomes_of
from mpd.scoring.output_head import (
    OutputHead,
    chunked_loss,
    head_of,
    load_head,
    require_known_head,
    save_head,
)
from tests.embedded import Embedded, random

COUNT, WIDTH, SIZE = 11, 5, 16
IDS = torch.randint(SIZE, (COUNT, 1), generator=torch.Generator().manual_seed(3))
DISTINCT = torch.ones_like(IDS, dtype=torch.bool)
WEIGHTS = torch.rand(COUNT, generator=torch.Generator().manual_seed(4))
TEACHER = outcomes_of(random(COUNT, SIZE, seed=5), IDS, DISTINCT, 3)[0]


def evaluate(logits, part):
    """A weighted sparse divergence, and the entropies' sum with the number of positions."""
    student, entropy = outcomes_of(logits, IDS[part], DISTINCT[part], 3)
    loss = (reverse_kl(student, TEACHER[part]) * WEIGHTS[part]).sum()
    return loss, torch.stack([entropy.sum(), entropy.new_tensor(len(entropy))])


def tensors(frozen=()):
    """Hidden states, weight and bias, all trained but the frozen ones."""
    made = {
        "hidden": random(COUNT, WIDTH, seed=0),
        "weight": random(SIZE, WIDTH, seed=1),
        "bias": random(SIZE, seed=2),
    }
    return {name: values.requires_grad_(name not in frozen) for name, values in made.items()}


def gradients(made, loss):
    """Those of the trained tensors; None for the others."""
    (loss * 2).backward()
    return {name: values.grad for name, values in made.items()}


@pytest.mark.parametrize("chunk_size", [1, 3, 4, 11, 100])
@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (0.25, None), (1.0, 2.0), (3.0, 5.0)])
@pytest.mark.parametrize("frozen", [(), ("weight", "bias"), ("weight",), ("hidden",)])
def test_chunks_have_the_loss_and_gradient_of_the_whole(chunk_size, scale, cap, frozen):
    one, other = tensors(frozen), tensors(frozen)
    head = OutputHead(one["weight"], one["bias"], scale, cap, SIZE)
    loss, sums = chunked_loss(one["hidden"], head, evaluate, chunk_size)
    logits = (other["hidden"] @ other["weight"].T + other["bias"]) * scale
    if cap is not None:
        logits = cap * (logits / cap).tanh()
    expected, expected_sums = evaluate(logits, slice(0, COUNT))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sums, expected_sums, rtol=1e-5, atol=1e-6)
    found, wanted = gradients(one, loss), gradients(other, expected)
    assert {name for name, gradient in found.items() if gradient is None} == {*frozen}
    for name in found.keys() - {*frozen}:
        assert wanted[name].abs().max() > 1e-3
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-5)


def test_a_bias_alone_is_trained():
    frozen = ("hidden", "weight")
    made, other = tensors(frozen), tensors(frozen)
    loss, _ = chunked_loss(
        made["hidden"], OutputHead(made["weight"], made["bias"], 1.0, None, SIZE), evaluate, 4
    )
    expected, _ = evaluate(other["hidden"] @ other["weight"].T + other["bias"], slice(0, COUNT))
    found, wanted = gradients(made, loss)["bias"], gradients(other, expected)["bias"]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_head_without_bias():
    made, other = tensors(), tensors()
    loss, _ = chunked_loss(
        made["hidden"], OutputHead(made["weight"], None, 1.0, None, SIZE), evaluate, 4
    )
    expected, _ = evaluate(other["hidden"] @ other["weight"].T, slice(0, COUNT))
    found, wanted = gradients(made, loss), gradients(other, expected)
    for name in ("hidden", "weight"):
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-5)


def test_measures_have_no_gradient():
    """Else the sums that a training adds up would hold the graphs of all its steps."""
    made = tensors()
    head = OutputHead(made["weight"], made["bias"], 1.0, None, SIZE)
    loss, sums = chunked_loss(made["hidden"], head, evaluate, 4)
    assert loss.requires_grad
    assert not sums.requires_grad


def test_nothing_trained():
    made = tensors(("hidden", "weight", "bias"))
    head = OutputHead(made["weight"], made["bias"], 1.0, None, SIZE)
    loss, _ = chunked_loss(made["hidden"], head, evaluate, 4)
    assert not loss.requires_grad
    expected, _ = evaluate(head.logits(made["hidden"]), slice(0, COUNT))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("chunk_size", [3, 100])
def test_bfloat16_autocast_is_near_float32(chunk_size):
    plain, mixed = tensors(), tensors()
    results = {}
    for name, made in (("plain", plain), ("mixed", mixed)):
        head = OutputHead(made["weight"], made["bias"], 1.0, None, SIZE)
        with torch.autocast("cpu", torch.bfloat16, enabled=name == "mixed"):
            loss, _ = chunked_loss(made["hidden"], head, evaluate, chunk_size)
        assert loss.dtype == torch.float32
        results[name] = loss.item(), gradients(made, loss)
    assert results["mixed"][0] != results["plain"][0]
    assert results["mixed"][0] == pytest.approx(results["plain"][0], rel=0.02)
    for name, gradient in results["mixed"][1].items():
        exact = results["plain"][1][name]
        assert gradient.dtype == torch.float32
        assert (gradient - exact).norm() < 0.02 * exact.norm()


def test_bfloat16_states_have_a_bfloat16_gradient():
    made = tensors()
    hidden = made["hidden"].detach().bfloat16().requires_grad_()
    head = OutputHead(made["weight"].detach().bfloat16(), None, 1.0, None, SIZE)
    loss, _ = chunked_loss(hidden, head, evaluate, 4)
    loss.backward()
    assert (loss.dtype, hidden.grad.dtype) == (torch.float32, torch.bfloat16)


def test_masked_positions_have_no_loss_and_no_gradient(monkeypatch):
    made = tensors()
    head = OutputHead(made["weight"], made["bias"], 1.0, None, SIZE)
    weights = WEIGHTS.clone()
    weights[[2, 7]] = 0
    monkeypatch.setitem(globals(), "WEIGHTS", weights)
    loss, _ = chunked_loss(made["hidden"], head, evaluate, 4)
    found = gradients(made, loss)
    assert not found["hidden"][[2, 7]].any()
    assert found["hidden"][[0, 1, 3]].abs().sum(-1).min() > 0
    monkeypatch.setitem(globals(), "WEIGHTS", torch.zeros(COUNT))
    made = tensors()
    head = OutputHead(made["weight"], made["bias"], 1.0, None, SIZE)
    loss, _ = chunked_loss(made["hidden"], head, evaluate, 4)
    assert loss.item() == 0
    assert not any(gradient.any() for gradient in gradients(made, loss).values())


def test_shape_by_hand():
    raw = torch.tensor([[-4.0, 0.0, 8.0]])
    weight = torch.zeros(3, 2)
    assert OutputHead(weight, None, 1.0, None, 3).shape(raw) is raw
    assert OutputHead(weight, None, 0.25, None, 3).shape(raw).tolist() == [[-1.0, 0.0, 2.0]]
    capped = OutputHead(weight, None, 0.25, 2.0, 3).shape(raw)
    expected = [2 * math.tanh(-0.5), 0.0, 2 * math.tanh(1.0)]
    assert capped[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_logits_are_float32_of_the_real_ids():
    model = Embedded(20, 4).bfloat16()
    head = head_of(model, 17)
    hidden = random(3, 4, seed=1).bfloat16()
    assert head.logits(hidden).dtype == torch.float32
    assert head.logits(hidden).equal(model.head(hidden)[:, :17].float())


def test_rows_are_filled_up_to_a_multiple_of_eight():
    """The product over aligned rows has the logits and the gradients of the sliced weights."""
    made = tensors()
    model = Embedded(SIZE - 3, WIDTH)  # 13 rows, of which 11 are tokens
    head = head_of(model, SIZE - 5)
    assert (len(head.weight), head.size) == (SIZE, SIZE - 5)
    logits = made["hidden"] @ model.head.weight[: SIZE - 5].T
    torch.testing.assert_close(head.logits(made["hidden"]), logits)
    loss, _ = chunked_loss(made["hidden"], head, lambda logits, _: (logits.square().sum(),) * 2, 4)
    found = torch.autograd.grad(loss, [made["hidden"], model.head.weight])
    expected = torch.autograd.grad(logits.square().sum(), [made["hidden"], model.head.weight])
    torch.testing.assert_close(found, expected)


def test_padded_rows_have_no_gradient():
    model = Embedded(SIZE + 3, WIDTH)
    loss, _ = chunked_loss(tensors()["hidden"], head_of(model, SIZE), evaluate, 4)
    loss.backward()
    assert model.head.weight.grad[:SIZE].abs().sum(-1).min() > 0
    assert not model.head.weight.grad[SIZE:].any()


@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (1 / 3, 30.0)])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_a_saved_head_is_loaded_as_it_was(tmp_path, scale, cap, has_bias, dtype, device):
    model = Embedded(20, 4).to(dtype)
    bias = random(24, seed=2).to(dtype) if has_bias else None
    head = replace(head_of(model, 17), bias=bias, scale=scale, cap=cap)
    path = tmp_path / "head.safetensors"
    save_head(head, path, "digest of the teacher")
    again = tmp_path / "again.safetensors"
    save_head(head, again, "digest of the teacher")
    assert again.read_bytes() == path.read_bytes()
    found = load_head(path, torch.device(device))
    assert found.weight.dtype == dtype
    assert (found.size, len(found.weight)) == (17, 24)
    assert found.weight[:17].equal(head.weight[:17])
    assert not found.weight[17:].any()
    assert not found.weight.requires_grad
    assert (found.scale, found.cap) == (scale, cap)
    assert found.bias is None if bias is None else found.bias[:17].equal(bias[:17])


@pytest.mark.parametrize(
    ("change", "config"),
    [
        (lambda logits: logits, {}),
        (lambda logits: logits / 8, {"logits_scaling": 8.0}),
        (lambda logits: logits * 0.5, {"logit_scale": 0.5}),
        (lambda logits: 2 * (logits / 2).tanh(), {"final_logit_softcapping": 2.0}),
        (lambda logits: logits, {"final_logit_softcapping": None, "logit_scale": None}),
    ],
)
def test_heads_that_are_known(change, config):
    model = Embedded(20, 4, change=change, **config)
    require_known_head(model)
    hidden = model.base_model(torch.arange(9)).last_hidden_state
    found = head_of(model, 20).logits(hidden)
    torch.testing.assert_close(found, model.change(model.head(hidden)))


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: 2 * (logits / 2).tanh(),
        lambda logits: logits * 0.9,
        lambda logits: logits + torch.arange(20.0) / 20,
        lambda logits: logits.log_softmax(-1),
    ],
    ids=["cap", "scale", "bias", "softmax"],
)
def test_a_head_that_does_more_is_refused(change):
    with pytest.raises(ValueError, match="Embedded: its logits are not its output head applied"):
        require_known_head(Embedded(20, 4, change=change))


TINY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
}


@pytest.mark.parametrize(
    ("family", "config", "scale", "cap"),
    [
        ("Gemma2", {"head_dim": 8, "final_logit_softcapping": 3.0}, 1.0, 3.0),
        ("Granite", {"logits_scaling": 4.0}, 0.25, None),
        ("Cohere", {"logit_scale": 0.125}, 0.125, None),
    ],
)
def test_families_that_scale_or_cap(family, config, scale, cap):
    import transformers

    made = getattr(transformers, f"{family}Config")(**TINY, **config)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, f"{family}ForCausalLM")(made).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)  # else nothing would be capped
        ids = torch.arange(1, 9)[None]
        require_known_head(model)
        head = head_of(model, 30)
        assert (head.scale, head.cap) == (scale, cap)
        hidden = model.base_model(input_ids=ids).last_hidden_state[0]
        logits = model(input_ids=ids).logits[0, :, :30]
        torch.testing.assert_close(head.logits(hidden), logits, rtol=0, atol=1e-5)
        plain = replace(head, scale=1.0, cap=None).logits(hidden)
        assert (plain - logits).abs().max() > 0.5
