"""vLLM on the processor, really run. Its engines live in the test's own process, as in a job."""

import pytest

from mpd.config.resources import GenerationResources
from mpd.config.sample import DrawnSample

MEGABYTE = 2**20
CACHE = {"kv_cache_memory_bytes": 64 * MEGABYTE}  # whatever memory the machine has
QUESTIONS = ("1+3-2", "4-1+5-6+1", "2+2", "6-5+3-1", "5+1-4+2-3+6", "3+3")


def pytest_itemcollected(item):
    # At its start vLLM touches every name of every loaded module, torch's deprecated ones too.
    item.add_marker(pytest.mark.filterwarnings("ignore:.*reduce_op:FutureWarning"))


@pytest.fixture(scope="session")
def student(write_model, tmp_path_factory):
    """The manifest of a student with heads of a size that vLLM has kernels for."""
    return write_model(tmp_path_factory.mktemp("vllm_student"), seed=5, head_dim=32)


@pytest.fixture(scope="session")
def teacher(write_model, tmp_path_factory):
    """The manifest of a teacher of the same tokens, with padded rows and a tied head."""
    folder = tmp_path_factory.mktemp("vllm_teacher")
    return write_model(folder, seed=2, padding=19, tied=True, head_dim=32)


@pytest.fixture(scope="session")
def make_engine():
    """A function that makes an engine; changes are those of resources."""
    from mpd.engines.vllm.generation import VllmEngine

    def make(manifest, engine_arguments=CACHE, **changes):
        settings = DrawnSample(engine="vllm", engine_arguments=dict(engine_arguments))
        resources = GenerationResources(**{"batch_size": 4, **changes})
        return VllmEngine(manifest, settings, resources)

    return make


@pytest.fixture(scope="session")
def engine(make_engine, student):
    return make_engine(student)


@pytest.fixture(scope="session")
def plain(student):
    """The transformers engine of the same student."""
    from mpd.engines.transformers import TransformersEngine

    return TransformersEngine(student, "float32", GenerationResources(batch_size=4))


@pytest.fixture(scope="session")
def requests(tiny_prompts):
    """Prompts of several lengths, each of them with four seeds."""
    from mpd.engines.base import Request

    return [
        Request(tiny_prompts.problem_ids(question), seed)
        for seed, question in enumerate(QUESTIONS * 4)
    ]
