"""A real proxy between the operator and the API server that can do what networks and load balancers do: stand still, lose replies, cut connections, be away.

It speaks plain HTTP with the operator and TLS with the API server. A request that carries a token goes on with it; one without goes on as the administrator of the kubeconfig.
What went through is recorded as the API server's authorizer would see it.
"""

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from tests.cluster.api import Access, access_of

T = TypeVar("T")

# Hop by hop, or set anew by either library.
_NOT_PASSED = frozenset({"host", "connection", "transfer-encoding", "content-length", "keep-alive"})
_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/[^/]+(?:/namespaces/(?P<namespace>[^/]+))?/(?P<resource>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>.+))?"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Call:
    """One request in the words of RBAC. `resource` carries the subresource; for other paths it is the path."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""


@dataclass(slots=True)
class ApiProxy:
    """Rules may be set from any thread. `lose_reply`: the API server does what was asked, and nobody hears of it. `lose_request`: it never hears of it."""

    upstream: Access
    loop: asyncio.AbstractEventLoop
    port: int = 0
    calls: list[tuple[Call, int]] = field(default_factory=list)
    away: bool = False
    watches_are_gone: bool = False
    lose_reply: Callable[[Call], bool] | None = None
    lose_request: Callable[[Call], bool] | None = None
    lost: list[Call] = field(default_factory=list)
    _session: aiohttp.ClientSession | None = None
    _runner: web.AppRunner | None = None
    _open: set[asyncio.BaseTransport] = field(default_factory=set)
    _flowing: asyncio.Event = field(default_factory=asyncio.Event)

    def used(self) -> set[tuple[str, str, str]]:
        """(verb, group, resource) of everything that was allowed. Whoever makes an object by a patch needs the right to create, too."""
        found = {(call.verb, call.group, call.resource) for call, status in self.calls if status not in {401, 403}}
        return found | {("create", call.group, call.resource) for call, status in self.calls if (call.verb, status) == ("patch", 201)}

    def freeze_watches(self) -> None:
        """Watches stay open, and new ones can be opened, but nothing comes through them any more."""
        self.loop.call_soon_threadsafe(self._flowing.clear)

    def thaw_watches(self) -> None:
        self.loop.call_soon_threadsafe(self._flowing.set)

    def cut(self) -> None:
        """Cuts every open connection, as a load balancer that restarts does."""
        self.loop.call_soon_threadsafe(self._cut)

    def go_away(self) -> None:
        """No request gets through until `come_back`; what was open is cut."""
        self.away = True
        self.cut()

    def come_back(self) -> None:
        self.away = False

    async def start(self) -> None:
        self._flowing.set()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding",),
        )
        application = web.Application(client_max_size=8 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._pass_on)
        self._runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=0.2, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self._cut()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def _cut(self) -> None:
        for transport in list(self._open):
            _abort(transport)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        call = call_of(request.method, request.path, watch=request.query.get("watch") == "true")
        transport = request.transport
        if self.away or transport is None or (self.lose_request is not None and self.lose_request(call)):
            return _dropped(transport)
        if call.verb == "watch" and self.watches_are_gone:
            return await self._gone(request)
        self._open.add(transport)
        try:
            return await self._forward(request, call)
        except aiohttp.ClientError:
            return _dropped(transport)
        finally:
            self._open.discard(transport)

    async def _forward(self, request: web.Request, call: Call) -> web.StreamResponse:
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED}
        as_another = "Authorization" in request.headers
        tls = self.upstream.others_tls if as_another else self.upstream.tls
        headers |= {} if as_another else self.upstream.headers
        body = await request.read()
        # Escapes of selectors must not be escaped anew.
        url = URL(f"{self.upstream.url}{request.raw_path}", encoded=True)
        async with self._session.request(request.method, url, headers=headers, data=body or None, ssl=tls) as answer:
            self.calls.append((call, answer.status))
            if self.lose_reply is not None and self.lose_reply(call):
                await answer.read()
                self.lost.append(call)
                return _dropped(request.transport)
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _NOT_PASSED}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                if call.verb == "watch":
                    await self._flowing.wait()
                await response.write(chunk)
            if call.verb == "watch":
                # Nobody is told that the server has ended it.
                await self._flowing.wait()
            await response.write_eof()
            return response

    async def _gone(self, request: web.Request) -> web.StreamResponse:
        """As the API server says that a resourceVersion is too old to watch from (measured on 1.37)."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        status = b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 1 (2)","reason":"Expired","code":410}'
        await response.write(b'{"type":"ERROR","object":' + status + b"}\n")
        await response.write_eof()
        return response

    def kubeconfig(self, folder: Path, *, token: str = "") -> Path:
        """For whoever is to come through here, as the administrator or with a token."""
        path = folder / f"kubeconfig-{self.port}.yaml"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "proxy", "user": {"token": token} if token else {}}],
        }
        path.write_text(yaml.safe_dump(content))
        return path


def _abort(transport: asyncio.BaseTransport | None) -> None:
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


def _dropped(transport: asyncio.BaseTransport | None) -> web.StreamResponse:
    """No answer: the connection is reset."""
    _abort(transport)
    return web.Response(status=502)


def call_of(method: str, path: str, *, watch: bool) -> Call:
    """As the API server's RequestInfo has it."""
    found = _PATH.fullmatch(path)
    if found is None or not path.startswith(("/api/", "/apis/")) or found["resource"] == "":
        return Call(method.lower(), "", path)
    namespace, resource, name = found["namespace"] or "", found["resource"], found["name"] or ""
    reading = "watch" if watch else "get" if name else "list"
    verb = reading if method == "GET" else _VERBS[method]
    return Call(verb, found["group"] or "", f"{resource}/{found['sub']}" if found["sub"] else resource, namespace, name)


@contextmanager
def api_proxy(kubeconfig: Path) -> Iterator[ApiProxy]:
    """A proxy to the API server of a kubeconfig, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="API proxy", daemon=True)
    thread.start()
    proxy = ApiProxy(access_of(kubeconfig), loop)
    try:
        _run(loop, proxy.start())
        yield proxy
    finally:
        _run(loop, proxy.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=30)
