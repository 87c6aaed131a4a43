"""The HTTP session that kopf watches with: what it reads is never nested deeper than its parser bears, or one object of anybody's would end the process, again and again."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import kopf

from taskfleet.kube import nesting


@dataclass(frozen=True, eq=False, kw_only=True)
class Session(kopf.AiohttpSession):
    """A session with the credentials of `info`. Kopf gives up where it is offered again what was refused, so they are compared."""

    info: kopf.ConnectionInfo

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Session) and self.info == other.info

    def __hash__(self) -> int:
        return hash(self.info.server)


def session(info: kopf.ConnectionInfo) -> Session:
    """As kopf would make it. Must be called within the event loop; kopf closes it."""
    connections = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
        headers=info.as_http_headers(),
        proxy=info.proxy_url,
        trust_env=info.trust_env,
        response_class=_Response,
    )
    return Session(
        server=info.server,
        default_namespace=info.default_namespace,
        priority=info.priority,
        expiration=info.expiration,
        aiohttp_session=connections,
        info=info,
    )


class _Response(aiohttp.ClientResponse):
    """Kopf takes lists by `json`, and watches by `content.iter_chunked`."""

    async def start(self, connection: Any) -> "_Response":
        await super().start(connection)
        self.content = cast("aiohttp.StreamReader", _Content(self.content))
        return self

    async def json(self, **_: Any) -> Any:
        return nesting.loads(await self.read())


class _Content:
    """The content of a response, in whole lines where it is read in chunks."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in self._content.iter_chunked(n):
            *complete, rest = (rest + chunk).split(b"\n")
            for line in complete:
                yield nesting.cut(line) + b"\n"
        if rest:
            yield nesting.cut(rest)
