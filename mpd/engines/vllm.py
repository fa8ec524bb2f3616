"""The production engine: vLLM, with continuous batching.

It is imported here and nowhere else, inside functions, so that only jobs that use it need it.
"""

import atexit
import difflib
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from multiprocessing import connection
from pathlib import Path
from threading import Thread
from typing import Any

from mpd.config.generation import Decoding, EngineSettings
from mpd.config.logits import CacheSettings
from mpd.config.resources import EngineResources, GenerationResources, ScoringResources
from mpd.engines.base import Completion, Engine, Request
from mpd.engines.flow import Tasks, keep_full
from mpd.store.model_folder import read_manifest

# Engine arguments that have a place of their own in the config.
PLACES = {
    "model": "models",
    "tokenizer": "models",
    "dtype": "models.dtype",
    "max_num_seqs": "resources.{stage}.batch_size",
    "tensor_parallel_size": "resources.{stage}.tensor_parallel_size",
    "data_parallel_size": "resources.{stage}.data_parallel_size",
    "gpu_memory_utilization": "resources.{stage}.gpu_memory_utilization",
    "max_model_len": "resources.{stage}.max_model_len",
    "enable_prefix_caching": "resources.{stage}.prefix_caching",
}

# What completions rest on: ids go in and out, and log-probabilities are the model's own.
FIXED = {
    "skip_tokenizer_init": True,
    "generation_config": "vllm",  # no sampling defaults of the model's
    "logprobs_mode": "raw_logprobs",
    "worker_extension_cls": "mpd.engines.vllm.Worker",
    "enable_batch_sharded_sampling": False,  # it passes by where Worker cuts the logits
    "disable_log_stats": True,
}


class VllmEngine(Engine):
    """Completions by vLLM, in this process or in workers of its own.

    It is kept full: twice as many requests as run side by side are with it until none is left.
    Raises ValueError where vLLM is missing, refuses an argument, or has too little memory.
    """

    def __init__(
        self, manifest: Path, settings: EngineSettings, resources: GenerationResources
    ) -> None:
        super().__init__(manifest)
        self.settings, self.resources = settings, resources
        limit = resources.max_model_len or self.context_length
        self.max_model_len = min(limit, self.context_length)
        require_known(settings.engine_arguments, settings.section)

    @cached_property
    def backend(self) -> "_Process | _Replicas":
        arguments, section = self.vllm_arguments(), self.settings.section
        return start(arguments, section, self.resources, self.vocabulary.size)

    def vllm_arguments(self) -> dict[str, Any]:
        """Every argument that the engine is started with."""
        shared = vllm_arguments(self.folder, self.settings, self.resources, self.max_model_len)
        return {**shared, "enable_prefix_caching": self.resources.prefix_caching}

    def _complete(
        self,
        requests: Sequence[tuple[int, Request]],
        decoding: Decoding,
        advance: Callable[[int, int], None],
    ) -> Iterator[tuple[int, Completion]]:
        longest = len(requests[0][1].prompt_ids) + decoding.max_new_tokens
        if longest > self.max_model_len:
            raise ValueError(
                f"a prompt and its new tokens take up to {longest} tokens, but "
                f"resources.{self.settings.section}.max_model_len is {self.max_model_len}; raise it"
            )
        asked = (
            (number, request.prompt_ids, self._parameters(request, decoding))
            for number, request in requests
        )
        section, resources = self.settings.section, self.resources
        for number, output in outputs_of(self.backend, section, resources, asked):
            completion = _completion(output)
            advance(1, len(completion.token_ids))
            yield number, completion

    def _parameters(self, request: Request, decoding: Decoding) -> Any:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        return SamplingParams(
            seed=request.seed,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            top_k=decoding.top_k,
            max_tokens=decoding.max_new_tokens,
            stop_token_ids=self.vocabulary.stop_ids,
            ignore_eos=True,  # it is among the stop ids
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def _completion(output: Any) -> Completion:
    completion = output.outputs[0]
    if completion.finish_reason not in ("stop", "length"):
        raise ValueError(f"vLLM ended a completion with {completion.finish_reason!r}; run again")
    ids, logprobs = list(completion.token_ids), list(completion.logprobs.logprobs)
    assert len(ids) == len(logprobs)
    return Completion(ids, logprobs, completion.finish_reason)


class PromptScores:
    """The teacher's log-probabilities of given sequences: most probable ids, and the realised."""

    def __init__(
        self,
        manifest: Path,
        settings: CacheSettings,
        resources: ScoringResources,
        vocabulary_size: int,
    ) -> None:
        require_known(settings.engine_arguments, settings.section)
        self.section, self.resources = settings.section, resources
        self.top_k = min(settings.top_k, vocabulary_size)
        # The one new token that vLLM insists on may stand behind a sequence as long as the context.
        longest = read_manifest(manifest)["context_length"] + 1
        arguments = {
            **vllm_arguments(manifest.parent, settings, resources, longest),
            "enable_prefix_caching": False,  # it has given log-probabilities of other prompts
            "max_logprobs": self.top_k,
            # No more positions have their full logits at a time.
            "enable_chunked_prefill": True,
            "max_num_batched_tokens": max(resources.chunk_size, resources.batch_size),
            **settings.engine_arguments,
        }
        self.backend = start(arguments, self.section, resources, vocabulary_size)

    def score(
        self, prompts: Sequence[list[int]], completions: Sequence[list[int]]
    ) -> tuple[Any, Any]:
        """Ids int64 and float32 log-probabilities [N, 1 + K] of all N completion positions.

        The first column is the completion's own id; the others are the K most probable ones, in
        nats. Sequence stands after sequence.
        """
        import torch
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        parameters = SamplingParams(
            max_tokens=1,
            temperature=0,
            prompt_logprobs=self.top_k,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

        asked = (
            (number, [*prompt, *completion], parameters)
            for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True))
        )
        outputs = dict(outputs_of(self.backend, self.section, self.resources, asked))
        ids: list[int] = []
        logprobs: list[float] = []
        for number, prompt in enumerate(prompts):
            flat = outputs[number].prompt_logprobs
            part = slice(flat.start_indices[len(prompt)], None)  # the rest is the completion's
            ids += flat.token_ids[part]
            logprobs += flat.logprobs[part]
        width = 1 + self.top_k
        return torch.tensor(ids).view(-1, width), torch.tensor(logprobs).view(-1, width)


