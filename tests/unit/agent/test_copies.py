"""Copies from pod to pod over HTTP: the giving side's bounds, and how the asking side takes what pods say."""

import asyncio
import hashlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from taskfleet import names
from taskfleet.agent import copies as giving
from taskfleet.agent.board import Board
from taskfleet.agent.copies import Copies
from taskfleet.agent.flights import Flights
from taskfleet.agent.metrics import AgentMetrics
from taskfleet.agent.peers import NAMED_SECONDS, Address, Peers
from taskfleet.agent.tokens import TokenVerifier
from taskfleet.api.agent import FILE_PATH, MANIFEST_PATH, PoolIdentity
from taskfleet.artifacts.copying import Expected, NoCopy
from taskfleet.artifacts.store import Shelf, Store
from tests.engine import issuer
from tests.engine.waiting import until

POOL = PoolIdentity(namespace="finance", name="tiny", uid="pool-uid")
NAME = "weights.safetensors"


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def read(text: bytes) -> Mapping[str, Expected]:
    return {name: Expected(digest, size) for name, (digest, size) in json.loads(text).items()}


@dataclass
class Giver:
    """A pod's giving side, alone on the loopback interface, with one adapter."""

    store: Store
    metrics: AgentMetrics
    copies: Copies
    address: Address
    digest: str
    content: bytes
    session: aiohttp.ClientSession

    def get(self, path: str, *, token: str | None = None, **headers: str) -> "aiohttp.client._RequestContextManager":
        bearer = token or issuer.token(POOL.uid, issuer.PEER)
        url = f"http://{self.address[0]}:{self.address[1]}{path}"
        return self.session.get(url, headers={"Authorization": f"Bearer {bearer}"} | headers)

    def file_path(self, name: str = NAME) -> str:
        return FILE_PATH.format(shelf="adapters", digest=self.digest, file=name)

    async def gives_nothing(self) -> bool:
        return not self.copies.giving

    def figure(self, line: str) -> float:
        text = self.metrics.text().decode()
        return next(float(found.rsplit(" ", 1)[1]) for found in text.splitlines() if found.startswith(line))


@asynccontextmanager
async def giver(folder: Path, *, content: bytes = b"0123456789" * 10, bytes_per_second: float = 1e9) -> AsyncIterator[Giver]:
    store = Store(folder)
    store.prepare()
    manifest = json.dumps({NAME: [sha256(content), len(content)]}).encode()

    def fill(into: Path, _most: int) -> bytes:
        (into / NAME).write_bytes(content)
        return manifest

    await store.ensure(Shelf.ADAPTERS, sha256(manifest), fill, check=lambda _folder: None, most=10**9)
    verifier = TokenVerifier()
    verifier.use_trust(issuer.trust())
    verifier.use_pool(POOL)
    metrics = AgentMetrics(Board("giver", Flights()))
    copies = Copies(verifier=verifier, store=store, metrics=metrics, bytes_per_second=bytes_per_second)
    app = web.Application()
    app.router.add_get(MANIFEST_PATH, copies.manifest)
    app.router.add_get(FILE_PATH, copies.file)
    async with serving(app) as address, aiohttp.ClientSession() as session:
        yield Giver(store, metrics, copies, address, sha256(manifest), content, session)


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[Address]:
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield ("127.0.0.1", runner.addresses[0][1])
    finally:
        await runner.cleanup()


def peers(folder: Path, *addresses: Address, token: str | None = None, clock: Callable[[], float] = time.monotonic) -> Peers:
    token_file = folder / names.PEER_TOKEN_FILE
    token_file.write_text(token or issuer.token(POOL.uid, issuer.PEER))
    metrics = AgentMetrics(Board("asker", Flights()))
    return Peers(token_file=token_file, own_address="10.0.0.1", fixed=addresses, ended=threading.Event(), metrics=metrics, clock=clock)


async def fetch(asker: Peers, digest: str, into: Path) -> bytes:
    def in_thread() -> bytes:
        into.mkdir(exist_ok=True)
        return asker.fetch(Shelf.ADAPTERS, digest, into, read=read, most=10**9, seconds=30.0)

    return await asyncio.to_thread(in_thread)


async def test_copy_goes_from_pod_to_pod(tmp_path: Path) -> None:
    async with giver(tmp_path / "store") as pod:
        manifest = await fetch(peers(tmp_path, pod.address), pod.digest, tmp_path / "into")
        assert manifest == pod.store.manifest(Shelf.ADAPTERS, pod.digest)
        assert (tmp_path / "into" / NAME).read_bytes() == pod.content
        assert pod.figure("taskfleet_agent_copied_bytes_total") == len(pod.content)


