"""A server of a few lines that answers as vLLM's does, or as a test wants."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HANG_UP = object()


class Drip(bytes):
    """An answer whose bytes come one by one, the last of them never."""


class Server(ThreadingHTTPServer):
    """Serves a model that stops at once; `asked` are the prompts, ids or text.

    `change_models(answer)` and `change(answer)` may give another answer than the usual one to a
    request for models or for a completion of ids: JSON, bytes, a status with either, HANG_UP, or
    None for no answer before the end of the test. `models_asked` counts requests for models.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, name, tokenizer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.tokenizer, self.asked, self.models_asked = name, tokenizer, [], 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.change_models = self.change = lambda answer: answer
        self.end = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.models_asked += 1
        card = {"id": self.server.name, "object": "model", "created": 0, "owned_by": "test"}
        answer = {"object": "list", "data": [{**card, "max_model_len": 4096}]}
        self.reply(self.server.change_models(answer))

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
        answer = {**about, "choices": [choice]}
        self.reply(answer if is_text else self.server.change(answer))

    def reply(self, answer):
        if answer is None:
            self.server.end.wait()
            self.close_connection = True
            return
        if answer is HANG_UP:
            self.close_connection = True
            return
        status, answer = answer if isinstance(answer, tuple) else (200, answer)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        is_page = content.startswith(b"<")
        self.send_header("Content-Type", "text/html" if is_page else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not isinstance(answer, Drip):
            self.wfile.write(content)
            return
        for byte in content[:-1]:
            if self.server.end.wait(0.02):
                return
            self.wfile.write(bytes([byte]))
        self.server.end.wait()


@contextmanager
def serving(name, tokenizer):
    """A server that runs while this is open."""
    server = Server(name, tokenizer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.end.set()
        server.shutdown()
        thread.join()
        server.server_close()
