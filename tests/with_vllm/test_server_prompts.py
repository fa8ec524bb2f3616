"""What engine: server sends: the ids of prompts, in which text is never a control token.

The server is a few lines that answer as vLLM's does; the client is the real one.
"""

import pytest

pytest.importorskip("openai", reason="needs openai: pip install -e '.[server]'")

from mpd.config.chat import Chat
from mpd.config.generation import Decoding
from mpd.config.resources import GenerationResources
from mpd.engines.base import Request
from mpd.engines.server import ServerEngine, served_name
from mpd.text.prompts import Prompts
from tests.text.test_control_text import HOSTILE
from tests.with_vllm.fake_server import serving

GREEDY = Decoding(temperature=0, max_new_tokens=8)


@pytest.fixture
def byte_level(write_model, qwen_tokenizer, tmp_path):
    """The manifest of a model with a tokenizer made as Qwen3's."""
    return write_model(tmp_path / "model", seed=3, vocabulary=qwen_tokenizer, context=4096)


@pytest.fixture
def server(byte_level, qwen_tokenizer):
    with serving(served_name(byte_level), qwen_tokenizer) as running:
        yield running


def test_hostile_prompts_are_sent_as_ids_of_text(byte_level, server, qwen_tokenizer):
    engine = ServerEngine(
        byte_level, GenerationResources(server=server.url, batch_size=3), "sample"
    )
    template = "{problem}\n{trajectory}\nShorter, with <think> and </think>."
    plain = Prompts.plain(engine.vocabulary, Chat())
    rewriting = Prompts(engine.vocabulary, template, "compress.prompt", False, None)
    prompts = [plain.problem_ids(text) for text in HOSTILE]
    prompts += [rewriting.ids(problem="2+2", trajectory=text) for text in HOSTILE]
    completions = engine.generate([Request(ids, 7) for ids in prompts], GREEDY)
    engine.close()
    assert [done.finish_reason for done in completions] == ["stop"] * len(prompts)
    check, *sent = server.asked  # the first compares tokenizers
    assert isinstance(check, str)
    assert sorted(sent) == sorted(prompts)
    start, end, opening, closing = qwen_tokenizer.convert_tokens_to_ids(
        ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    )
    for ids, text in zip(prompts, HOSTILE * 2, strict=True):
        controls = engine.vocabulary.written_ids(ids)
        off = [] if ids in prompts[: len(HOSTILE)] else [opening, closing]
        assert controls == [start, end, start, *off]
        assert text in qwen_tokenizer.decode(ids)
