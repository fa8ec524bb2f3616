"""The generation engine: token ids in, token ids out. B sequences, T tokens, V vocabulary.

Every request carries its own seed, so a completion does not depend on its neighbours, order
or shard. (Rounding may still flip a rare token between batch sizes or thread counts: a decode
with a key-value cache differs in the last bits.)
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpd.chat import ChatFormat
from mpd.model_folder import load_model, load_tokenizer, read_manifest, stop_ids


@dataclass(frozen=True)
class Request:
    """A prompt and the seed of its completion."""

    prompt_ids: list[int]
    seed: int


@dataclass(frozen=True)
class Completion:
    """Generated ids with the stop id, if any, and the log-probability of each.

    Log-probabilities are the model's own, in nats: temperature 1, before top-k and top-p.
    `finish_reason` is stop, length (token limit) or too_long (the prompt leaves no room).
    """

    token_ids: list[int]
    logprobs: list[float]
    finish_reason: str


TOO_LONG = Completion([], [], "too_long")


def seed_of(*identity: object) -> int:
    """A 63-bit seed from what identifies a sample."""
    digest = hashlib.sha256(":".join(str(part) for part in identity).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class TransformersEngine:
    """Batched generation by a plain transformers model.

    The weights are loaded when the first completion is asked for: prompts are checked before.
    """

    def __init__(
        self, manifest: Path, chat: Mapping[str, Any], dtype: str, batch_size: int, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        self.folder, self.dtype, self.batch_size = manifest.parent, dtype, batch_size
        tokenizer = load_tokenizer(self.folder)
        self.chat = ChatFormat(tokenizer, chat, stop_ids(self.folder, tokenizer))
        self.context_length = read_manifest(manifest)["context_length"]

    @cached_property
    def model(self) -> Any:
        return load_model(self.folder, self.dtype)

    def fits(self, prompt_ids: list[int], decoding: Mapping[str, Any]) -> bool:
        """Whether a prompt leaves room for max_new_tokens in the context."""
        return len(prompt_ids) + decoding["max_new_tokens"] <= self.context_length

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[Request],
        decoding: Mapping[str, Any],
        advance: Callable[[int, int], None] = lambda sequences, tokens: None,
    ) -> list[Completion]:
        """Complete every request, in order.

        `decoding` has temperature (0: greedy), top_p, top_k (0: off) and max_new_tokens. A prompt
        that leaves no room for max_new_tokens in the context comes back as too_long.
        `advance(sequences, tokens)` is called with those that finished and those that were made.
        """
        done = {
            number: TOO_LONG
            for number, request in enumerate(requests)
            if not self.fits(request.prompt_ids, decoding)
        }
        if done:
            advance(len(done), 0)
        # Neighbours of similar length waste the least padding.
        order = sorted(
            (number for number in range(len(requests)) if number not in done),
            key=lambda number: -len(requests[number].prompt_ids),
        )
        for start in range(0, len(order), self.batch_size):
            numbers = order[start : start + self.batch_size]
            batch = [requests[number] for number in numbers]
            for number, completion in zip(
                numbers, self._batch(batch, decoding, advance), strict=True
            ):
                done[number] = completion
        return [done[number] for number in range(len(requests))]

    def _batch(
        self,
        requests: list[Request],
        decoding: Mapping[str, Any],
        advance: Callable[[int, int], None],
    ) -> list[Completion]:
        from transformers import DynamicCache

        device = self.model.device
        limit = decoding["max_new_tokens"]
        input_ids, mask = _pad_left([request.prompt_ids for request in requests], device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)  # [B, T]
        uniforms = torch.tensor(
            np.stack(
                [np.random.Generator(np.random.Philox(r.seed)).random(limit) for r in requests]
            ),
            dtype=torch.float32,
            device=device,
        )  # [B, limit]
        stops = torch.tensor(self.chat.stop_ids, device=device)
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
            logits = logits[:, : self.chat.vocabulary_size].float()
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


def require_room(
    engine: TransformersEngine,
    prompts: Iterable[list[int]],
    decoding: Mapping[str, Any],
    key: str,
    advice: str = "lower it",
) -> None:
    """Raise ValueError where there are prompts, but none leaves room for max_new_tokens.

    `key` is where the user finds max_new_tokens. A part in which none fits is no error.
    """
    asked = False
    for prompt in prompts:
        if engine.fits(prompt, decoding):
            return
        asked = True
    if asked:
        raise ValueError(
            f"no prompt leaves room for {key} = {decoding['max_new_tokens']} in the model's "
            f"context of {engine.context_length} tokens; {advice}"
        )


def choose(
    logits: torch.Tensor, decoding: Mapping[str, Any], uniforms: torch.Tensor
) -> torch.Tensor:
    """One id per row of `logits` [B, V], by inverting the distribution function at `uniforms` [B].

    Temperature, then top-k, then top-p, as transformers and vLLM order them.
    """
    if decoding["temperature"] == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits / decoding["temperature"], -1)
    if 0 < decoding["top_k"] < logits.shape[-1]:
        least = probabilities.topk(decoding["top_k"]).values[:, -1:]
        probabilities = probabilities.where(probabilities >= least, 0)
    if decoding["top_p"] < 1:
        ordered, index = probabilities.sort(-1, descending=True)
        ordered = ordered / ordered.sum(-1, keepdim=True)
        before = ordered.cumsum(-1) - ordered
        dropped = torch.zeros_like(before, dtype=torch.bool).scatter(
            1, index, before >= decoding["top_p"]
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
