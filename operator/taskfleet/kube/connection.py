"""HTTP to the API server: credentials, rate limit, figures and classified errors. What is asked stands in `client`."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from taskfleet.kube import metrics, nesting
from taskfleet.kube.errors import KubeError, UnavailableError, from_response
from taskfleet.kube.rate_limit import RateLimit

REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 5.0
# Who waits here for the turn of a thousand other calls loses the lease, and begins all of them again.
_NOT_LIMITED = frozenset({"leases"})


class Connection:
    """One pooled session with the API server."""

    def __init__(self, api: ApiClient, limit: RateLimit, *, namespace: str = "") -> None:
        self._api = api
        self._limit = limit
        self.namespace = namespace  # of the kubeconfig's context; empty where it names none

    @classmethod
    async def open(cls, *, user_agent: str, qps: float, burst: int) -> "Connection":
        """In a pod with its ServiceAccount; elsewhere with KUBECONFIG. Raises KubeError where there is neither."""
        configuration = Configuration()
        try:
            load_incluster_config(client_configuration=configuration)
        except ConfigException:
            try:
                await _load(configuration, path=None, context=None)
            except (ConfigException, OSError) as error:
                raise KubeError(f"there is neither a pod's ServiceAccount nor a usable KUBECONFIG: {error}") from error
        return cls(_client(configuration, user_agent), RateLimit(qps=qps, burst=burst))

    @classmethod
    async def of_kubeconfig(cls, *, user_agent: str, path: str | None, context: str | None, qps: float, burst: int) -> "Connection":
        """As kubectl connects: `path`, else KUBECONFIG (several files with a colon between), else ~/.kube/config. Raises KubeError."""
        configuration = Configuration()
        try:
            loader = await _load(configuration, path=_kubeconfig(path), context=context)
        # The client lets some of what a damaged file holds through as the parser's or Python's own errors.
        except (ConfigException, OSError, yaml.YAMLError, TypeError, KeyError, ValueError) as error:
            raise KubeError(f"no usable kubeconfig: {error}") from error
        namespace = loader.current_context["context"].get("namespace") or ""
        return cls(_client(configuration, user_agent), RateLimit(qps=qps, burst=burst), namespace=namespace)

    async def close(self) -> None:
        await self._api.close()

    async def request(
        self,
        verb: str,
        resource: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        """The answer's JSON. `verb` and `resource` are for the figures. Raises KubeError."""
        waited = 0.0 if resource in _NOT_LIMITED else self._limit.reserve()
        metrics.THROTTLED.observe(waited)
        if waited:
            await asyncio.sleep(waited)
        began = time.monotonic()
        limits = aiohttp.ClientTimeout(total=REQUEST_SECONDS, connect=CONNECT_SECONDS)
        async with self._answer(
            verb, resource, method, path, query=query, body=body, content_type=content_type, accept=accept, limits=limits
        ) as response:
            content: dict[str, Any] = nesting.loads(await response.read())
        metrics.SECONDS.labels(verb).observe(time.monotonic() - began)
        return content

    async def lines(self, resource: str, path: str, *, query: Mapping[str, str], silence_seconds: float) -> AsyncIterator[bytes]:
        """The lines of a watch as they come, until the server ends it. Raises KubeError, also where nothing came for `silence_seconds`."""
        limits = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=silence_seconds)
        async with self._answer("watch", resource, "GET", path, query=query, limits=limits) as response:
            rest = b""
            # Not readline(): one object may be larger than any buffer.
            async for chunk in response.content.iter_any():
                *complete, rest = (rest + chunk).split(b"\n")
                for line in complete:
                    if line:
                        yield line

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        verb: str,
        resource: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        limits: aiohttp.ClientTimeout,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        code = 0
        try:
            response = (
                await self._send(method, path, query=query, body=body, content_type=content_type, accept=accept, limits=limits)
            ).response
            code = response.status
            async with response:
                if code >= 400:
                    raise from_response(code, await response.read(), retry_after=response.headers.get("Retry-After"))
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException, orjson.JSONDecodeError) as error:
            raise UnavailableError(f"{method} {path}: {type(error).__name__}: {error}", status=code) from error
        finally:
            metrics.REQUESTS.labels(verb, resource, str(code)).inc()

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        body: Any,
        content_type: str,
        accept: str,
        limits: aiohttp.ClientTimeout,
    ) -> Any:
        headers = {"User-Agent": self._api.user_agent, "Accept": accept, "Content-Type": content_type}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        _, url, _, _, _ = await self._api.param_serialize(method, path, query_params=list((query or {}).items()))
        return await self._api.rest_client.request(method, url, headers=headers, body=body, _request_timeout=limits)


def _kubeconfig(path: str | None) -> str:
    """Raises KubeError where there is no such file; the client would print that, and go on."""
    files = path or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube/config")
    if not any(Path(file).is_file() for file in files.split(os.pathsep)):
        raise KubeError(f"no usable kubeconfig: there is no file {files}")
    return files


async def _load(configuration: Configuration, *, path: str | None, context: str | None) -> Any:
    # The client reads the variable when it is imported, which is too early for whoever sets it later.
    return await load_kube_config(config_file=path or os.environ.get("KUBECONFIG"), context=context, client_configuration=configuration)


def _client(configuration: Configuration, user_agent: str) -> ApiClient:
    # The machine's proxy settings are for the world outside; an API server behind a proxy has it in its kubeconfig (`proxy-url`).
    configuration.client_session_kwargs = {"trust_env": False}
    api = ApiClient(configuration)
    api.user_agent = user_agent
    return api
