"""The completions of vLLM against those of the transformers engine, in float32."""

import json
import shutil

import pytest

from tests.changes import with_changes

pytest.importorskip("vllm", minversion="0.32.0", reason="needs vLLM: make vllm")

import torch

from mpd.config.chat import Chat
from mpd.config.generation import Decoding
from mpd.config.resources import GenerationResources
from mpd.engines.base import PROMPT_TOO_LONG, Request, seed_of
from mpd.engines.transformers import TransformersEngine, choose
from mpd.store.model_folder import write_manifest
from mpd.text.prompts import Prompts
from tests.text.test_control_text import HOSTILE

GREEDY = Decoding(temperature=0, max_new_tokens=32)
SAMPLED = Decoding(max_new_tokens=32)
TOLERANCE = 1e-5  # nats


def ids(completions):
    return [done.token_ids for done in completions]


def require_equal(mine, theirs):
    assert ids(mine) == ids(theirs)
    assert [done.finish_reason for done in mine] == [done.finish_reason for done in theirs]
    for one, other in zip(mine, theirs, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, rel=0, abs=TOLERANCE)


@torch.inference_mode()
def scores(plain, request, completion):
    """The log-probabilities of completion ids by one full pass, padding rows left out."""
    whole = torch.tensor([request.prompt_ids + completion.token_ids])
    logits = plain.model(whole).logits[0, len(request.prompt_ids) - 1 : -1]
    full = torch.log_softmax(logits[:, : plain.vocabulary.size].double(), -1)
    return full.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0].tolist()


def test_greedy_completions_are_those_of_transformers(engine, plain, requests):
    mine, theirs = engine.generate(requests, GREEDY), plain.generate(requests, GREEDY)
    require_equal(mine, theirs)
    assert {done.finish_reason for done in mine} == {"stop", "length"}
    assert len({tuple(done.token_ids) for done in mine}) == 6


def test_sampled_logprobs_are_the_models_own_whatever_the_decoding(engine, plain, requests):
    for decoding in (SAMPLED, with_changes(GREEDY, temperature=0.7, top_k=5, top_p=0.8)):
        for request, done in zip(requests, engine.generate(requests, decoding), strict=True):
            expected = scores(plain, request, done)
            assert done.logprobs == pytest.approx(expected, rel=0, abs=TOLERANCE)


def test_finish_reasons(engine, requests):
    (stop,) = engine.vocabulary.stop_ids
    made = engine.generate(requests, SAMPLED)
    assert {done.finish_reason for done in made} == {"stop", "length"}
    for done in made:
        assert stop not in done.token_ids[:-1]
        assert (done.finish_reason == "stop") == (done.token_ids[-1] == stop)
        if done.finish_reason == "length":
            assert len(done.token_ids) == SAMPLED.max_new_tokens
        assert len(done.logprobs) == len(done.token_ids)


def test_the_limit_only_cuts(engine, requests):
    whole = engine.generate(requests, SAMPLED)
    for done, short in zip(
        whole, engine.generate(requests, with_changes(SAMPLED, max_new_tokens=5)), strict=True
    ):
        assert short.token_ids == done.token_ids[:5]
        stopped = len(done.token_ids) <= 5 and done.finish_reason == "stop"
        assert short.finish_reason == ("stop" if stopped else "length")


def test_a_seed_decides_whatever_the_company_and_the_order(engine, make_engine, student, requests):
    together = ids(engine.generate(requests, SAMPLED))
    assert ids(engine.generate(requests, SAMPLED)) == together
    assert ids(engine.generate(requests[::-1], SAMPLED)) == together[::-1]
    assert ids(engine.generate(requests[3:5], SAMPLED)) == together[3:5]
    assert [ids(engine.generate([request], SAMPLED))[0] for request in requests] == together
    for changes in ({"batch_size": 1}, {"batch_size": 24}, {"prefix_caching": 0}):
        assert ids(make_engine(student, **changes).generate(requests, SAMPLED)) == together
    # One prompt under four seeds.
    assert len({tuple(of) for of in together[::6]}) == 4
    prompt = requests[0].prompt_ids
    other, same = engine.generate([Request(prompt, 2**63 - 1), Request(prompt, 0)], SAMPLED)
    assert same.token_ids == together[0]
    assert other.token_ids not in together[::6]


