"""The engine of a stage, and what it needs to be installed."""

import sys
from importlib.util import find_spec

import pytest

from mpd.config.resources import GenerationResources
from mpd.config.sample import DrawnSample
from mpd.engines.opening import open_engine


def is_there(module):
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.skipif(is_there("vllm.engine"), reason="vLLM is installed here")
def test_without_vllm_its_engine_is_refused_in_one_sentence(student):
    with pytest.raises(ValueError) as caught:
        open_engine(student, DrawnSample(engine="vllm"), GenerationResources())
    found = str(caught.value)
    assert found.startswith("sample.engine is vllm, but it cannot be imported (No module named")
    assert found.endswith("; install it as docs/engines.md says, or set engine: transformers")
    assert "\n" not in found


def test_a_server_needs_its_client_and_says_so(student, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    resources = GenerationResources(server="http://localhost/v1")
    with pytest.raises(ValueError, match=r"^engine: server needs openai; pip install"):
        open_engine(student, DrawnSample(engine="server"), resources)
