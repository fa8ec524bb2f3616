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
from typing import TYPE_CHECKING

from mpd.config.generation import Decoding
from mpd.config.resources import GenerationResources
from mpd.engines.base import Completion, Engine, Request
from mpd.engines.flow import Coroutines, keep_full
from mpd.engines.server_answers import completion_of, context_lengths, only_choice, prompt_ids_of
from mpd.store.model_folder import read_manifest

if TYPE_CHECKING:
    from mpd.engines.server_connection import Connection

MAX_BIASES = 1024  # entries that vLLM accepts in a logit_bias


def served_name(manifest: Path) -> str:
    """The name under which a server has to serve a model: the first 12 digits of its digest."""
    return read_manifest(manifest)["digest"][:12]


class ServerEngine(Engine):
    """Completions by a server that many jobs may share; batch_size requests at a time.

    Padded output rows are never sampled, but the server's log-probabilities are normalised over
    them too.

    Raises ValueError where the server does not answer in time, serves another model or tokenizer,
    or returns anything but a completion that was asked for.
    """

    def __init__(self, manifest: Path, resources: GenerationResources, stage: str) -> None:
        super().__init__(manifest)
        if importlib.util.find_spec("openai") is None:
            raise ValueError("engine: server needs openai; pip install -e '.[server]'")
        if resources.server is None:
            raise ValueError(f"resources.{stage}.server: set it to the base URL of the server")
        self.name, self.url = served_name(manifest), resources.server
        self.manifest, self.concurrency = manifest, resources.batch_size
        self.timeout, self.stage = resources.server_timeout, stage
        self.coroutines: Coroutines[tuple[int, Completion]] = Coroutines()

    @cached_property
    def connection(self) -> "Connection":
        """The connection to the server."""
        from mpd.engines.server_connection import Connection

        key = os.environ.get("OPENAI_API_KEY", "none")
        return Connection(self.url, key, self.concurrency, self.timeout, self.stage)

    def close(self) -> None:
        """Close the connection, and cancel what still runs."""
        self.coroutines.run(self.connection.close())
        self.coroutines.close()

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
        content = await self.connection.models()
        with self._named("the list of models"):
            lengths = context_lengths(content)
        if self.name not in lengths:
            raise ValueError(
                f"{self.url} serves {', '.join(sorted(lengths))}, not {self.name}, the digest of "
                f"{self.manifest}; start it with: {command(self.manifest)}"
            )
        limit, needed = lengths[self.name], len(prompt_ids) + max_new_tokens
        if limit is not None and limit < needed:
            raise ValueError(
                f"{self.url} takes {limit} tokens, but a prompt and its new tokens take up to "
                f"{needed}; start it with a larger --max-model-len"
            )
        tokenizer = self.vocabulary.tokenizer
        text, name = tokenizer.decode(prompt_ids), "the check of the tokenizer"
        content = await self.connection.complete(
            name,
            model=self.name,
            prompt=text,
            max_tokens=1,
            extra_body={"return_token_ids": True, "add_special_tokens": False},
        )
        with self._named(name):
            choice = only_choice(content)
        if choice.get("prompt_token_ids") is None:
            raise ValueError(f"{self.url} returns no token ids (return_token_ids); vLLM's does")
        with self._named(name):
            served_ids = prompt_ids_of(choice)
        if served_ids != tokenizer.encode(text, add_special_tokens=False):
            raise ValueError(
                f"{self.url} tokenizes text differently from the tokenizer beside {self.manifest}"
            )

    async def _completion(
        self, number: int, request: Request, decoding: Decoding
    ) -> tuple[int, Completion]:
        """The number and the completion of one request."""
        name = f"request {number + 1} (seed {request.seed})"
        content = await self.connection.complete(
            name,
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
        with self._named(name):
            return number, completion_of(
                only_choice(content),
                request.prompt_ids,
                decoding.max_new_tokens,
                self.vocabulary.size,
                self.vocabulary.stop_ids,
            )

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Name the server and the request in what is wrong with an answer."""
        try:
            yield
        except ValueError as error:
            raise ValueError(
                f"{self.url}: {name}: {error}; is this vLLM's server? Finished parts are kept"
            ) from error


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
