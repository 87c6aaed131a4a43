"""Pods as the gateway meets them: real HTTP servers that speak the agent's contract, and do what a test tells them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from multidict import CIMultiDictProxy

from taskfleet.api.agent import READY_PATH

Answer = Callable[["Pod", web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Received:
    """One request that arrived."""

    path: str
    headers: CIMultiDictProxy[str]
    body: dict[str, Any]


async def completion(pod: "Pod", request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """What a well engine does."""
    if body.get("stream"):
        return await events(pod, request, body)
    content = {"pod": pod.name, "body": body}
    message = {"role": "assistant", "content": json.dumps(content)}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return web.json_response(
        {"id": identity(request), "model": body["model"], "choices": [{"index": 0, "message": message}], "usage": usage}
    )


async def events(pod: "Pod", request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """A stream of three words and its usage. Waits for `pod.gate` before each word."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    for word in ("one", "two", "three"):
        await pod.gate.wait()
        await response.write(_event(request, body, choices=[{"index": 0, "delta": {"content": word}}]))
        pod.written.append(word)
    if (body.get("stream_options") or {}).get("include_usage"):
        await response.write(_event(request, body, choices=[], usage={"prompt_tokens": 7, "completion_tokens": 3}))
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def identity(request: web.Request) -> str:
    """An answer's id, as engines make it."""
    return f"chatcmpl-{request.headers['x-request-id']}"


def _event(request: web.Request, body: dict[str, Any], **fields: Any) -> bytes:
    return b"data: " + json.dumps({"id": identity(request), "model": body["model"], **fields}, separators=(",", ":")).encode() + b"\n\n"


def refusing(status: int, code: str = "not-here") -> Answer:
    """Answers every request with an error of the agent's."""

    async def refuse(_pod: Pod, _request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no", "type": "server_error", "param": None, "code": code}}, status=status)

    return refuse


async def break_off(_pod: "Pod", request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    """The connection ends before any answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def hang(pod: "Pod", _request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    """Never answers; notes when it is cancelled."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        pod.cancelled.set()
        raise
    raise AssertionError


@dataclass
class Pod:
    """One pod. `models`: what it has proven; anything else is 421."""

    name: str
    pool_uid: str = "uid-tiny-pool"
    models: set[str] = field(default_factory=set)
    answer: Answer = completion
    host: str = "127.0.0.1"
    any_token: bool = False  # a test looks at the tokens itself
    ready: asyncio.Event | None = None  # its probe waits for it, as an agent's does while it starts; None: it says no at once
    probes: int = 0
    received: list[Received] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = ""

    async def __aenter__(self) -> Self:
        self.gate.set()
        app = web.Application()
        app.router.add_post("/v1/{route:.*}", self._handle)
        app.router.add_get(READY_PATH, self._probe)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        await self._runner.cleanup()

    async def _probe(self, _request: web.Request) -> web.Response:
        self.probes += 1
        if self.ready is None:
            return web.Response(status=503, text="the engine is not healthy")
        await self.ready.wait()
        return web.Response(text="ok")

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.received.append(Received(request.path, request.headers, body))
        if not self.any_token and request.headers.get("Authorization") != f"Bearer token-for-{self.pool_uid}":
            return await refusing(401, "unauthorized")(self, request, body)
        if body["model"] not in self.models:
            return await refusing(421)(self, request, body)
        return await self.answer(self, request, body)
