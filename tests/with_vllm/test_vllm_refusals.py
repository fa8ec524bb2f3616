"""What vLLM refuses, or cannot do, is one sentence that names the setting."""

import pytest

from tests.changes import with_changes

pytest.importorskip("vllm", minversion="0.32.0", reason="needs vLLM: make vllm")

from mpd.config.generation import Decoding

MEGABYTE = 2**20
CACHE = {"kv_cache_memory_bytes": 64 * MEGABYTE}
GREEDY = Decoding(temperature=0, max_new_tokens=8)
TO_HAVE_MORE = (
    "To need less memory, lower resources.sample.max_model_len or resources.sample.batch_size; to "
    "have more, set resources.sample.gpu_memory_utilization (its share) or "
    "resources.sample.tensor_parallel_size"
)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("quantisation", "vLLM has no such engine argument; did you mean quantization?"),
        ("xyz", "vLLM has no such engine argument"),
        ("enable_log_requests", "vLLM has no such engine argument"),
        ("model", "set models instead"),
        ("tokenizer", "set models instead"),
        ("dtype", "set models.dtype instead"),
        ("max_num_seqs", "set resources.sample.batch_size instead"),
        ("tensor_parallel_size", "set resources.sample.tensor_parallel_size instead"),
        ("data_parallel_size", "set resources.sample.data_parallel_size instead"),
        ("gpu_memory_utilization", "set resources.sample.gpu_memory_utilization instead"),
        ("max_model_len", "set resources.sample.max_model_len instead"),
        ("enable_prefix_caching", "set resources.sample.prefix_caching instead"),
        ("trust_remote_code", "code that a model brings along is never run; remove it"),
        ("logprobs_mode", "its value is fixed, completions depend on it; remove it"),
        ("skip_tokenizer_init", "its value is fixed, completions depend on it; remove it"),
        ("worker_extension_cls", "its value is fixed, completions depend on it; remove it"),
        (
            "enable_batch_sharded_sampling",
            "its value is fixed, completions depend on it; remove it",
        ),
    ],
)
def test_an_argument_that_is_not_free_is_refused_by_name(make_engine, student, name, sentence):
    with pytest.raises(ValueError) as caught:
        make_engine(student, {**CACHE, name: 1})
    assert str(caught.value) == f"sample.engine_arguments.{name}: {sentence}"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"seed": "x"}, "seed: Input should be a valid integer"),
        ({"kv_cache_memory_bytes": "many"}, "kv_cache_memory_bytes: Input should be a valid int"),
        ({"quantization": "nothing"}, "Unknown quantization method: nothing"),
        ({"max_num_batched_tokens": 2}, r"max_num_batched_tokens \(2\) is smaller than max_m"),
    ],
)
def test_a_value_that_vllm_refuses_is_one_sentence(
    make_engine, student, requests, arguments, sentence
):
    engine = make_engine(student, {**CACHE, **arguments})
    with pytest.raises(ValueError, match=f"^vLLM refuses an engine argument: {sentence}") as caught:
        engine.generate(requests, GREEDY)
    found = str(caught.value)
    assert found.endswith("; fix sample.engine_arguments or resources.sample")
    assert "\n" not in found


@pytest.mark.parametrize("load_format", ["pt", "npcache", "PT"])
def test_weights_are_never_read_from_pickles(make_engine, student, load_format):
    with pytest.raises(ValueError, match="load_format: weights are never read from pickles; remov"):
        make_engine(student, {**CACHE, "load_format": load_format})


def test_an_unknown_load_format_is_one_sentence(make_engine, student, requests):
    engine = make_engine(student, {**CACHE, "load_format": "nothing"})
    with pytest.raises(ValueError, match=r"^vLLM: Load format `nothing` is not supported$"):
        engine.generate(requests, GREEDY)


def test_a_shorter_limit_than_a_prompt_needs_is_refused_before_a_start(
    make_engine, student, requests
):
    longest = max(len(request.prompt_ids) for request in requests) + 8
    engine = make_engine(student, max_model_len=longest - 1)
    with pytest.raises(ValueError) as caught:
        engine.generate(requests, GREEDY)
    assert str(caught.value) == (
        f"a prompt and its new tokens take up to {longest} tokens, but "
        f"resources.sample.max_model_len is {longest - 1}; raise it"
    )
    assert "backend" not in vars(engine)
    assert len(make_engine(student, max_model_len=longest).generate(requests, GREEDY)) == 24


@pytest.mark.parametrize(
    ("arguments", "changes", "cause"),
    [
        ({"kv_cache_memory_bytes": 1000}, {}, "No available memory for the cache blocks"),
        ({"kv_cache_memory_bytes": 2**60}, {}, "less than requested memory for kv"),
        ({}, {"gpu_memory_utilization": 1.0}, "less than desired CPU memory utilization"),
        ({}, {"gpu_memory_utilization": 1e-4}, "less than requested memory for kv"),
    ],
    ids=["cache", "request", "share", "too_small_a_share"],
)
def test_too_little_memory_at_the_start_names_the_settings(
    make_engine, student, requests, arguments, changes, cause
):
    engine = make_engine(student, arguments, **changes)
    with pytest.raises(ValueError, match=f"^vLLM: .*{cause}") as caught:
        engine.generate(requests, GREEDY)
    assert str(caught.value).endswith(f". {TO_HAVE_MORE}")


def test_a_cache_smaller_than_one_sequence_names_the_settings(
    make_engine, write_model, requests, tmp_path
):
    """The longest sequence that may come has to fit; nothing is cut down silently."""
    long = write_model(tmp_path / "long", seed=5, context=65536, head_dim=32)
    engine = make_engine(long, {"kv_cache_memory_bytes": 8 * MEGABYTE})
    with pytest.raises(ValueError, match=r"^vLLM: .*KV cache") as caught:
        engine.generate(requests, GREEDY)
    assert str(caught.value).endswith(f". {TO_HAVE_MORE}")
    shorter = make_engine(long, {"kv_cache_memory_bytes": 8 * MEGABYTE}, max_model_len=128)
    assert len(shorter.generate(requests, GREEDY)) == 24


def test_a_cache_without_room_for_all_of_them_completes_the_same(
    make_engine, student, engine, requests
):
    """Sequences that do not fit side by side wait, or are computed again."""
    small = make_engine(student, {"kv_cache_memory_bytes": 600_000}, batch_size=24)
    blocks = small.backend.engine.vllm_config.cache_config.num_gpu_blocks
    assert blocks * 32 < 24 * 40  # fewer than all of them take
    decoding = with_changes(GREEDY, max_new_tokens=128)
    mine, theirs = small.generate(requests, decoding), engine.generate(requests, decoding)
    assert [done.token_ids for done in mine] == [done.token_ids for done in theirs]


def test_speculation_is_refused_where_it_samples_wrong_ids(make_engine, student, requests):
    guess = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 2}
    engine = make_engine(student, {**CACHE, "speculative_config": guess})
    with pytest.raises(ValueError, match=r"^sample\.engine_arguments\.speculative_config: without"):
        engine.generate(requests, GREEDY)