@pytest.mark.parametrize(
    "decoding",
    [
        SAMPLED,
        with_changes(SAMPLED, temperature=0.6),
        with_changes(SAMPLED, temperature=1.5, top_k=7),
        with_changes(SAMPLED, top_p=0.8),
        with_changes(SAMPLED, temperature=0.8, top_k=20, top_p=0.9),
    ],
    ids=["plain", "temperature", "top_k", "top_p", "all"],
)
def test_first_tokens_have_the_distribution_of_transformers(engine, plain, tiny_prompts, decoding):
    prompt, number, steps = tiny_prompts.problem_ids("4-1+5"), 1500, 200_000
    with torch.inference_mode():
        logits = plain.model(torch.tensor([prompt])).logits[:, -1, : plain.vocabulary.size]
    uniforms = (torch.arange(steps) + 0.5) / steps
    # In slices: choose keeps several copies of its rows.
    of = [choose(logits.expand(len(part), -1), decoding, part) for part in uniforms.split(10_000)]
    size = plain.vocabulary.size
    exact = torch.cat(of).bincount(minlength=size).double() / steps
    asked = [Request(prompt, seed_of("first", seed)) for seed in range(number)]
    made = engine.generate(asked, with_changes(decoding, max_new_tokens=1))
    counts = torch.tensor([done.token_ids[0] for done in made]).bincount(minlength=size).double()
    assert counts[exact == 0].sum() == 0
    often = exact * number >= 5
    expected = torch.cat([exact[often], exact[~often].sum(0, keepdim=True)]) * number
    found = torch.cat([counts[often], counts[~often].sum(0, keepdim=True)])
    whole = expected > 0
    statistic = ((found - expected)[whole] ** 2 / expected[whole]).sum()
    freedom = int(whole.sum()) - 1
    assert freedom >= 3
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5


def test_padded_rows_get_no_mass(make_engine, teacher, requests):
    """Rows beyond the tokenizer's tokens that would win by far, were they not cut."""
    folder = teacher.parent.with_name("loud_padding")
    shutil.copytree(teacher.parent, folder, ignore=lambda *_: ["manifest.json"])
    plain = TransformersEngine(teacher, "float32", GenerationResources(batch_size=4))
    size = plain.vocabulary.size
    prompt = torch.tensor([requests[0].prompt_ids])
    with torch.no_grad():
        hidden = plain.model.base_model(prompt).last_hidden_state[0, -1]
        plain.model.get_output_embeddings().weight[size:] = 100 * hidden
        assert plain.model(prompt).logits[0, -1].argmax() >= size
    plain.model.save_pretrained(folder)
    write_manifest(folder)
    engine = make_engine(folder / "manifest.json")
    require_equal(engine.generate(requests, GREEDY), plain.generate(requests, GREEDY))
    made = engine.generate(requests, SAMPLED)
    for request, done in zip(requests, made, strict=True):
        assert max(done.token_ids) < size
        assert done.logprobs == pytest.approx(scores(plain, request, done), rel=0, abs=TOLERANCE)


def test_every_stop_id_stops(make_engine, student, requests, engine, tmp_path):
    cut = next(done for done in engine.generate(requests, SAMPLED) if len(done.token_ids) > 6)
    (stop,), extra = engine.vocabulary.stop_ids, cut.token_ids[3]
    folder = tmp_path / "two_stops"
    shutil.copytree(student.parent, folder, ignore=lambda *_: ["manifest.json"])
    path = folder / "generation_config.json"
    of = json.loads(path.read_text())
    path.write_text(json.dumps({**of, "eos_token_id": [stop, extra], "temperature": 9.0}))
    write_manifest(folder)
    two = make_engine(folder / "manifest.json")
    assert set(two.vocabulary.stop_ids) == {stop, extra}
    plain = TransformersEngine(
        folder / "manifest.json", "float32", GenerationResources(batch_size=4)
    )
    require_equal(two.generate(requests, GREEDY), plain.generate(requests, GREEDY))
    for done, whole in zip(
        two.generate(requests, SAMPLED), engine.generate(requests, SAMPLED), strict=True
    ):
        ends = [at for at, token in enumerate(whole.token_ids, 1) if token in (stop, extra)]
        assert done.token_ids == whole.token_ids[: ends[0] if ends else None]
        assert done.finish_reason == ("stop" if ends else "length")


