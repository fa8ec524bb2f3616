"""Choosing an id from logits, and the generation engine against transformers' own."""

import math

import numpy as np
import pytest
import torch

from mpd.config.generation import Decoding
from mpd.config.resources import GenerationResources
from mpd.engines import transformers
from mpd.engines.base import Completion, Request, seed_of
from mpd.engines.tasks import require_room
from mpd.engines.transformers import TransformersEngine, choose
from tests.changes import with_changes

GREEDY = Decoding(temperature=0, max_new_tokens=16)
SAMPLED = Decoding(max_new_tokens=16)
FREE = Decoding()
FOUR = GenerationResources(batch_size=4)
QUESTIONS = ("1+3-2", "4-1+5-6+1", "2+2", "6-5+3-1")
LAST = 1 - 2**-24  # the largest uniform below 1 in float32


def ids_at(probabilities, uniforms, decoding):
    """The ids that `choose` gives for one distribution at many uniforms."""
    logits = torch.tensor(probabilities).log().expand(len(uniforms), -1)
    return choose(logits, decoding, torch.tensor(uniforms)).tolist()


@pytest.mark.parametrize(
    ("decoding", "probabilities", "expected"),
    [
        # Uniforms 0, 0.1, 0.3, 0.5, 0.7, 0.9 and the last one before 1.
        (FREE, [0.2, 0.4, 0.4], [0, 0, 1, 1, 2, 2, 2]),
        (FREE, [0.0, 1.0, 0.0], [1, 1, 1, 1, 1, 1, 1]),
        (FREE, [0.0, 0.4, 0.0, 0.6], [1, 1, 1, 3, 3, 3, 3]),
        # Temperature 0.5 squares: 1/9, 4/9, 4/9.
        (Decoding(temperature=0.5), [0.2, 0.4, 0.4], [0, 0, 1, 1, 2, 2, 2]),
        # 1/5 and 4/5.
        (Decoding(temperature=0.5), [1 / 3, 2 / 3], [0, 0, 1, 1, 1, 1, 1]),
        # Temperature 2 takes roots: 0.1 : 0.9 becomes 1/4 : 3/4.
        (Decoding(temperature=2.0), [0.1, 0.9], [0, 0, 1, 1, 1, 1, 1]),
        (Decoding(top_k=1), [0.3, 0.4, 0.3], [1, 1, 1, 1, 1, 1, 1]),
        # 0.3 and 0.5 of 0.8: the border is 0.375.
        (Decoding(top_k=2), [0.3, 0.2, 0.5], [0, 0, 0, 2, 2, 2, 2]),
        (Decoding(top_k=3), [0.3, 0.2, 0.5], [0, 0, 1, 2, 2, 2, 2]),
        (Decoding(top_k=9), [0.3, 0.2, 0.5], [0, 0, 1, 2, 2, 2, 2]),
        # The most probable stays, whatever top_p is; then one joins where it is passed.
        (Decoding(top_p=0.1), [0.3, 0.2, 0.5], [2, 2, 2, 2, 2, 2, 2]),
        (Decoding(top_p=0.6), [0.3, 0.2, 0.5], [0, 0, 0, 2, 2, 2, 2]),
        (Decoding(top_p=0.9), [0.3, 0.2, 0.5], [0, 0, 1, 2, 2, 2, 2]),
        # Top-k comes first: of 0.3 and 0.5, 0.5 has 0.625 of what is left.
        (Decoding(top_k=2, top_p=0.6), [0.3, 0.2, 0.5], [2, 2, 2, 2, 2, 2, 2]),
        (Decoding(temperature=0), [0.3, 0.2, 0.5], [2, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_choose_inverts_the_distribution_function(decoding, probabilities, expected):
    assert ids_at(probabilities, [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, LAST], decoding) == expected


def test_rows_are_chosen_on_their_own():
    logits = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]]).log()
    assert choose(logits, FREE, torch.tensor([0.5, 0.5, 0.75])).tolist() == [0, 1, 1]


@pytest.mark.parametrize("decoding", [FREE, Decoding(top_k=40), Decoding(top_p=0.9)])
def test_an_id_without_probability_is_never_chosen(decoding):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 300, generator=generator) * 3
    nothing = torch.rand(300, generator=generator) < 0.5
    nothing[[0, -1]] = True
    logits[:, nothing] = float("-inf")
    grid = [0.0, 1e-45, 1e-9, *np.linspace(0, 1, 2001).tolist(), LAST, 1 - 1e-9, 1.0]
    chosen = choose(logits.expand(len(grid), -1), decoding, torch.tensor(grid))
    assert not nothing[chosen].any()
    assert len(chosen.unique()) > 10  # the grid reaches many of the others


