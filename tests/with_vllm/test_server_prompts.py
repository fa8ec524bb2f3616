"""What engine: server sends: the ids of prompts, in which text is never a control token.

The server is a few lines that answer as vLLM's does; the client is the real one.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("openai", reason="needs openai: pip install -e '.[server]'")

from mpd.config.chat import Chat
from mpd.config.generation import Decoding
from mpd.config.resources import GenerationResources
from mpd.engines.base import Request
from mpd.engines.server import ServerEngine, served_name
from mpd.text.prompts import Prompts
from tests.text.test_control_text import HOSTILE

GREEDY = Decoding(temperature=0, max_new_tokens=8)


class Server(ThreadingHTTPServer):
    """Serves a model that stops at once; `asked` are the prompts, ids or text."""

    daemon_threads = True

    def __init__(self, name, tokenizer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.tokenizer, self.asked = name, tokenizer, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        card = {"id": self.server.name, "object": "model", "created": 0, "owned_by": "test"}
        self.reply({"object": "list", "data": [{**card, "max_model_len": 4096}]})

    def do_POST(self):
        tokenizer = self.server.tokenizer
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["prompt"]
        self.server.asked.append(prompt)
        is_text = isinstance(prompt, str)
        ids = tokenizer(prompt, add_special_tokens=False).input_ids if is_text else prompt
        choice = {"index": 0, "text": "", "finish_reason": "stop", "prompt_token_ids": ids}
        choice["token_ids"] = [tokenizer.eos_token_id]
        choice["logprobs"] = {"token_logprobs": [-0.5]}
        about = {"id": "1", "object": "text_completion", "created": 0, "model": self.server.name}
        self.reply({**about, "choices": [choice]})

    def reply(self, answer):
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def byte_level(write_model, qwen_tokenizer, tmp_path):
    """The manifest of a model with a tokenizer made as Qwen3's."""
    return write_model(tmp_path / "model", seed=3, vocabulary=qwen_tokenizer, context=4096)


@pytest.fixture
def server(byte_level, qwen_tokenizer):
    serving = Server(served_name(byte_level), qwen_tokenizer)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield serving
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_hostile_prompts_are_sent_as_ids_of_text(byte_level, server, qwen_tokenizer):
    engine = ServerEngine(byte_level, GenerationResources(server=server.url, batch_size=3))
    template = "{problem}\n{trajectory}\nShorter, with <think> and </think>."
    plain = Prompts.plain(engine.vocabulary, Chat())
    rewriting = Prompts(engine.vocabulary, template, "compress.prompt", False, None)
    prompts = [plain.problem_ids(text) for text in HOSTILE]
    prompts += [rewriting.ids(problem="2+2", trajectory=text) for text in HOSTILE]
    completions = engine.generate([Request(ids, 7) for ids in prompts], GREEDY)
    engine.coroutines.run(engine.client.close())
    engine.coroutines.close()
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
