"""Completions by an OpenAI-compatible server that takes and returns token ids, as vLLM's does.

The server has to serve the model of the stage under a name from the digest of its manifest. This
prints the command that starts such a server:

    python -m mpd.engines.server --model results/tiny/models/teacher/manifest.json
"""

import argparse
import importlib.util
import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from mpd.config.generation import Decoding
from mpd.config.resources import GenerationResources
from mpd.engines.base import Completion, Engine, Request
from mpd.engines.flow import Coroutines, keep_full
from mpd.store.model_folder import read_manifest

MAX_RETRIES = 8  # after 0.5 s, 1 s, 2 s, 4 s, then every 8 s: half a minute without an answer
TIMEOUT = 3600.0  # seconds for one completion
MAX_BIASES = 1024  # entries that vLLM accepts in a logit_bias


def served_name(manifest: Path) -> str:
    """The name under which a server has to serve a model: the first 12 digits of its digest."""
    return read_manifest(manifest)["digest"][:12]


class ServerEngine(Engine):
    """Completions by a server that many jobs may share; batch_size requests at a time.

    Padded output rows are never sampled, but the server's log-probabilities are normalised over
    them too.

    Raises ValueError where the server does not answer, serves another model or tokenizer, or
    returns no token ids.
    """

    def __init__(self, manifest: Path, resources: GenerationResources) -> None:
        super().__init__(manifest)
        if importlib.util.find_spec("openai") is None:
            raise ValueError("engine: server needs openai; pip install -e '.[server]'")
        self.name, self.url = served_name(manifest), resources.server
        self.manifest, self.concurrency = manifest, resources.batch_size
        self.coroutines: Coroutines[tuple[int, Completion]] = Coroutines()

    @cached_property
    def client(self) -> Any:
        """The connection to the server."""
        from openai import AsyncOpenAI

        key = os.environ.get("OPENAI_API_KEY", "none")
        return AsyncOpenAI(base_url=self.url, api_key=key, max_retries=MAX_RETRIES, timeout=TIMEOUT)

    @cached_property
    def padding_bias(self) -> dict[str, float]:
        """A bias by id that keeps padded output rows from being sampled.

        Raises ValueError where there are more of them than a server accepts.
        """
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        rows = config.get("text_config", config)["vocab_size"]
        padding = range(self.vocabulary.size, rows)
        if len(padding) > MAX_BIASES:
            raise ValueError(
                f"{self.manifest}: {len(padding)} output rows are no tokens, and a server can keep "
                f"{MAX_BIASES} ids at most from being sampled; set engine: vllm"
            )
        return {str(row): -100.0 for row in padding}

    def _complete(
        self,
        requests: Sequence[tuple[int, Request]],
        decoding: Decoding,
        advance: Callable[[int, int], None],
    ) -> Iterator[tuple[int, Completion]]:
        longest = requests[0][1].prompt_ids
        self.coroutines.run(self._require_model(longest, decoding.max_new_tokens))

        def add(request: tuple[int, Request]) -> None:
            self.coroutines.add(self._completion(*request, decoding))

        for number, completion in keep_full(requests, self.concurrency, add, self.coroutines.step):
            advance(1, len(completion.token_ids))
            yield number, completion

    async def _require_model(self, prompt_ids: list[int], max_new_tokens: int) -> None:
        """Raise ValueError unless the server has this model, its tokenizer and enough context."""
        with self._readable_errors():
            cards = {card.id: card async for card in self.client.models.list()}
        if self.name not in cards:
            raise ValueError(
                f"{self.url} serves {', '.join(sorted(cards))}, not {self.name}, the digest of "
                f"{self.manifest}; start it with: {command(self.manifest)}"
            )
        limit = getattr(cards[self.name], "max_model_len", None)
        needed = len(prompt_ids) + max_new_tokens
        if limit is not None and limit < needed:
            raise ValueError(
                f"{self.url} takes {limit} tokens, but a prompt and its new tokens take up to "
                f"{needed}; start it with a larger --max-model-len"
            )
        tokenizer = self.vocabulary.tokenizer
        text = tokenizer.decode(prompt_ids)
        with self._readable_errors():
            answer = await self.client.completions.create(
                model=self.name,
                prompt=text,
                max_tokens=1,
                extra_body={"return_token_ids": True, "add_special_tokens": False},
            )
        prompt_token_ids = getattr(answer.choices[0], "prompt_token_ids", None)
        if prompt_token_ids is None:
            raise ValueError(f"{self.url} returns no token ids (return_token_ids); vLLM's does")
        if prompt_token_ids != tokenizer.encode(text, add_special_tokens=False):
            raise ValueError(
                f"{self.url} tokenizes text differently from the tokenizer beside {self.manifest}"
            )

    async def _completion(
        self, number: int, request: Request, decoding: Decoding
    ) -> tuple[int, Completion]:
        """The number and the completion of one request."""
        with self._readable_errors():
            answer = await self.client.completions.create(
                model=self.name,
                prompt=request.prompt_ids,
                seed=request.seed,
                temperature=decoding.temperature,
                top_p=decoding.top_p,
                max_tokens=decoding.max_new_tokens,
                logprobs=0,
                logit_bias=self.padding_bias or None,
                extra_body={
                    "top_k": decoding.top_k,
                    "stop_token_ids": self.vocabulary.stop_ids,
                    "ignore_eos": True,  # it is among the stop ids
                    "return_token_ids": True,
                },
            )
        choice = answer.choices[0]
        ids, reason = choice.token_ids, choice.finish_reason
        stopped = bool(ids) and ids[-1] in self.vocabulary.stop_ids
        if reason not in ("stop", "length") or stopped != (reason == "stop"):
            raise ValueError(f"{self.url} ended a completion with {reason} after {ids[-1:]}")
        return number, Completion(ids, choice.logprobs.token_logprobs, reason)

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        """Raise a refusal, or the silence of a server, as a ValueError of one sentence."""
        from openai import APIConnectionError, APIError

        try:
            yield
        except APIConnectionError as error:
            raise ValueError(
                f"{self.url}: no answer in {MAX_RETRIES + 1} tries ({error}); is the server up? "
                "Finished parts are kept"
            ) from error
        except APIError as error:
            raise ValueError(f"{self.url}: {error.message}") from error


def command(manifest: Path) -> str:
    """The command line of a server that serves a model under its `served_name`."""
    words = ["python", "-m", "vllm.entrypoints.openai.api_server", "--model", str(manifest.parent)]
    words += ["--served-model-name", served_name(manifest), "--generation-config", "vllm"]
    return shlex.join(words)


def main(argv: list[str] | None = None) -> None:
    """Print the command line of a server."""
    parser = argparse.ArgumentParser(prog="python -m mpd.engines.server", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", type=Path, required=True, help="manifest of the model to serve")
    print(command(parser.parse_args(argv).model))


if __name__ == "__main__":
    main()
