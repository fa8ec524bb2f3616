"""The connection of engine: server, whose waits are bounded and whose failed tries are logged.

The client of openai tries again; httpx2, which comes with it, sends.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, OpenAIError

from mpd.engines.server_answers import excerpt

log = logging.getLogger("mpd")

MAX_RETRIES = 8  # after 0.5 s, 1 s, 2 s, 4 s, then every 8 s
MAX_WAITS = 3  # all tries of a request and their pauses take this many times the wait for one try
CONNECT_SECONDS = 10.0
MODELS_SECONDS = 30.0  # for the list of models, which a server has at hand


@dataclass
class Tries:
    """The tries of one request: its name in messages, their number, and why the last failed."""

    name: str
    count: int = 0
    fault: str = "no answer"


TRIES: ContextVar[Tries] = ContextVar("tries")  # of the request of an asyncio task


class LoggingClient(httpx2.AsyncClient):
    """An HTTP client that bounds each try as a whole, and logs those that fail.

    The read timeout of httpx2 is between two bytes; here it bounds the whole answer.
    """

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send one try of a request. Raises httpx2.RequestError where no answer came in time."""
        tries, bounds = TRIES.get(), request.extensions["timeout"]
        tries.count += 1
        try:
            try:
                async with asyncio.timeout(bounds["read"]):
                    response = await super().send(request, **options)
            except TimeoutError as error:
                raise httpx2.ReadTimeout("", request=request) from error
        except httpx2.RequestError as error:
            if isinstance(error, httpx2.ConnectTimeout):
                tries.fault = f"no connection within {bounds['connect']:g} s"
            elif isinstance(error, httpx2.TimeoutException):
                tries.fault = f"no answer within {bounds['read']:g} s"
            else:
                tries.fault = f"{type(error).__name__}: {error}".rstrip(": ")
            self._log(tries)
            raise
        if response.is_error:
            tries.fault = f"HTTP {response.status_code}"
            self._log(tries)
        return response

    def _log(self, tries: Tries) -> None:
        """Log a line about a try that failed."""
        url = str(self.base_url).rstrip("/")
        log.warning("%s: %s, try %d: %s", url, tries.name, tries.count, tries.fault)


class Connection:
    """Requests to one server; the answers are the bytes that it sent.

    `seconds` bound the wait for one completion; `stage` is named in messages.

    Raises ValueError where the server refuses a request, or gives no answer in time.
    """

    def __init__(self, url: str, key: str, concurrency: int, seconds: float, stage: str) -> None:
        self.url, self.seconds, self.stage = url, seconds, stage
        try:
            http_client = LoggingClient(
                base_url=url,
                limits=httpx2.Limits(max_connections=concurrency),
                follow_redirects=True,
            )
            self.client = AsyncOpenAI(
                base_url=url, api_key=key, max_retries=MAX_RETRIES, http_client=http_client
            )
        except httpx2.InvalidURL as error:
            raise ValueError(f"resources.{stage}.server: {url} is no URL ({error})") from error

    async def models(self) -> bytes:
        """The list of models that the server has."""
        seconds = min(MODELS_SECONDS, self.seconds)
        return await self._ask(
            "the list of models", seconds, self.client.models.with_raw_response.list
        )

    async def complete(self, name: str, **arguments: Any) -> bytes:
        """The answer to a request for a completion; `name` is that of the request in messages."""
        create = self.client.completions.with_raw_response.create
        return await self._ask(name, self.seconds, create, **arguments)

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()

    async def _ask(
        self, name: str, seconds: float, call: Callable[..., Awaitable[Any]], **arguments: Any
    ) -> bytes:
        """The content of an answer; each try may take some seconds."""
        tries = Tries(name)
        TRIES.set(tries)
        bounds = httpx2.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))
        try:
            async with asyncio.timeout(MAX_WAITS * seconds):
                answer = await call(**arguments, timeout=bounds)
            return answer.content
        except APIStatusError as error:
            raise ValueError(
                f"{self.url}: {name}: expected an answer, found HTTP {error.status_code}: "
                f"{excerpt(error.body)}"
            ) from error
        except (TimeoutError, APIConnectionError) as error:
            raise ValueError(
                f"{self.url}: {name}: no answer in {tries.count} tries (the last: {tries.fault}); "
                f"is the server up (resources.{self.stage}.server), and is its time enough "
                f"(resources.{self.stage}.server_timeout: {self.seconds:g} s)? "
                "Finished parts are kept"
            ) from error
        except OpenAIError as error:
            raise ValueError(f"{self.url}: {name}: {error}") from error