def test_a_prompt_without_room_is_not_sent(make_engine, student, requests):
    engine = make_engine(student)
    longest = max(len(request.prompt_ids) for request in requests)
    engine.context_length = longest + GREEDY.max_new_tokens - 1
    sent, add = [], engine.backend.add
    engine.backend.add = lambda number, *of: sent.append(number) or add(number, *of)
    made = engine.generate(requests, GREEDY)
    fits = [len(request.prompt_ids) < longest for request in requests]
    assert not all(fits)
    assert sorted(sent) == [number for number, fit in enumerate(fits) if fit]
    assert [done == PROMPT_TOO_LONG for done in made] == [not fit for fit in fits]


def test_a_prompt_may_fill_the_context_to_its_last_token(engine, plain, requests):
    going = engine.generate(requests[:1], GREEDY)
    assert going[0].finish_reason == "length"
    room = plain.context_length - len(requests[0].prompt_ids)
    decoding = with_changes(GREEDY, max_new_tokens=room)
    require_equal(engine.generate(requests[:1], decoding), plain.generate(requests[:1], decoding))
    assert engine.generate(requests[:1], with_changes(decoding, max_new_tokens=room + 1)) == [
        PROMPT_TOO_LONG
    ]


def test_progress_counts_every_sequence_and_token_once(engine, requests):
    calls = []
    made = engine.generate(requests, SAMPLED, lambda *of: calls.append(of))
    assert [sequences for sequences, _ in calls] == [1] * len(requests)
    assert sum(tokens for _, tokens in calls) == sum(len(done.token_ids) for done in made)


def test_it_is_kept_full_to_the_end_and_takes_the_longest_first(make_engine, student, requests):
    """batch_size sequences run at every step until fewer are left."""
    engine = make_engine(student, batch_size=5)
    scheduler = engine.backend.engine.engine_core.engine_core.scheduler
    schedule, running, new = scheduler.schedule, [], []

    def watched(*of, **named):
        output = schedule(*of, **named)
        running.append(len(output.num_scheduled_tokens))
        new.extend(len(request.prompt_token_ids) for request in output.scheduled_new_reqs)
        return output

    scheduler.schedule = watched
    finished, waiting = [0], len(requests)
    for _ in engine.stream(requests, SAMPLED):
        finished.append(len(running))
    assert new == sorted((len(request.prompt_ids) for request in requests), reverse=True)
    for step, number in enumerate(running):
        left = waiting - sum(1 for of in finished[1:] if of <= step)
        assert number == min(5, left)
    assert len(set(finished)) > 5  # they come one after another, not all in the end


def test_tensor_parallel_workers_complete_the_same(make_engine, student, engine, requests):
    two = make_engine(student, tensor_parallel_size=2)
    mine = two.generate(requests, GREEDY)
    # Its workers alone: this process has other engines.
    two.backend.engine.engine_core.engine_core.model_executor.shutdown()
    require_equal(mine, engine.generate(requests, GREEDY))


def test_data_parallel_replicas_complete_the_same(make_engine, student, engine, requests):
    two = make_engine(student, data_parallel_size=2)
    try:
        for decoding in (GREEDY, SAMPLED):
            require_equal(two.generate(requests, decoding), engine.generate(requests, decoding))
    finally:
        two.backend.stop()


def test_text_that_spells_control_tokens_is_text_for_vllm_too(
    make_engine, write_model, qwen_tokenizer, tmp_path
):
    model = tmp_path / "byte_level"
    manifest = write_model(model, 4, vocabulary=qwen_tokenizer, head_dim=32, context=1024)
    engine = make_engine(manifest)
    plain = TransformersEngine(manifest, "float32", GenerationResources(batch_size=4))
    prompts = [Prompts.plain(engine.vocabulary, Chat()).problem_ids(text) for text in HOSTILE]
    controls = qwen_tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    for text, prompt in zip(HOSTILE, prompts, strict=True):
        assert [token for token in prompt if token in controls] == [*controls, controls[0]]
        assert len(engine.vocabulary.written_ids(prompt)) == 3
        assert text in qwen_tokenizer.decode(prompt)
    requests = [Request(prompt, seed) for seed, prompt in enumerate(prompts)]
    require_equal(engine.generate(requests, GREEDY), plain.generate(requests, GREEDY))
