"""Wrong answers and none: engine: server ends with one sentence, in bounded time."""

import json
import re

import pytest

pytest.importorskip("openai", reason="needs openai: pip install -e '.[server]'")

from mpd.config.generation import Decoding
from mpd.config.resources import GenerationResources
from mpd.engines import server_connection
from mpd.engines.base import Request
from mpd.engines.server import ServerEngine, served_name
from mpd.text.vocabulary import Vocabulary
from tests.with_vllm.fake_server import HANG_UP, Drip, serving

LIMIT = 16
GREEDY = Decoding(temperature=0, max_new_tokens=LIMIT)
REQUESTS = [Request([5, 6, 7], 70), Request([5, 6], 71)]
PAGE = b"<html>\n<title>502 Bad Gateway</title></html>"


@pytest.fixture(scope="module")
def manifest(write_model, tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("served"), seed=15)


@pytest.fixture(scope="module")
def vocabulary(manifest):
    return Vocabulary.of_folder(manifest.parent)


@pytest.fixture
def server(manifest, vocabulary):
    with serving(served_name(manifest), vocabulary.tokenizer) as running:
        yield running


@pytest.fixture
def complete(manifest, server):
    """A function that completes the requests by the server."""
    engines = []

    def complete(requests=REQUESTS, **changes):
        resources = GenerationResources(server=server.url, batch_size=1, **changes)
        engines.append(ServerEngine(manifest, resources, "sample"))
        return engines[-1].generate(requests, GREEDY)

    yield complete
    for engine in engines:
        engine.close()


def with_choice(**changes):
    """A change of an answer: of its choice; the value ... removes a field."""

    def change(answer):
        choice = {**answer["choices"][0], **changes}
        choice = {key: value for key, value in choice.items() if value is not ...}
        return {**answer, "choices": [choice]}

    return change


def with_logprobs(*logprobs):
    return with_choice(logprobs={"token_logprobs": list(logprobs)})


STOP, BEYOND = "<stop>", "<beyond>"  # ids that depend on the vocabulary


@pytest.mark.parametrize(
    ("ids", "reason", "sentence"),
    [
        ([BEYOND, STOP], "stop", r"expected ids from 0 to \d+ as token_ids, found \d+"),
        ([-1, STOP], "stop", r"expected ids from 0 to \d+ as token_ids, found -1"),
        (["5", STOP], "stop", r"expected ids from 0 to \d+ as token_ids, found '5'"),
        ([5.0, STOP], "stop", r"expected ids from 0 to \d+ as token_ids, found 5\.0"),
        ([True, STOP], "stop", r"expected ids from 0 to \d+ as token_ids, found True"),
        ([5] * 5001, "length", "expected 1 to 16 token_ids, found 5001"),
        ([], "stop", "expected 1 to 16 token_ids, found 0"),
        ("567", "stop", "expected a list of ids as token_ids, found '567'"),
        (None, "stop", "expected a list of ids as token_ids, found None"),
        (..., "stop", "expected a list of ids as token_ids, found None"),
        ([5, 6], "stop", "expected a stop id at the end, .* found stop after 2 tokens without one"),
        ([5, 6], "length", "expected a stop id at the end, .* found length after 2 tokens"),
        ([5, STOP], "length", r"expected .* at stop id \d+, token 2, found length after 2 tokens"),
        ([STOP, 5], "stop", r"expected .* at stop id \d+, token 1, found stop after 2 tokens"),
        ([5, STOP], "abort", "expected stop or length as finish_reason, found 'abort'"),
        ([5, STOP], ["stop"], r"expected stop or length as finish_reason, found \['stop'\]"),
        ([5, STOP], ..., "expected stop or length as finish_reason, found None"),
    ],
)
def test_ids_that_no_completion_has_are_refused(
    complete, server, vocabulary, ids, reason, sentence
):
    stand_ins = {STOP: vocabulary.stop_ids[0], BEYOND: vocabulary.size}
    if isinstance(ids, list):
        ids = [stand_ins.get(id, id) for id in ids]
    logprobs = {"token_logprobs": [-1.0] * (len(ids) if isinstance(ids, list) else 1)}
    server.change = with_choice(token_ids=ids, finish_reason=reason, logprobs=logprobs)
    require_refusal(complete, server, sentence)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (with_logprobs(), "expected 1 token_logprobs, one per id, found 0"),
        (with_logprobs(-1, -1, -1), "expected 1 token_logprobs, one per id, found 3"),
        (with_logprobs(None), "expected numbers of at most 0 as token_logprobs, found None"),
        (with_logprobs(0.5), r"expected numbers of at most 0 as token_logprobs, found 0\.5"),
        (with_logprobs(-(10**400)), "expected numbers of at most 0 as token_logprobs, found -1000"),
        (with_logprobs("-1"), "expected numbers of at most 0 as token_logprobs, found '-1'"),
        (with_logprobs(float("nan")), "expected numbers of at most 0 as .*, found nan"),
        (with_logprobs(float("-inf")), "expected numbers of at most 0 as .*, found -inf"),
        (with_choice(logprobs=None), "expected token_logprobs under logprobs, found None"),
        (with_choice(logprobs=...), "expected token_logprobs under logprobs, found None"),
        (with_choice(logprobs={}), "expected a list of numbers as token_logprobs, found None"),
        (
            with_choice(prompt_token_ids=[5]),
            r"expected the ids of the prompt as prompt_token_ids, found \[5\]",
        ),
        (lambda answer: PAGE, r"expected a JSON object, found '<html>\\n<title>502 .*'"),
        (lambda answer: b"", "expected a JSON object, found ''"),
        (lambda answer: b"\xff\xfe", "expected a JSON object, found '.*'"),
        (lambda answer: b"[" * 100_000, r"expected a JSON object, found '\[+ …"),
        (lambda answer: b"[" * 700 + b"]" * 700, r"expected a JSON object, found "),
        (lambda answer: [answer], r"expected a JSON object, found \[\{.*"),
        (lambda answer: {"error": "no"}, r"expected a list of choices, found \{'error': 'no'\}"),
        (lambda answer: {**answer, "choices": []}, r"expected one choice, found \[\]"),
        (lambda answer: {**answer, "choices": ["a"]}, r"expected one choice, found \['a'\]"),
        (lambda answer: {**answer, "choices": answer["choices"] * 2}, "expected one choice, .*"),
    ],
)
def test_answers_that_are_no_completions_are_refused(complete, server, change, sentence):
    server.change = change
    require_refusal(complete, server, sentence)