def test_frequencies_are_the_softmax():
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5])
    num = 200_000
    uniforms = torch.tensor(np.random.Generator(np.random.Philox(0)).random(num)).float()
    counts = choose(logits.expand(num, -1), FREE, uniforms).bincount(minlength=5)
    total = sum(math.exp(value) for value in logits.tolist())
    for count, logit in zip(counts.tolist(), logits.tolist(), strict=True):
        expected = math.exp(logit) / total
        five_sigma = 5 * math.sqrt(expected * (1 - expected) / num)
        assert abs(count / num - expected) < five_sigma


def test_seeds_are_digests_of_what_identifies_a_sample():
    import hashlib

    digest = hashlib.sha256(b"sample:0:abc-1").digest()
    assert seed_of("sample", 0, "abc-1") == int.from_bytes(digest[:8], "little") // 2
    assert seed_of("sample", 0, "abc-1") < 2**63
    assert len({seed_of("a", 1), seed_of("a", 2), seed_of("b", 1), seed_of("a", 1, 0)}) == 4


@pytest.fixture(scope="module")
def engine(student, chat):
    return TransformersEngine(student, "float32", FOUR)


@pytest.fixture(scope="module")
def requests(engine, tiny_prompts):
    return [
        Request(tiny_prompts.problem_ids(question), seed)
        for seed, question in enumerate(QUESTIONS * 2)
    ]


@pytest.fixture(scope="module")
def sampled(engine, requests):
    return engine.generate(requests, SAMPLED)


def with_batches_of(engine, size, requests, decoding):
    engine.batch_size, before = size, engine.batch_size
    try:
        return engine.generate(requests, decoding)
    finally:
        engine.batch_size = before


def ids(completions):
    return [completion.token_ids for completion in completions]


def test_greedy_is_that_of_transformers(engine, requests):
    mine = engine.generate(requests[:4], GREEDY)
    for request, completion in zip(requests[:4], mine, strict=True):
        prompt = torch.tensor([request.prompt_ids])
        theirs = engine.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=GREEDY.max_new_tokens,
        )
        assert completion.token_ids == theirs[0, prompt.shape[1] :].tolist()
    assert len({tuple(completion.token_ids) for completion in mine}) == 4


@torch.inference_mode()
def test_logprobs_are_those_of_one_full_pass(engine, requests, sampled):
    for request, completion in zip(requests, sampled, strict=True):
        start = len(request.prompt_ids)
        logits = engine.model(torch.tensor([request.prompt_ids + completion.token_ids])).logits
        full = torch.log_softmax(logits[0, start - 1 : -1].double(), -1)
        expected = full.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        np.testing.assert_allclose(completion.logprobs, expected.numpy(), rtol=0, atol=1e-4)


def test_logprobs_are_the_models_own_whatever_the_decoding(engine, requests):
    decoding = with_changes(GREEDY, temperature=0.7, top_k=5, top_p=0.8)
    (completion,) = engine.generate(requests[:1], decoding)
    with torch.inference_mode():
        prompt = requests[0].prompt_ids
        logits = engine.model(torch.tensor([prompt + completion.token_ids])).logits
    full = torch.log_softmax(logits[0, len(prompt) - 1 : -1].double(), -1)
    expected = full.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
    np.testing.assert_allclose(completion.logprobs, expected.numpy(), rtol=0, atol=1e-4)
    assert (full.topk(5).indices == torch.tensor(completion.token_ids)[:, None]).any(1).all()


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED])
def test_a_completion_does_not_depend_on_its_neighbours(engine, requests, decoding):
    together = ids(engine.generate(requests, decoding))
    assert ids(with_batches_of(engine, 1, requests, decoding)) == together
    assert ids(with_batches_of(engine, 8, requests, decoding)) == together
    assert ids(engine.generate(requests[::-1], decoding)) == together[::-1]
    assert ids(engine.generate(requests[3:5], decoding)) == together[3:5]


def test_samples_differ_by_seed_and_the_limit_only_cuts(engine, requests, sampled):
    prompt = requests[0].prompt_ids
    assert sampled[0].token_ids != sampled[4].token_ids  # the same prompt
    again = engine.generate([Request(prompt, 0), Request(prompt, 0), Request(prompt, 99)], SAMPLED)
    assert again[0].token_ids == again[1].token_ids == sampled[0].token_ids
    assert again[2].token_ids != sampled[0].token_ids
    short = engine.generate(requests, with_changes(SAMPLED, max_new_tokens=5))
    assert ids(short) == [sequence[:5] for sequence in ids(sampled)]


