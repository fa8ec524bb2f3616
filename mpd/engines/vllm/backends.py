"""Running engines of vLLM: one that this process steps, or replicas in processes of their own."""

import atexit
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing import connection
from threading import Thread
from typing import Any, Protocol

from mpd.config.resources import EngineResources
from mpd.engines.flow import Coroutines, keep_full
from mpd.engines.vllm.errors import readable_errors


class Backend(Protocol):
    """A running engine; it gives no mass to ids beyond the tokenizer's tokens."""

    engine: Any

    def add(self, number: int, prompt_ids: list[int], parameters: Any) -> None:
        """Add a request with a unique number; `parameters` are vLLM's."""

    def step(self) -> list[tuple[int, Any]]:
        """Numbers and outputs of the requests that have finished; there may be none yet."""


def start_engine(
    arguments: Mapping[str, Any], section: str, resources: EngineResources, vocabulary_size: int
) -> Backend:
    """Start an engine; ids from `vocabulary_size` on are padding and get no mass.

    Raises ValueError where vLLM refuses an argument, or does not find the memory.
    """
    import torch

    if arguments.get("speculative_config") and not torch.cuda.is_available():
        raise ValueError(
            f"{section}.engine_arguments.speculative_config: without a GPU, vLLM samples "
            "improbable ids with it; remove it"
        )
    _set_environment(resources.threads)
    # A termination that Python does not see would leave the processes of vLLM, and their memory.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with readable_errors(section):
        if resources.data_parallel_size > 1:
            return Replicas(arguments, vocabulary_size)
        return SingleEngine(arguments, vocabulary_size)


def stream_outputs(
    backend: Backend,
    section: str,
    resources: EngineResources,
    requests: Iterable[tuple[int, list[int], Any]],
) -> Iterator[tuple[int, Any]]:
    """Numbers and outputs as they finish; a request is its number, prompt ids and parameters.

    The engine holds twice as many requests as run side by side, so that it never waits for one.
    """

    def step() -> list[tuple[int, Any]]:
        with readable_errors(section):
            return backend.step()

    room = 2 * resources.batch_size * resources.data_parallel_size
    return keep_full(requests, room, lambda request: backend.add(*request), step)


class SingleEngine:
    """One engine, stepped by this process."""

    def __init__(self, arguments: Mapping[str, Any], vocabulary_size: int) -> None:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        offline = UsageContext.LLM_CLASS  # with the defaults of LLM.generate
        self.engine = LLMEngine.from_engine_args(EngineArgs(**arguments), offline)
        atexit.register(self.engine.engine_core.shutdown)
        if hasattr(self.engine.engine_core, "outputs_queue"):
            Thread(target=_watch, args=(self.engine.engine_core,), daemon=True).start()
        is_padded = self.engine.collective_rpc("trim_vocabulary", args=(vocabulary_size,))
        _require_no_draft_model(arguments, any(is_padded))
        self.engine.collective_rpc("exit_with_job", args=(os.getpid(),))

    def add(self, number: int, prompt_ids: list[int], parameters: Any) -> None:
        """See Backend."""
        from vllm.inputs import tokens_input

        self.engine.add_request(str(number), tokens_input(prompt_ids), parameters)

    def step(self) -> list[tuple[int, Any]]:
        """See Backend."""
        return [
            (int(output.request_id), output) for output in self.engine.step() if output.finished
        ]


class Replicas:
    """Data-parallel engines in processes of their own; vLLM balances their load."""

    def __init__(self, arguments: Mapping[str, Any], vocabulary_size: int) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        async def start() -> AsyncLLM:
            offline = UsageContext.LLM_CLASS
            engine_args = AsyncEngineArgs(**arguments)
            engine = AsyncLLM.from_engine_args(engine_args, usage_context=offline)
            is_padded = await engine.collective_rpc("trim_vocabulary", args=(vocabulary_size,))
            _require_no_draft_model(arguments, any(is_padded))
            await engine.collective_rpc("exit_with_job", args=(os.getpid(),))
            return engine

        self.coroutines: Coroutines[tuple[int, Any]] = Coroutines()
        self.engine = self.coroutines.run(start())
        atexit.register(self.stop)

    def add(self, number: int, prompt_ids: list[int], parameters: Any) -> None:
        """See Backend."""
        self.coroutines.add(self._output(number, prompt_ids, parameters))

    def step(self) -> list[tuple[int, Any]]:
        """See Backend."""
        return self.coroutines.step()

    def stop(self) -> None:
        """End the engines, at the latest at exit: vLLM logs errors once modules are unloaded."""
        atexit.unregister(self.stop)
        self.engine.shutdown()
        self.coroutines.close()
        del self.engine

    async def _output(self, number: int, prompt_ids: list[int], parameters: Any) -> tuple[int, Any]:
        """The number and the output of one request. Raises EngineDeadError where a replica died."""
        from vllm.inputs import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        stream = self.engine.generate(tokens_input(prompt_ids), parameters, str(number))
        (output,) = [final async for final in stream]  # FINAL_ONLY: there is one
        if output.outputs[0].finish_reason == "abort":  # how vLLM ends the requests of a dead one
            raise EngineDeadError
        return number, output


def _watch(core: Any) -> None:
    """End the wait for an engine process that was killed, which vLLM would go on with."""
    from vllm.v1.engine.exceptions import EngineDeadError

    connection.wait([process.sentinel for process in core.resources.engine_manager.processes])
    core.outputs_queue.put(EngineDeadError())


def _require_no_draft_model(arguments: Mapping[str, Any], is_padded: bool) -> None:
    """Raise ValueError where a draft model could propose ids of padded output rows."""
    if is_padded and (arguments.get("speculative_config") or {}).get("model"):
        raise ValueError(
            "engine_arguments.speculative_config: a draft model may propose ids beyond the "
            "tokenizer's tokens, where this model has padding; take a method without a model"
        )


def _set_environment(threads: int) -> None:
    """Set what vLLM takes from the environment, except what the user has set there."""
    import torch

    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if torch.cuda.is_available():
        return
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Jobs side by side must not be bound to the same cores; a process of its own starts slowly.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