def outputs_of(
    backend: "_Process | _Replicas",
    section: str,
    resources: EngineResources,
    asked: Iterable[tuple[int, list[int], Any]],
) -> Iterator[tuple[int, Any]]:
    """Numbers and outputs as they finish, of numbers, prompts and their parameters.

    Twice as many are with the engine as run side by side, so that it is never short of them.
    """

    def step() -> list[tuple[int, Any]]:
        with in_a_sentence(section):
            return backend.step()

    room = 2 * resources.batch_size * resources.data_parallel_size
    return keep_full(asked, room, lambda request: backend.add(*request), step)


def vllm_arguments(
    folder: Path,
    settings: EngineSettings | CacheSettings,
    resources: EngineResources,
    max_model_len: int,
) -> dict[str, Any]:
    """The arguments of an engine of vLLM; `max_model_len` in tokens."""
    import torch

    on_cpu = {
        "enforce_eager": True,
        # Requests with seeds fail there where a prompt is computed in two steps.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(max_model_len, 2048),
    }
    return {
        **FIXED,
        "model": str(folder),
        "dtype": settings.dtype,
        "max_num_seqs": resources.batch_size,
        "tensor_parallel_size": resources.tensor_parallel_size,
        "data_parallel_size": resources.data_parallel_size,
        "gpu_memory_utilization": resources.gpu_memory_utilization,
        "max_model_len": max_model_len,
        **({} if torch.cuda.is_available() else on_cpu),
        "use_tqdm_on_load": False,
        **settings.engine_arguments,
    }


def start(
    arguments: Mapping[str, Any], section: str, resources: EngineResources, vocabulary_size: int
) -> "_Process | _Replicas":
    """A running engine that gives no mass to ids from `vocabulary_size` on.

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
    backend = _Replicas if resources.data_parallel_size > 1 else _Process
    with in_a_sentence(section):
        return backend(arguments, vocabulary_size)


def _require_no_draft_model(arguments: Mapping[str, Any], padded: bool) -> None:
    if padded and (arguments.get("speculative_config") or {}).get("model"):
        raise ValueError(
            "engine_arguments.speculative_config: a draft model may propose ids beyond the "
            "tokenizer's tokens, where this model has padding; take a method without a model"
        )


def require_known(given: Mapping[str, Any], stage: str) -> None:
    """Raise ValueError where vLLM is missing, or an engine argument is not one of its own."""
    # vLLM reads these once. The length is ours to keep; scoring needs one token more.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")
    warnings.filterwarnings("ignore", ".*torch.distributed.reduce_op", FutureWarning)
    try:
        from vllm.engine.arg_utils import EngineArgs
    except ImportError as error:
        raise ValueError(
            f"{stage}.engine is vllm, but it cannot be imported ({error}); install it as "
            "docs/engines.md says, or set engine: transformers"
        ) from None
    known = EngineArgs.__dataclass_fields__  # what one replica and several take
    for name in given:
        key = f"{stage}.engine_arguments.{name}"
        if name in PLACES:
            raise ValueError(f"{key}: set {PLACES[name].format(stage=stage)} instead")
        if name in FIXED:
            raise ValueError(f"{key}: this one is not free, completions rest on it; remove it")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"{key}: vLLM has no such engine argument{hint}")


@contextmanager
def in_a_sentence(stage: str) -> Iterator[None]:
    """Turn what vLLM raises into a sentence that names the settings; finished parts are kept."""
    import torch
    from pydantic import ValidationError
    from vllm.v1.engine.exceptions import EngineDeadError

    resources = f"resources.{stage}"
    try:
        yield
    except ValidationError as error:
        reasons = "; ".join(_refusal(mistake) for mistake in error.errors())
        raise ValueError(
            f"vLLM refuses an engine argument: {reasons}; mend {stage}.engine_arguments or "
            f"{resources}"
        ) from error
    except Exception as error:
        # The memory errors of torch are RuntimeErrors; those of other processes have no cause here.
        text = " ".join(str(error).split()).rstrip(".")
        elsewhere = isinstance(error, EngineDeadError) or "root cause" in text
        memory = "memory" in text or "KV cache" in text
        if not (elsewhere or isinstance(error, (ValueError, RuntimeError, MemoryError))):
            raise
        if not (elsewhere or memory or isinstance(error, (torch.OutOfMemoryError, MemoryError))):
            raise ValueError(f"vLLM: {text}") from error
        cause = "it died; its own words, if any, are above" if elsewhere else text
        # What logits scores is as long as it is.
        length = f"{resources}.max_model_len or " if stage != "logits" else ""
        raise ValueError(
            f"vLLM: {cause}. To need less memory, lower {length}{resources}.batch_size; to have "
            f"more, set {resources}.gpu_memory_utilization (its share) or "
            f"{resources}.tensor_parallel_size"
        ) from error


def _refusal(mistake: Any) -> str:
    place = ".".join(str(step) for step in mistake["loc"])
    reason = mistake["msg"].removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason


def _set_environment(threads: int) -> None:
    """Settings that vLLM takes from the environment; the user's come first."""
    import torch

    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if torch.cuda.is_available():
        return
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Jobs side by side must not be bound to the same cores; a process of its own starts slowly.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


