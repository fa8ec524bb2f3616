"""The engine `vllm` of the stages that generate."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mpd.config.generation import Decoding, EngineSettings
from mpd.config.resources import GenerationResources
from mpd.engines.base import Completion, Engine, Request
from mpd.engines.vllm.arguments import engine_arguments, require_engine_arguments
from mpd.engines.vllm.backends import Backend, start_engine, stream_outputs
from mpd.store.model_folder import require_weights


class VllmEngine(Engine):
    """Completions by vLLM, in this process or in workers of its own.

    Raises ValueError where vLLM is missing, refuses an argument, or has too little memory.
    """

    def __init__(
        self, manifest: Path, settings: EngineSettings, resources: GenerationResources
    ) -> None:
        super().__init__(manifest)
        self.settings, self.resources = settings, resources
        limit = resources.max_model_len or self.context_length
        self.max_model_len = min(limit, self.context_length)
        require_engine_arguments(settings.engine_arguments, settings.section)

    @cached_property
    def backend(self) -> Backend:
        """The running engine, which starts when it is first needed."""
        require_weights(self.folder)
        section, size = self.settings.section, self.vocabulary.size
        return start_engine(self.arguments(), section, self.resources, size)

    def arguments(self) -> dict[str, Any]:
        """Every argument that the engine is started with."""
        shared = engine_arguments(self.folder, self.settings, self.resources, self.max_model_len)
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
        backend, section = self.backend, self.settings.section
        parameterised = (
            (number, request.prompt_ids, self._parameters(request, decoding))
            for number, request in requests
        )
        for number, output in stream_outputs(backend, section, self.resources, parameterised):
            completion = _completion(output)
            advance(1, len(completion.token_ids))
            yield number, completion

    def _parameters(self, request: Request, decoding: Decoding) -> Any:
        """The sampling parameters of a request, as vLLM wants them."""
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
    """The completion of a finished output of vLLM."""
    completion = output.outputs[0]
    if completion.finish_reason not in ("stop", "length"):
        raise ValueError(f"vLLM ended a completion with {completion.finish_reason!r}; run again")
    ids, logprobs = list(completion.token_ids), list(completion.logprobs.logprobs)
    assert len(ids) == len(logprobs)
    return Completion(ids, logprobs, completion.finish_reason)