def require_refusal(complete, server, sentence):
    with pytest.raises(
        ValueError, match=f"^{server.url}: request 1 \\(seed 70\\): {sentence}"
    ) as caught:
        complete()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert str(caught.value).endswith("; is this vLLM's server? Finished parts are kept")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (PAGE, "expected a JSON object, found '<html>.*"),
        ({}, r"expected a list of models under data, found \{\}"),
        ({"data": None}, r"expected a list of models under data, found \{'data': None\}"),
        ({"data": ["m"]}, "expected a model with an id, found 'm'"),
        ({"data": [{"id": 3}]}, r"expected a model with an id, found \{'id': 3\}"),
        (
            {"data": [{"id": "m", "max_model_len": "9"}]},
            "expected a whole number as max_model_len, found '9'",
        ),
    ],
)
def test_a_list_of_models_that_is_none_is_refused(complete, server, answer, sentence):
    server.change_models = lambda _: answer
    with pytest.raises(ValueError, match=f"^{server.url}: the list of models: {sentence}"):
        complete()
    assert server.asked == []


def test_a_refusal_with_a_page_is_one_sentence(complete, server, monkeypatch):
    monkeypatch.setattr(server_connection, "MAX_RETRIES", 0)
    server.change_models = lambda _: (404, PAGE)
    with pytest.raises(ValueError) as caught:
        complete()
    assert str(caught.value) == (
        f"{server.url}: the list of models: expected an answer, found HTTP 404: {PAGE.decode()!r}"
    )


def test_a_right_completion_is_taken(complete, server, vocabulary):
    ids = [5] * LIMIT
    logprobs = {"token_logprobs": [0, -0.0, *[-2.5] * (LIMIT - 2)]}
    server.change = with_choice(token_ids=ids, finish_reason="length", logprobs=logprobs)
    first, second = complete()
    assert first == second
    assert (first.token_ids, first.finish_reason) == (ids, "length")
    assert first.logprobs == [0.0, 0.0, *[-2.5] * (LIMIT - 2)]


def silence(url, name, server_timeout):
    """What is said of a server that is up and never answers."""
    return (
        rf"{url}: {name}: no answer in \d tries \(the last: no .* within {server_timeout} s\); "
        r"is the server up \(resources\.sample\.server\), and is its time enough "
        rf"\(resources\.sample\.server_timeout: {server_timeout} s\)\? Finished parts are kept"
    )


def test_a_server_that_never_answers_is_given_up(complete, server, caplog):
    server.change_models = lambda _: None
    with pytest.raises(ValueError, match=silence(server.url, "the list of models", "0.2")):
        complete(server_timeout=0.2)
    assert re.fullmatch(
        f"{server.url}: the list of models, try 1: no .* within 0.2 s", caplog.messages[0]
    )
    assert server.models_asked <= 3
    assert server.asked == []


def test_a_completion_that_never_comes_is_given_up(complete, server, caplog):
    server.change = lambda _: None
    sentence = silence(server.url, r"request 1 \(seed 70\)", "2")
    with pytest.raises(ValueError, match=sentence):
        complete(server_timeout=2)
    line = f"{server.url}: request 1 (seed 70), try 1: no answer within 2 s"
    assert line in caplog.messages


def test_a_request_that_was_lost_is_asked_again(complete, server, caplog):
    """The first answers are a connection that ends, and HTTP 503."""
    lost = iter([HANG_UP, (503, {})])
    server.change = lambda answer: next(lost, answer)
    completions = complete(REQUESTS[:1])
    assert [done.finish_reason for done in completions] == ["stop"]
    assert [message for message in caplog.messages if "try" in message] == [
        f"{server.url}: request 1 (seed 70), try 1: RemoteProtocolError: Server disconnected "
        "without sending a response.",
        f"{server.url}: request 1 (seed 70), try 2: HTTP 503",
    ]


def test_an_answer_that_comes_byte_by_byte_is_bounded_too(complete, server):
    """Each byte comes soon after the last; the end never does."""
    server.change_models = lambda answer: Drip(json.dumps(answer).encode())
    with pytest.raises(ValueError, match=silence(server.url, "the list of models", "0.2")):
        complete(server_timeout=0.2)


def test_an_address_that_is_none_is_named(manifest):
    resources = GenerationResources(server="http://node:port/v1", batch_size=1)
    engine = ServerEngine(manifest, resources, "sample")
    with pytest.raises(
        ValueError, match=r"^resources\.sample\.server: http://node:port/v1 is no URL"
    ):
        engine.generate(REQUESTS, GREEDY)
    engine.coroutines.close()


def test_no_address_is_no_request(manifest):
    with pytest.raises(ValueError, match=r"^resources\.sample\.server: set it to the base URL"):
        ServerEngine(manifest, GenerationResources(), "sample")
