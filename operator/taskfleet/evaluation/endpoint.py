"""Asks models at an OpenAI-compatible endpoint: the gateway, or any other where it runs on a laptop.

Who calls chose the address, so it may be anywhere; redirects are not followed, because the token would go along. An endpoint that is busy or rolls is asked again, as it
wishes, a bounded number of times.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from taskfleet import __version__
from taskfleet.evaluation.golden import Example

ATTEMPTS = 8
GONE_ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.5  # doubled with each attempt
MAX_PAUSE_SECONDS = 30.0
REQUEST_SECONDS = 300.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024

_BUSY = frozenset({408, 425, 429, 502, 503, 504})
_NOT_OURS = frozenset({401, 403})
# A gateway that has not heard of a new revision yet answers 404; one whose revision was taken back, 421.
_GONE = frozenset({404, 421})


class EndpointError(Exception):
    """The endpoint can't be asked at all: no other example will fare better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back. `text` is None without an answer; `error` says why, and `refused` whether it was the model that would not have the request, rather than nobody who answered.

    `latency_ms` is from the request to the whole answer, without earlier attempts.
    """

    text: str | None = None
    error: str = ""
    refused: bool = False
    latency_ms: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Again:
    """An attempt that may fare better in a while: in `after` seconds, if the endpoint says so."""

    error: str
    after: float | None = None
    gone: bool = False


class Endpoint:
    """`url` goes up to and with /v1. `token` is asked before each request: it may be renewed meanwhile. `parameters` go into every body."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        token: Callable[[], str | None],
        parameters: Mapping[str, Any] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._token = token
        self._parameters = dict(parameters or {})
        self._sleep = sleep

    async def ask(self, model: str, example: Example) -> Reply:
        """Raises EndpointError where the caller may not ask, or the model is not there, whatever the example."""
        body = orjson.dumps({"model": model, **self._parameters, **example.question})
        last = _Again(error="was not asked")
        for attempt in range(ATTEMPTS):
            if attempt:
                await self._sleep(min(last.after or FIRST_PAUSE_SECONDS * 2.0 ** (attempt - 1), MAX_PAUSE_SECONDS))
            found = await self._attempt(model, example.path, body)
            if isinstance(found, Reply):
                return found
            if found.gone and attempt >= GONE_ATTEMPTS - 1:
                raise EndpointError(f"{model}: {found.error}")
            last = found
        return Reply(error=last.error)

    async def _attempt(self, model: str, path: str, body: bytes) -> Reply | _Again:
        began = time.monotonic()
        try:
            async with self._session.post(
                self._url + path,
                data=body,
                headers=self._headers(),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            ) as response:
                text = await _bounded(response)
                return _read(model, response.status, response.headers, text, latency_ms=round((time.monotonic() - began) * 1000))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return _Again(error=f"no answer: {type(error).__name__} {error}".strip()[:300])

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": f"taskfleet-evaluator/{__version__}"}
        token = self._token()
        return headers | {"Authorization": f"Bearer {token}"} if token else headers


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    text = b""
    async for piece in response.content.iter_any():
        text += piece
        if len(text) > MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
    return text


def _read(model: str, status: int, headers: Mapping[str, str], text: bytes, *, latency_ms: int) -> Reply | _Again:
    if status == 200:
        return _answer(text, latency_ms)
    said = f"HTTP {status}: {_message(text)}"
    if status in _NOT_OURS:
        raise EndpointError(f"{model} may not be called with this token: {said}")
    if status in _BUSY or status in _GONE or status >= 500:
        return _Again(error=said, after=_seconds(headers.get("Retry-After", "")), gone=status in _GONE)
    if 400 <= status < 500:
        return Reply(error=said, refused=True, latency_ms=latency_ms)
    raise EndpointError(f"the endpoint answers {said}, which is no API's answer")


def _answer(text: bytes, latency_ms: int) -> Reply | _Again:
    try:
        content = orjson.loads(text)
        choice = content["choices"][0]
        said = choice["message"]["content"] if "message" in choice else choice["text"]
        usage = content.get("usage") or {}
        return Reply(
            text=said if isinstance(said, str) else "",
            latency_ms=latency_ms,
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
        )
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError, AttributeError):
        return _Again(error="the endpoint's answer is none of OpenAI's API")


def _message(text: bytes) -> str:
    """OpenAI's error message, or the text as it is."""
    try:
        return str(orjson.loads(text)["error"]["message"])[:300]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return text.decode(errors="replace")[:300]


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