class _Process:
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
        padded = self.engine.collective_rpc("trim_vocabulary", args=(vocabulary_size,))
        _require_no_draft_model(arguments, any(padded))
        self.engine.collective_rpc("end_with", args=(os.getpid(),))

    def add(self, number: int, prompt_ids: list[int], parameters: Any) -> None:
        from vllm.inputs import tokens_input

        self.engine.add_request(str(number), tokens_input(prompt_ids), parameters)

    def step(self) -> list[tuple[int, Any]]:
        return [(int(out.request_id), out) for out in self.engine.step() if out.finished]


def _watch(core: Any) -> None:
    """Wake who waits for an engine in a process of its own that was killed: vLLM does not."""
    from vllm.v1.engine.exceptions import EngineDeadError

    connection.wait([process.sentinel for process in core.resources.engine_manager.processes])
    core.outputs_queue.put(EngineDeadError())


class _Replicas:
    """Data-parallel engines in processes of their own; vLLM balances their load."""

    def __init__(self, arguments: Mapping[str, Any], vocabulary_size: int) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        async def started() -> AsyncLLM:
            offline = UsageContext.LLM_CLASS
            engine_arguments = AsyncEngineArgs(**arguments)
            engine = AsyncLLM.from_engine_args(engine_arguments, usage_context=offline)
            padded = await engine.collective_rpc("trim_vocabulary", args=(vocabulary_size,))
            _require_no_draft_model(arguments, any(padded))
            await engine.collective_rpc("end_with", args=(os.getpid(),))
            return engine

        self.tasks: Tasks[tuple[int, Any]] = Tasks()
        self.engine = self.tasks.run(started())
        atexit.register(self.stop)

    def add(self, number: int, prompt_ids: list[int], parameters: Any) -> None:
        self.tasks.add(self._one(number, prompt_ids, parameters))

    def step(self) -> list[tuple[int, Any]]:
        return self.tasks.step()

    def stop(self) -> None:
        """End them, at the latest before modules go: vLLM complains then."""
        atexit.unregister(self.stop)
        self.engine.shutdown()
        self.tasks.close()
        del self.engine

    async def _one(self, number: int, prompt_ids: list[int], parameters: Any) -> tuple[int, Any]:
        from vllm.inputs import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        stream = self.engine.generate(tokens_input(prompt_ids), parameters, str(number))
        (output,) = [final async for final in stream]  # the final one alone is given
        if output.outputs[0].finish_reason == "abort":  # so it ends what a dead replica had
            raise EngineDeadError
        return number, output


class Worker:
    """What the workers of vLLM can do beyond their own: see worker_extension_cls."""

    def trim_vocabulary(self, size: int) -> bool:
        """Cut the logits to the tokenizer's tokens; whether there was padding beyond them."""
        model: Any = self.get_model()  # type: ignore[attr-defined]
        processors = [
            module for module in model.modules() if type(module).__name__ == "LogitsProcessor"
        ]
        if not processors:
            raise ValueError(f"no logits processor in {type(model).__name__}; use transformers")
        padded = any(module.org_vocab_size > size for module in processors)
        for module in processors:
            module.org_vocab_size = min(module.org_vocab_size, size)
        return padded

    def end_with(self, job: int) -> None:
        """End this worker, and with it the engine, when its job is gone; killed, it tells none."""
        import psutil

        above = {process.pid: process for process in psutil.Process().parents()}
        if job in above:  # else it is the job itself that works, or the worker is on another node
            Thread(target=_end_with, args=(above[job],), daemon=True).start()


def _end_with(process: Any) -> None:
    try:
        while process.is_running() and process.status() != "zombie":
            time.sleep(2)
    finally:  # it may go between the two questions
        os._exit(1)
