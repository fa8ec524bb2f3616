"""The embedded engine: plain transformers models, in batches."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpd.config.generation import Decoding
from mpd.config.models import Dtype
from mpd.config.resources import GenerationResources
from mpd.engines.base import Completion, Engine, Request
from mpd.store.model_folder import load_model


class TransformersEngine(Engine):
    """Batched generation by a plain transformers model."""

    def __init__(self, manifest: Path, dtype: Dtype, resources: GenerationResources) -> None:
        super().__init__(manifest)
        torch.set_num_threads(resources.threads)
        self.dtype, self.batch_size = dtype, resources.batch_size

    @cached_property
    def model(self) -> Any:
        """The model, which is loaded when it is first needed."""
        return load_model(self.folder, self.dtype)

    def _complete(
        self,
        requests: Sequence[tuple[int, Request]],
        decoding: Decoding,
        advance: Callable[[int, int], None],
    ) -> Iterator[tuple[int, Completion]]:
        for start in range(0, len(requests), self.batch_size):
            numbers, batch = zip(*requests[start : start + self.batch_size], strict=True)
            yield from zip(numbers, self._batch(batch, decoding, advance), strict=True)

    @torch.inference_mode()
    def _batch(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        advance: Callable[[int, int], None],
    ) -> list[Completion]:
        """Complete the requests of one batch, in order."""
        limit = decoding.max_new_tokens
        running = _Running(self.model, requests, limit)
        stop_ids = torch.tensor(self.vocabulary.stop_ids, device=self.model.device)
        ids: list[list[int]] = [[] for _ in requests]
        logprobs: list[list[float]] = [[] for _ in requests]
        reasons = ["length"] * len(requests)
        for step in range(limit):
            # Output rows beyond the tokenizer's tokens are padding: they get no mass.
            logits = running.logits()[:, : self.vocabulary.size].float()
            token = choose(logits, decoding, running.uniforms[:, step])
            # On a CPU log_softmax errs by 1e-4 over 150,000 tokens, and logsumexp by 1e-6.
            logprob = logits.gather(1, token[:, None])[:, 0] - logits.logsumexp(-1)
            stopped = torch.isin(token, stop_ids).tolist()
            results = zip(running.rows, token.tolist(), logprob.tolist(), stopped, strict=True)
            for row, token_id, token_logprob, has_stopped in results:
                ids[row].append(token_id)
                logprobs[row].append(token_logprob)
                if has_stopped:
                    reasons[row] = "stop"
            advance(sum(stopped), len(running.rows))
            if all(stopped):
                break
            running.append(token)
            if any(stopped):
                running.select([place for place, flag in enumerate(stopped) if not flag])
        else:  # those that still run have reached the limit
            advance(len(running.rows), 0)
        return [Completion(*parts) for parts in zip(ids, logprobs, reasons, strict=True)]


class _Running:
    """The sequences of a batch that have not stopped, with their key-value cache.

    `rows` are their numbers in the batch; `uniforms` [R, limit] are the random numbers by which
    their tokens are chosen.
    """

    def __init__(self, model: Any, requests: Sequence[Request], limit: int) -> None:
        from transformers import DynamicCache

        self.model = model
        prompts = [request.prompt_ids for request in requests]
        self.input_ids, self.mask = _pad_left(prompts, model.device)
        self.positions = (self.mask.cumsum(1) - 1).clamp(min=0)  # [R, T]
        generators = [np.random.Generator(np.random.Philox(request.seed)) for request in requests]
        uniforms = np.stack([generator.random(limit) for generator in generators])
        self.uniforms = torch.tensor(uniforms, dtype=torch.float32, device=model.device)
        self.cache = DynamicCache(config=model.config)
        self.rows = list(range(len(requests)))

    def logits(self) -> torch.Tensor:
        """Logits of the next tokens, one row for each sequence, padded output rows included."""
        return self.model(
            input_ids=self.input_ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]

    def append(self, token: torch.Tensor) -> None:
        """Append a token [R] to each sequence."""
        self.input_ids = token[:, None]
        self.positions = self.positions[:, -1:] + 1
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], 1)

    def select(self, places: list[int]) -> None:
        """Continue with the sequences at these places alone."""
        index = torch.tensor(places, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.rows = [self.rows[place] for place in places]
        self.input_ids, self.mask = self.input_ids[index], self.mask[index]
        self.positions, self.uniforms = self.positions[index], self.uniforms[index]


def choose(logits: torch.Tensor, decoding: Decoding, uniforms: torch.Tensor) -> torch.Tensor:
    """One id per row of `logits` [R, V], by inverting the distribution function at `uniforms` [R].

    Temperature, then top-k, then top-p, in the order of transformers and vLLM.
    """
    if decoding.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits / decoding.temperature, -1)
    if 0 < decoding.top_k < logits.shape[-1]:
        least = probabilities.topk(decoding.top_k).values[:, -1:]
        probabilities = probabilities.where(probabilities >= least, 0)
    if decoding.top_p < 1:
        ordered, index = probabilities.sort(-1, descending=True)
        ordered = ordered / ordered.sum(-1, keepdim=True)
        before = ordered.cumsum(-1) - ordered
        dropped = torch.zeros_like(before, dtype=torch.bool).scatter(
            1, index, before >= decoding.top_p
        )
        probabilities = probabilities.masked_fill(dropped, 0)
    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1:]
    # Rounding must not push the point to the total, which no entry exceeds.
    point = torch.minimum(
        uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total))
    )
    return torch.searchsorted(cumulative, point, right=True)[:, 0]


def _pad_left(
    sequences: list[list[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask [R, T], padded on the left with id 0, which the mask hides."""
    width = max(len(sequence) for sequence in sequences)
    ids = [[0] * (width - len(sequence)) + sequence for sequence in sequences]
    mask = [[0] * (width - len(sequence)) + [1] * len(sequence) for sequence in sequences]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