def test_finish_reasons(engine, requests, sampled):
    stop = engine.vocabulary.stop_ids[0]
    reasons = {completion.finish_reason for completion in sampled}
    assert reasons == {"stop", "length"}  # both occur among these requests
    for completion in sampled:
        assert stop not in completion.token_ids[:-1]
        assert (completion.finish_reason == "stop") == (completion.token_ids[-1] == stop)
        if completion.finish_reason == "length":
            assert len(completion.token_ids) == SAMPLED.max_new_tokens
        assert len(completion.logprobs) == len(completion.token_ids)


def test_a_prompt_without_room_comes_back_as_too_long(engine, requests):
    sizes = [len(request.prompt_ids) for request in requests[:3]]
    assert sizes[1] > max(sizes[0], sizes[2])
    engine.context_length, before = sizes[1] + 3, engine.context_length
    try:
        fits = engine.generate(requests[:3], with_changes(GREEDY, max_new_tokens=3))
        tight = engine.generate(requests[:3], with_changes(GREEDY, max_new_tokens=4))
    finally:
        engine.context_length = before
    assert "too_long" not in {done.finish_reason for done in fits}
    assert tight[1] == Completion([], [], "too_long")
    assert [done.token_ids[:3] for done in tight] == [fits[0].token_ids, [], fits[2].token_ids]


def test_progress_counts_every_sequence_and_token_once(engine, requests, sampled):
    calls = []
    engine.generate(requests, SAMPLED, lambda sequences, tokens: calls.append((sequences, tokens)))
    assert sum(sequences for sequences, _ in calls) == len(requests)
    assert sum(tokens for _, tokens in calls) == sum(len(done.token_ids) for done in sampled)
    assert all(sequences or tokens for sequences, tokens in calls)  # no call reports nothing


def test_no_requests_give_no_completions(engine):
    assert engine.generate([], SAMPLED) == []


def test_weights_are_loaded_when_a_completion_is_asked_for(
    student, chat, requests, monkeypatch, tiny_prompts
):
    loaded = []
    load = transformers.load_model
    monkeypatch.setattr(transformers, "load_model", lambda *of: loaded.append(1) or load(*of))
    fresh = TransformersEngine(student, "float32", FOUR)
    assert fresh.fits(tiny_prompts.problem_ids("1+2"), GREEDY)
    assert fresh.generate([], GREEDY) == []
    assert loaded == []
    fresh.generate(requests[:2], GREEDY)
    fresh.generate(requests[:2], GREEDY)
    assert loaded == [1]


def test_prompts_of_which_none_fits_are_refused(engine, requests):
    prompts = [request.prompt_ids for request in requests]
    shortest, context = min(map(len, prompts)), engine.context_length
    fitting = Decoding(max_new_tokens=context - shortest)
    require_room(engine, prompts, fitting, "sample.max_new_tokens")
    require_room(engine, [], Decoding(max_new_tokens=999), "sample.max_new_tokens")
    tight = Decoding(max_new_tokens=context - shortest + 1)
    with pytest.raises(ValueError) as caught:
        require_room(engine, iter(prompts), tight, "sample.max_new_tokens")
    assert str(caught.value) == (
        f"no prompt leaves room for sample.max_new_tokens = {context - shortest + 1} in the "
        f"model's context of {context} tokens; lower it"
    )


def test_every_stop_id_stops(engine, requests, sampled):
    cut = next(done for done in sampled if len(done.token_ids) > 6)
    request = requests[sampled.index(cut)]
    extra = cut.token_ids[3]
    where = cut.token_ids.index(extra) + 1
    engine.vocabulary.stop_ids.append(extra)
    try:
        (shorter,) = engine.generate([request], SAMPLED)
    finally:
        engine.vocabulary.stop_ids.remove(extra)
    assert shorter.token_ids == cut.token_ids[:where]
    assert shorter.finish_reason == "stop"


def test_padded_rows_are_never_sampled(teacher, chat, tiny_prompts):
    engine = TransformersEngine(teacher, "float32", FOUR)
    size = engine.vocabulary.size
    head = engine.model.get_output_embeddings().weight
    assert len(head) == size + 19
    requests = [Request(tiny_prompts.problem_ids(question), 5) for question in QUESTIONS]
    before = engine.generate(requests, SAMPLED)
    with torch.no_grad():
        prompts = torch.tensor([requests[0].prompt_ids])
        hidden = engine.model.base_model(prompts).last_hidden_state[0, -1]
        head[size:] = 100 * hidden  # the greatest logits by far, at least at the first position
        assert engine.model(prompts).logits[0, -1].argmax() >= size
    after = engine.generate(requests, SAMPLED)
    assert ids(after) == ids(before)
    assert [done.logprobs for done in after] == [done.logprobs for done in before]
    assert max(max(sequence) for sequence in ids(engine.generate(requests, GREEDY))) < size
