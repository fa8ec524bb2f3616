"""The embedded engine: plain transformers in batches. B sequences, T tokens, V vocabulary."""

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
        from transformers import DynamicCache

        device = self.model.device
        limit = decoding.max_new_tokens
        input_ids, mask = _pad_left([request.prompt_ids for request in requests], device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)  # [B, T]
        uniforms = torch.tensor(
            np.stack(
                [np.random.Generator(np.random.Philox(r.seed)).random(limit) for r in requests]
            ),
            dtype=torch.float32,
            device=device,
        )  # [B, limit]
        stops = torch.tensor(self.vocabulary.stop_ids, device=device)
        rows = list(range(len(requests)))  # the requests that the batch still holds
        ids: list[list[int]] = [[] for _ in requests]
        logprobs: list[list[float]] = [[] for _ in requests]
        reasons = ["length"] * len(requests)
        cache = DynamicCache(config=self.model.config)
        for step in range(limit):
            logits = self.model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]  # [B, V]
            # Output rows beyond the tokenizer's tokens are padding: they get no mass.
            logits = logits[:, : self.vocabulary.size].float()
            token = choose(logits, decoding, uniforms[:, step])
            logprob = torch.log_softmax(logits, -1).gather(1, token[:, None])[:, 0]
            for row, value, score in zip(rows, token.tolist(), logprob.tolist(), strict=True):
                ids[row].append(value)
                logprobs[row].append(score)
            stopped = torch.isin(token, stops)
            advance(int(stopped.sum()), len(rows))
            if stopped.any():
                going = (~stopped).nonzero()[:, 0]
                finished = [row for row, flag in zip(rows, stopped.tolist(), strict=True) if flag]
                for row in finished:
                    reasons[row] = "stop"
                rows = [rows[index] for index in going.tolist()]
                if not rows:
                    break
                cache.batch_select_indices(going)
                token, mask, uniforms = token[going], mask[going], uniforms[going]
                positions = positions[going]
            input_ids = token[:, None]
            positions = positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        if rows:
            advance(len(rows), 0)
        return [Completion(*parts) for parts in zip(ids, logprobs, reasons, strict=True)]


def choose(logits: torch.Tensor, decoding: Decoding, uniforms: torch.Tensor) -> torch.Tensor:
    """One id per row of `logits` [B, V], by inverting the distribution function at `uniforms` [B].

    Temperature, then top-k, then top-p, as transformers and vLLM order them.
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
    """Ids and attention mask [B, T], padded on the left with id 0, which the mask hides."""
    width = max(len(sequence) for sequence in sequences)
    ids = [[0] * (width - len(sequence)) + sequence for sequence in sequences]
    mask = [[0] * (width - len(sequence)) + [1] * len(sequence) for sequence in sequences]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
