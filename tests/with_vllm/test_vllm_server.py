"""engine: server against a real server of vLLM's on the loopback.

What goes wrong between the two is played by a relay in front of it, which forwards all else.
"""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from tests.changes import with_changes

pytest.importorskip("vllm", minversion="0.32.0", reason="needs vLLM: make vllm")

import torch

from mpd import sample
from mpd.config.generation import Decoding
from mpd.config.resources import GenerationResources
from mpd.config.sample import DrawnSample
from mpd.engines import server, server_connection
from mpd.engines.base import Request
from mpd.engines.server import ServerEngine, command, served_name
from mpd.engines.transformers import TransformersEngine
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest, write_manifest

GREEDY = Decoding(temperature=0, max_new_tokens=32)
SAMPLED = Decoding(temperature=0.9, top_k=40, top_p=0.95, max_new_tokens=32)
LIMIT = 160  # tokens that the server takes; the model's context is longer


@pytest.fixture(scope="module")
def served(write_model, tmp_path_factory):
    """The manifest of the model that is served, with padded output rows."""
    return write_model(tmp_path_factory.mktemp("served"), seed=15, padding=19, head_dim=32)


@pytest.fixture(scope="module")
def inside(make_engine, served):
    """vLLM in this process, with the same model."""
    return make_engine(served)


@pytest.fixture(scope="module")
def twin(served, tmp_path_factory):
    """The manifest of the served with a tokenizer that has two words exchanged."""
    folder = tmp_path_factory.mktemp("twin") / "model"
    shutil.copytree(served.parent, folder, ignore=lambda *_: ["manifest.json"])
    path = folder / "tokenizer.json"
    of = json.loads(path.read_text())
    vocabulary = of["model"]["vocab"]
    vocabulary["+"], vocabulary["-"] = vocabulary["-"], vocabulary["+"]
    path.write_text(json.dumps(of))
    write_manifest(folder)
    return folder / "manifest.json"


