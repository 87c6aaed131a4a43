"""What tests of gateway, agent and engine together share: versions in a registry, pods that hold them, routes to them, and constant load."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskfleet.api.agent import AdapterPhase, DesiredAdapter
from taskfleet.api.taskmodel import Adapter
from taskfleet.gateway.records import Endpoint, SliceRecord
from taskfleet.names import engine_name
from tests.engine import issuer
from tests.engine.adapter_files import write_adapter
from tests.engine.agent_pod import NAMESPACE, UID, Pod, running_pod
from tests.engine.running import TINY_MODEL
from tests.engine.waiting import until
from tests.unit.artifacts.registry_process import RegistryProcess
from tests.unit.gateway import builders
from tests.unit.gateway.world import World

OTHER_UID = "0b7c3c5e-0000-4000-8000-000000000002"


class PoolTokens:
    """Tokens as the API server would mint them for the gateway: one pool's each."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    async def get(self, audience: str) -> str:
        return self._kept.setdefault(audience, issuer.token(audience))

    async def another(self, _audience: str, _refused: Collection[str]) -> str | None:
        return None


@dataclass(frozen=True)
class Version:
    """An adapter in the registry: what agents are to hold, and how its bytes show in the simulator's answers."""

    desired: DesiredAdapter
    mark: str


@dataclass
class Load:
    """Constant requests for a task, and what came of them."""

    world: World
    model: str
    answers: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def client(self, over: asyncio.Event) -> None:
        while not over.is_set():
            status, text = await ask(self.world, self.model)
            (self.answers if status == 200 else self.failures).append(text)

    @asynccontextmanager
    async def running(self, clients: int = 4) -> AsyncIterator[None]:
        over = asyncio.Event()
        tasks = [asyncio.create_task(self.client(over)) for _ in range(clients)]
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(*tasks)

    async def goes_on(self, *, more: int = 40) -> None:
        """Waits for further answers."""
        enough = len(self.answers) + more

        async def reached() -> bool:
            return len(self.answers) >= enough or bool(self.failures)

        await until(reached, limit=60)


async def ask(world: World, model: str, **fields: Any) -> tuple[int, str]:
    """The status, and the answer's text or the error."""
    async with world.post({"model": model, "prompt": "from Wonka Ltd", "max_tokens": 32, **fields}, path="/v1/completions") as response:
        body = await response.json()
        return response.status, str(body["choices"][0]["text"]) if response.status == 200 else json.dumps(body)


def version(pod: Pod, folder: Path, task: str, name: str, *, seed: int, namespace: str = NAMESPACE) -> Version:
    """Makes an adapter of random weights and pushes it."""
    files = write_adapter(folder / f"{namespace}-{task}-{name}", seed=seed)
    mark = hashlib.sha256((files / "adapter_model.safetensors").read_bytes()).hexdigest()[:12]
    desired = pod.adapter(files, task, name)
    assert desired.adapter.digest is not None
    adapter = Adapter(source=desired.adapter.source, version=name, digest=desired.adapter.digest)
    renamed = DesiredAdapter(engine_name=engine_name(namespace, task, desired.adapter.digest), revision=desired.revision, adapter=adapter)
    return Version(renamed, mark)


def route(world: World, task: str, to: Version, *, namespace: str = NAMESPACE, pool: str = "tiny", uid: str = "") -> None:
    """The task exists, and all its traffic goes to a version."""
    uid = uid or f"uid-{namespace}-{task}"
    revision = to.desired.revision
    world.table.put_revision(
        builders.revision(revision, of=task, namespace=namespace, owner=uid, digest=to.desired.adapter.digest, phase="Stable")
    )
    world.table.put_task(builders.task(task, namespace=namespace, uid=uid, to=[builders.traffic(revision, pool=pool)]))


def place(world: World, *pods: Pod, namespace: str = NAMESPACE, pool: str = "tiny", uid: str = UID) -> None:
    """These pods are Ready."""
    world.table.put_pool(builders.pool(pool, namespace=namespace, uid=uid))
    endpoints = tuple(Endpoint(f"127.0.0.1:{pod.port}", uid) for pod in pods)
    world.table.put_slice(SliceRecord(namespace=namespace, name=f"{pool}-x", pool=pool, pool_uid=uid, endpoints=endpoints))


@asynccontextmanager
async def two_pods(folder: Path, registry: RegistryProcess) -> AsyncIterator[tuple[Pod, Pod]]:
    """Two pods of one pool."""
    async with AsyncExitStack() as stack:
        started = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            started.append(await stack.enter_async_context(running_pod(folder / name, registry, TINY_MODEL / "base")))
        yield started[0], started[1]


async def hold_everywhere(pods: tuple[Pod, ...], *versions: Version) -> None:
    """All pods have proven these versions."""
    for pod in pods:
        await pod.want(*(version.desired for version in versions))
    for pod in pods:
        await pod.reach({version.desired.revision: AdapterPhase.PROVEN for version in versions})