async def test_rest_of_a_file_is_given_from_any_byte_on(tmp_path: Path) -> None:
    async with giver(tmp_path) as pod:
        async with pod.get(pod.file_path(), Range="bytes=97-") as answer:
            assert (answer.status, await answer.read()) == (206, pod.content[97:])
            assert answer.headers["Content-Range"] == "bytes 97-99/100"
        for asked in ("bytes=100-", "bytes=0-5", "bytes=-5", "lines=1-", "bytes=x-"):
            async with pod.get(pod.file_path(), Range=asked) as answer:
                assert answer.status == 416, asked


@pytest.mark.parametrize(
    "path",
    [
        "/agent/v1/artifacts/adapters/{digest}/other.json",
        "/agent/v1/artifacts/adapters/{digest}/..%2F..%2Fdesired.json",
        "/agent/v1/artifacts/adapters/{digest}/%2E%2E",
        "/agent/v1/artifacts/adapters/{digest}/%2Fetc%2Fpasswd",
        "/agent/v1/artifacts/base/{digest}/weights.safetensors",
        "/agent/v1/artifacts/manifests/{digest}",
        "/agent/v1/artifacts/..%2Fadapters/{digest}",
        "/agent/v1/artifacts/adapters/current",
        "/agent/v1/artifacts/adapters/sha256:00",
        "/agent/v1/artifacts/base/{digest}",
    ],
)
async def test_nothing_but_complete_artifacts_is_given(tmp_path: Path, path: str) -> None:
    async with giver(tmp_path) as pod:
        (tmp_path / "desired.json").write_text("{}")
        async with pod.get(path.format(digest=pod.digest)) as answer:
            assert answer.status == 404
            assert await answer.read() != b"{}"


async def test_artifact_without_a_manifest_is_not_given(tmp_path: Path) -> None:
    async with giver(tmp_path) as pod:
        (tmp_path / "manifests" / "adapters" / pod.digest.replace(":", "-")).unlink()
        for path in (MANIFEST_PATH.format(shelf="adapters", digest=pod.digest), pod.file_path()):
            async with pod.get(path) as answer:
                assert answer.status == 404, path


async def test_so_many_copies_at_a_time_and_the_next_asks_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "PIECE_BYTES", 10)
    # The second piece of the first copy would have its turn in 1,000 s.
    async with giver(tmp_path / "store", bytes_per_second=0.01) as pod:
        taking = [await pod.get(pod.file_path()) for _ in range(giving.MAX_TRANSFERS)]
        async with pod.get(pod.file_path()) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        with pytest.raises(NoCopy) as refused:
            await fetch(peers(tmp_path, pod.address), pod.digest, tmp_path / "into")
        assert refused.value.perhaps
        assert list((tmp_path / "into").iterdir()) == []
        assert pod.copies.giving
        for answer in taking:
            answer.close()
        await until(pod.gives_nothing, limit=30)