@pytest.fixture(scope="module")
def real(served, twin, tmp_path_factory):
    """The address of a server of the served, which claims to serve the twin too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = shlex.split(command(served))
    words.insert(words.index("--served-model-name") + 2, served_name(twin))
    words += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    words += ["--kv-cache-memory-bytes", str(2**26), "--max-model-len", str(LIMIT)]
    own = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    environment = {key: of for key, of in os.environ.items() if not key.startswith("VLLM_")}
    path = tmp_path_factory.mktemp("server") / "log"
    with path.open("w") as log:
        process = subprocess.Popen(words, env={**environment, **own}, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        while not is_up(url):
            assert process.poll() is None, path.read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def is_up(url):
    try:
        with urllib.request.urlopen(f"{url}/health"):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


class Relay(ThreadingHTTPServer):
    """Forwards to a server; counts what is asked and what runs side by side.

    `intervene(number)` may give a status to answer the completion of that number with, or 0 to
    hang up on it; `hold` is what all completions but the first wait at.
    """

    daemon_threads = True

    def __init__(self, target):
        super().__init__(("127.0.0.1", 0), Forward)
        self.target, self.lock = target, threading.Lock()
        self.asked = self.running = self.most = 0
        self.intervene = lambda number: None
        self.hold = threading.Barrier(1)
        self.change = lambda answer: answer
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class Forward(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        with urllib.request.urlopen(self.server.target + self.path) as answer:
            self.reply(200, answer.read())

    def do_POST(self):
        relay = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with relay.lock:
            relay.asked += 1
            relay.running += 1
            relay.most = max(relay.most, relay.running)
            number = relay.asked
        status = relay.intervene(number)
        try:
            if number > 1:
                relay.hold.wait(60)
            if status is None:
                headers = {"Content-Type": "application/json"}
                request = urllib.request.Request(relay.target + self.path, body, headers)
                with urllib.request.urlopen(request) as answer:
                    made = relay.change(json.loads(answer.read()))
        finally:
            with relay.lock:
                relay.running -= 1
        if status is None:
            self.reply(200, json.dumps(made).encode())
        elif status:
            self.reply(status, b'{"error": {"message": "busy"}}')
        else:
            self.close_connection = True

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def relay(real):
    made = Relay(real)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def client():
    """A function that makes an engine of a model at an address."""
    made = []

    def make(manifest, url, batch_size=4):
        resources = GenerationResources(server=url, batch_size=batch_size)
        made.append(ServerEngine(manifest, resources, "sample"))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def require_same(mine, theirs):
    assert [done.token_ids for done in mine] == [done.token_ids for done in theirs]
    assert [done.finish_reason for done in mine] == [done.finish_reason for done in theirs]


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED])
def test_completions_are_those_of_vllm_in_the_process(
    client, served, real, inside, requests, decoding
):
    mine = client(served, f"{real}/v1").generate(requests, decoding)
    require_same(mine, inside.generate(requests, decoding))
    assert {done.finish_reason for done in mine} == {"stop", "length"}


@torch.inference_mode()
def test_padded_rows_are_never_sampled_but_have_a_share_of_the_mass(client, served, real, requests):
    """A server cannot be told to leave them out of its log-probabilities."""
    plain = TransformersEngine(served, "float32", GenerationResources(batch_size=4))
    size = plain.vocabulary.size
    assert plain.model.config.vocab_size == size + 19
    for request, done in zip(
        requests, client(served, f"{real}/v1").generate(requests, SAMPLED), strict=True
    ):
        assert max(done.token_ids) < size
        whole = torch.tensor([request.prompt_ids + done.token_ids])
        logits = plain.model(whole).logits[0, len(request.prompt_ids) - 1 : -1].double()
        full = torch.log_softmax(logits, -1)
        expected = full.gather(1, torch.tensor(done.token_ids)[:, None])[:, 0]
        assert done.logprobs == pytest.approx(expected.tolist(), rel=0, abs=2e-5)


def test_the_largest_seed_goes_through(client, served, real, inside, requests):
    asked = [Request(requests[0].prompt_ids, seed) for seed in (2**63 - 1, 2**63 - 2)]
    mine = client(served, f"{real}/v1").generate(asked, SAMPLED)
    require_same(mine, inside.generate(asked, SAMPLED))
    assert mine[0].token_ids != mine[1].token_ids


def test_the_command_names_the_digest(served, capsys):
    server.main(["--model", str(served)])
    digest = read_manifest(served)["digest"][:12]
    assert capsys.readouterr().out == (
        f"python -m vllm.entrypoints.openai.api_server --model {served.parent} "
        f"--served-model-name {digest} --generation-config vllm\n"
    )


def test_another_model_is_refused(client, teacher, served, twin, real, requests):
    with pytest.raises(ValueError) as caught:
        client(teacher, f"{real}/v1").generate(requests, GREEDY)
    served = ", ".join(sorted([served_name(served), served_name(twin)]))
    assert str(caught.value) == (
        f"{real}/v1 serves {served}, not {served_name(teacher)}, the digest of {teacher}; "
        f"start it with: {command(teacher)}"
    )


def test_another_tokenizer_is_refused(client, twin, real, requests):
    with pytest.raises(ValueError) as caught:
        client(twin, f"{real}/v1").generate(requests, GREEDY)
    assert str(caught.value) == (
        f"{real}/v1 tokenizes text differently from the tokenizer beside {twin}"
    )


def test_a_server_that_takes_less_than_a_prompt_needs_is_refused(client, served, relay, requests):
    longest = max(len(request.prompt_ids) for request in requests)
    engine = client(served, relay.url)
    with pytest.raises(ValueError) as caught:
        engine.generate(requests, with_changes(GREEDY, max_new_tokens=LIMIT + 1 - longest))
    assert str(caught.value) == (
        f"{relay.url} takes {LIMIT} tokens, but a prompt and its new tokens take up to "
        f"{LIMIT + 1}; start it with a larger --max-model-len"
    )
    assert relay.asked == 0
    made = engine.generate(requests, with_changes(GREEDY, max_new_tokens=LIMIT - longest))
    assert len(made) == len(requests)


def test_a_server_without_token_ids_is_refused(client, served, relay, requests):
    def without(answer):
        for choice in answer["choices"]:
            choice.pop("token_ids", None)
            choice.pop("prompt_token_ids", None)
        return answer

    relay.change = without
    with pytest.raises(ValueError) as caught:
        client(served, relay.url).generate(requests, GREEDY)
    assert str(caught.value) == (
        f"{relay.url} returns no token ids (return_token_ids); vLLM's does"
    )
    assert relay.asked == 1


@pytest.mark.parametrize(("batch_size", "together"), [(1, 1), (3, 3), (24, 24), (50, 24)])
def test_batch_size_requests_and_no_more_run_side_by_side(
    client, served, relay, requests, batch_size, together
):
    relay.hold = threading.Barrier(together)  # none goes on until so many are there
    client(served, relay.url, batch_size).generate(requests, GREEDY)
    assert relay.asked == 1 + len(requests)  # the first is the check of the tokenizer
    assert relay.most == together


def test_a_busy_server_is_asked_again(client, served, relay, inside, requests):
    relay.intervene = lambda number: {1: 503, 4: 503, 5: 429, 9: 500, 12: 0}.get(number)
    mine = client(served, relay.url).generate(requests, SAMPLED)
    require_same(mine, inside.generate(requests, SAMPLED))
    assert relay.asked == 1 + len(requests) + 5


def test_a_server_that_is_gone_is_one_sentence(client, served, relay, requests, monkeypatch):
    monkeypatch.setattr(server_connection, "MAX_RETRIES", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(ValueError) as caught:
        client(served, url).generate(requests, GREEDY)
    assert str(caught.value) == (
        f"{url}: the list of models: no answer in 2 tries (the last: ConnectError: All connection "
        "attempts failed); is the server up (resources.sample.server), and is its time enough "
        "(resources.sample.server_timeout: 3600 s)? Finished parts are kept"
    )


def test_what_a_server_refuses_is_its_own_words(client, served, relay, requests):
    relay.intervene = lambda number: 400 if number == 3 else None
    with pytest.raises(ValueError, match=r"^http://127\.0\.0\.1:\d+/v1: .*busy"):
        client(served, relay.url).generate(requests, GREEDY)


def test_a_stage_that_lost_its_server_is_resumed(
    served, problems, relay, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(server_connection, "MAX_RETRIES", 0)
    settings = DrawnSample(**{**dict(GREEDY), "num_samples": 4}, engine="server", seed=7)
    output, store = tmp_path / "sample.parquet", tmp_path / "store"
    resources = GenerationResources(batch_size=4, rows_per_part=8, server=relay.url)
    of = ["--settings", settings.model_dump_json(), "--problems", str(problems)]
    of += ["--student", str(served), "--output", str(output), "--store", str(store)]
    of += ["--resources", resources.model_dump_json()]
    relay.intervene = lambda number: 0 if number > 21 else None  # after 20 completions
    with warnings.catch_warnings(), pytest.raises(ValueError) as caught:
        warnings.simplefilter("ignore", ResourceWarning)
        sample.main(of)
    assert str(caught.value).endswith("server_timeout: 3600 s)? Finished parts are kept")
    parts = list(store.glob("*/*.parts/some_*.parquet"))
    assert [len(table.read(path, schema.SAMPLE)) for path in parts] == [8, 8]
    before, relay.intervene = relay.asked, lambda number: None
    with caplog.at_level("INFO", "mpd"):
        sample.main(of)
    assert "resumed: 16 of 32 rows were there" in caplog.messages
    assert relay.asked == before + 1 + 16
    rows = table.read(output, schema.SAMPLE)
    problem_ids = table.read(problems, schema.PROBLEMS)["problem_id"]
    assert rows["sample_id"].to_list() == [f"{id}-{n}" for id in problem_ids for n in range(4)]
    # One prompt, greedy: its four samples are the same, wherever they were drawn.
    drawn = rows.group_by("problem_id").agg(pl.col("completion_ids").n_unique())
    assert drawn["completion_ids"].to_list() == [1] * 8
