"""Log-probabilities of given completions, from vLLM's prompt log-probabilities."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpd.config.logits import CacheSettings
from mpd.config.resources import ScoringResources
from mpd.engines.vllm.arguments import engine_arguments, require_engine_arguments
from mpd.engines.vllm.backends import start_engine, stream_outputs
from mpd.store.model_folder import read_manifest, require_weights


class PromptScorer:
    """Gives the most probable ids, and the realised one, at all positions of completions."""

    def __init__(
        self,
        manifest: Path,
        settings: CacheSettings,
        resources: ScoringResources,
        vocabulary_size: int,
    ) -> None:
        """Start the engine. Raises ValueError as VllmEngine does."""
        require_engine_arguments(settings.engine_arguments, settings.section)
        self.section, self.resources = settings.section, resources
        self.num_candidates = min(settings.top_k, vocabulary_size)
        # vLLM insists on one new token, also after a sequence as long as the context.
        longest = read_manifest(manifest)["context_length"] + 1
        arguments = {
            **engine_arguments(manifest.parent, settings, resources, longest),
            "enable_prefix_caching": False,  # it has given log-probabilities of other prompts
            "max_logprobs": self.num_candidates,
            # The full logits of no more positions than these exist at a time.
            "enable_chunked_prefill": True,
            "max_num_batched_tokens": max(resources.chunk_size or 1024, resources.batch_size),
            **settings.engine_arguments,
        }
        require_weights(manifest.parent)
        self.backend = start_engine(arguments, self.section, resources, vocabulary_size)

    def score(
        self, prompts: Sequence[list[int]], completions: Sequence[list[int]]
    ) -> tuple[Any, Any]:
        """Ids int64 and their float32 log-probabilities in nats, both [N, 1 + J].

        Column 0 is the realised id, the others are the J most probable ids.
        """
        import torch
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        parameters = SamplingParams(
            max_tokens=1,
            temperature=0,
            prompt_logprobs=self.num_candidates,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        requests = (
            (number, [*prompt, *completion], parameters)
            for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True))
        )
        outputs = dict(stream_outputs(self.backend, self.section, self.resources, requests))
        ids: list[int] = []
        logprobs: list[float] = []
        for number, prompt in enumerate(prompts):
            flat = outputs[number].prompt_logprobs
            completion_entries = slice(flat.start_indices[len(prompt)], None)
            ids += flat.token_ids[completion_entries]
            logprobs += flat.logprobs[completion_entries]
        width = 1 + self.num_candidates
        return torch.tensor(ids).view(-1, width), torch.tensor(logprobs).view(-1, width)
