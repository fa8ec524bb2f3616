"""vLLM on the processor, really run. Its engines live in the test's own process, as in a job."""

from argparse import Namespace

import pytest

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
def make_engine(chat):
    """A function that makes an engine; changes are those of resources."""
    from mpd.engines.vllm import VllmEngine

    def make(manifest, engine_arguments=CACHE, **changes):
        resources = {
            "batch_size": 4,
            "threads": 1,
            "tensor_parallel_size": 1,
            "data_parallel_size": 1,
            "gpu_memory_utilization": 0.9,
            "max_model_len": None,
            "prefix_caching": 1,
        }
        settings = {"chat": chat, "dtype": "float32", "engine_arguments": dict(engine_arguments)}
        return VllmEngine(manifest, settings, Namespace(stage="sample", **{**resources, **changes}))

    return make


@pytest.fixture(scope="session")
def engine(make_engine, student):
    return make_engine(student)


@pytest.fixture(scope="session")
def plain(student, chat):
    """The transformers engine of the same student."""
    from mpd.engines.transformers import TransformersEngine

    return TransformersEngine(student, chat, "float32", batch_size=4, threads=1)


@pytest.fixture(scope="session")
def requests(plain):
    """Prompts of several lengths, each of them with four seeds."""
    from mpd.generate import Request

    return [
        Request(plain.chat.problem_ids(question), seed)
        for seed, question in enumerate(QUESTIONS * 4)
    ]