async def test_who_does_not_take_what_it_asked_for_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "PIECE_SECONDS", 0.2)
    async with giver(tmp_path, content=b"x" * 64 * 1024 * 1024) as pod:
        reader, writer = await asyncio.open_connection(*pod.address, limit=1024)
        bearer = issuer.token(POOL.uid, issuer.PEER)
        writer.write(f"GET {pod.file_path()} HTTP/1.1\r\nHost: pod\r\nAuthorization: Bearer {bearer}\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        # Nothing more is read: the buffers fill up.
        await until(pod.gives_nothing, limit=60)
        assert pod.figure("taskfleet_agent_copied_bytes_total") < len(pod.content)
        writer.close()


async def test_pod_that_refuses_the_token_is_no_end(tmp_path: Path) -> None:
    stranger = issuer.token("another-pool", issuer.PEER)
    async with giver(tmp_path / "store") as pod:
        with pytest.raises(NoCopy) as refused:
            await fetch(peers(tmp_path, pod.address, token=stranger), pod.digest, tmp_path / "into")
        assert refused.value.perhaps


async def test_pod_that_does_not_answer_is_left_alone_for_a_while(tmp_path: Path) -> None:
    silent = ("127.0.0.1", 1)
    asker = peers(tmp_path, silent)
    assert asker._addresses() == [silent]
    with pytest.raises(NoCopy) as refused:
        await fetch(asker, sha256(b""), tmp_path / "into")
    assert not refused.value.perhaps, "DNS names pods that are gone, too"
    assert asker._addresses() == []
    assert not await asyncio.to_thread(asker.have, Shelf.ADAPTERS, sha256(b""))


async def test_pod_that_was_silent_is_asked_whether_it_has_a_copy(tmp_path: Path) -> None:
    async with giver(tmp_path / "store") as pod:
        asker = peers(tmp_path, pod.address)
        asker._fell_silent(pod.address)
        assert await asyncio.to_thread(asker.have, Shelf.ADAPTERS, pod.digest)
        assert not await asyncio.to_thread(asker.have, Shelf.BASE, pod.digest)


async def test_copy_that_is_broken_off_is_no_copy_and_leaves_nothing(tmp_path: Path) -> None:
    content = b"0123456789"
    manifest = json.dumps({NAME: [sha256(content), len(content)]}).encode()

    async def give_manifest(_request: web.Request) -> web.Response:
        return web.Response(body=manifest)

    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(content[:4])
        assert request.transport is not None
        request.transport.close()
        return response

    app = web.Application()
    app.router.add_get(MANIFEST_PATH, give_manifest)
    app.router.add_get(FILE_PATH, break_off)
    async with serving(app) as address:
        with pytest.raises(NoCopy) as refused:
            await fetch(peers(tmp_path, address), sha256(manifest), tmp_path / "into")
    assert refused.value.perhaps
    assert list((tmp_path / "into").iterdir()) == []


async def test_broken_off_copy_is_gone_on_with_at_the_next_pod(tmp_path: Path) -> None:
    async with giver(tmp_path / "store") as pod:

        async def give_manifest(_request: web.Request) -> web.Response:
            return web.Response(body=pod.store.manifest(Shelf.ADAPTERS, pod.digest))

        async def break_off(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(pod.content[:60])
            assert request.transport is not None
            request.transport.close()
            return response

        app = web.Application()
        app.router.add_get(MANIFEST_PATH, give_manifest)
        app.router.add_get(FILE_PATH, break_off)
        async with serving(app) as broken:
            asker = peers(tmp_path, broken, pod.address)
            asker._addresses = lambda: [broken, pod.address]  # type: ignore[method-assign]
            await fetch(asker, pod.digest, tmp_path / "into")
        assert (tmp_path / "into" / NAME).read_bytes() == pod.content
        assert pod.figure("taskfleet_agent_copied_bytes_total") == 40


async def test_pod_without_a_token_asks_nobody(tmp_path: Path) -> None:
    async with giver(tmp_path / "store") as pod:
        asker = peers(tmp_path, pod.address)
        (tmp_path / names.PEER_TOKEN_FILE).unlink()
        with pytest.raises(NoCopy) as refused:
            await fetch(asker, pod.digest, tmp_path / "into")
        assert not refused.value.perhaps


def test_pods_are_found_by_the_name_of_the_pools_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int, **_more: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(0, 0, 0, "", (address, port)) for address in ("10.0.0.1", "10.0.0.2", "10.0.0.2", "fd00::3")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    asker = peers(tmp_path)
    assert asker._addresses() == [], "no document yet"
    asker.use_pool(POOL)
    assert sorted(asker._addresses()) == [("10.0.0.2", names.AGENT_PORT), ("fd00::3", names.AGENT_PORT)], "without itself"
    assert asked == ["tiny-peers.finance.svc"]


def test_name_that_leads_nowhere_is_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_arguments: object, **_more: object) -> list[object]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    asker = peers(tmp_path)
    asker.use_pool(POOL)
    assert asker._addresses() == []


@pytest.mark.parametrize(
    ("named", "seconds", "perhaps"),
    [
        ([], 0.0, True),
        ([], NAMED_SECONDS, False),
        (["10.0.0.1"], 0.0, False),
    ],
    ids=["DNS tells of an earlier time", "DNS does not work", "there is no other pod"],
)
async def test_no_copy_is_no_last_word_while_dns_lags_behind_the_pods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: list[str], seconds: float, *, perhaps: bool
) -> None:
    def resolve(_host: str, port: int, **_more: object) -> list[tuple[object, ...]]:
        if not named:
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, port)) for address in named]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    now = 0.0
    asker = peers(tmp_path, clock=lambda: now)
    asker.use_pool(POOL)
    now = seconds
    with pytest.raises(NoCopy) as refused:
        await fetch(asker, sha256(b""), tmp_path / "into")
    assert refused.value.perhaps is perhaps
